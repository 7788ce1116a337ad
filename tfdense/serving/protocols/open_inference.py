"""The open inference protocol, version 2: tensors as JSON or as bytes behind the JSON."""

import base64
import struct

import numpy as np
import orjson

from tfdense.errors import shown
from tfdense.serving.protocols.rest import read_json, signature_of
from tfdense.serving.protocols.tensors import as_type, from_base64
from tfdense.serving.refusal import wrong

HEADER_LENGTH = "Inference-Header-Content-Length"
_TYPES = {
    "BOOL": np.dtype(bool),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


def datatype(dtype: np.dtype) -> str:
    """Returns what the protocol calls a type."""
    return _NAMES[np.dtype(dtype)]


def read_request(body: bytes, header_length: str | None, signatures) -> tuple:
    """Reads the body of ``infer``.

    The parameter "signature_name" of the request chooses the signature. Bytes in JSON are strings,
    of base64 if the input has the parameter ``"content_type": "base64"``.

    Args:
        body: JSON, behind which the bytes of the tensors may stand.
        header_length: of the JSON, the header `HEADER_LENGTH`; None if there is nothing behind it.
        signatures: by name, see `tfdense.saved_models.Signature`.

    Returns:
        The signature's name, its inputs, the names of the outputs that are wanted (empty: all),
        those of them wanted as bytes, and the request's own id, or None.

    Raises:
        Refusal: if it is no such request.
    """
    content, binary = _split(body, header_length)
    parameters = _object(content.get("parameters", {}), "parameters")
    signature = signature_of(parameters.get("signature_name"), signatures)
    tensors = content.get("inputs")
    if not isinstance(tensors, list):
        raise wrong('Expected "inputs" as a list of tensors.')
    inputs = {}
    for tensor in tensors:
        name, values, used = _read_tensor(_object(tensor, "input"), binary)
        if name in inputs:
            raise wrong(f"Expected each input once. Received: {name} twice")
        inputs[name] = values
        binary = binary[used:]
    if len(binary):
        raise wrong(f"Expected no bytes behind the tensors. Received: {len(binary)}")
    wanted = content.get("outputs", [])
    if not isinstance(wanted, list):
        raise wrong('Expected "outputs" as a list.')
    names, as_bytes = [], set()
    known = signatures[signature].outputs
    everything = bool(parameters.get("binary_data_output", False))
    for output in wanted:
        name = _object(output, "output").get("name")
        if not isinstance(name, str) or name not in known:
            raise wrong(f"Expected outputs of {', '.join(known)}. Received: {name!r}")
        names.append(name)
        if _object(output.get("parameters", {}), name).get("binary_data", everything):
            as_bytes.add(name)
    if not names and everything:
        as_bytes = {*known}
    identity = content.get("id")
    return signature, inputs, names, as_bytes, identity if isinstance(identity, str) else None


def write_response(
    name: str, version: str, identity: str | None, outputs: dict[str, np.ndarray], as_bytes: set
) -> tuple[list[bytes], int | None]:
    """Returns an answer as pieces, and the length of its JSON if bytes follow that."""
    content = {"model_name": name, "model_version": version}
    if identity is not None:
        content["id"] = identity
    return _write(content, outputs, as_bytes)


def write_request(
    signature: str, inputs: dict[str, np.ndarray], wanted: tuple[str, ...], binary: bool = True
) -> tuple[list[bytes], int | None]:
    """Returns a request as pieces, and the length of its JSON if bytes follow that.

    Args:
        signature: its name.
        inputs: by name.
        wanted: the outputs; none means all.
        binary: whether tensors travel as bytes, in both directions.
    """
    content = {"parameters": {"signature_name": signature, "binary_data_output": binary}}
    if wanted:
        content["outputs"] = [{"name": name} for name in wanted]
    return _write(content, inputs, {*inputs} if binary else set(), "inputs")


def read_response(body: bytes, header_length: str | None) -> dict[str, np.ndarray]:
    """Reads an answer.

    Raises:
        Refusal: if it is none.
    """
    content, binary = _split(body, header_length)
    outputs = {}
    tensors = content.get("outputs")
    if not isinstance(tensors, list) or not tensors:
        raise wrong('Expected "outputs" as a list of tensors.')
    for tensor in tensors:
        name, values, used = _read_tensor(tensor, binary)
        outputs[name] = values
        binary = binary[used:]
    return outputs


def _split(body: bytes, header_length: str | None) -> tuple[dict, memoryview]:
    length = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdecimal()) or len(header_length) > 18:
            raise wrong(f"Expected {HEADER_LENGTH} as a number. Received: {header_length[:40]!r}")
        length = int(header_length)
        if length > len(body):
            raise wrong(f"{HEADER_LENGTH} is {length}, but the body has {len(body)} bytes.")
    return read_json(body[:length]), memoryview(body)[length:]


def _read_tensor(tensor: dict, binary: memoryview) -> tuple[str, np.ndarray, int]:
    name, shape, kind = (tensor.get(key) for key in ("name", "shape", "datatype"))
    if not isinstance(name, str) or len(name) > 80:
        raise wrong(f"Expected each tensor with a name. Received: {shown(name)}")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise wrong(
            f"Expected the datatype of {name} of {', '.join(_TYPES)}. Received: {shown(kind)}"
        )
    if not isinstance(shape, list) or len(shape) > 8:
        raise wrong(f"Expected the shape of {name} as a list of numbers. Received: {shown(shape)}")
    if not all(type(side) is int and 0 <= side < 2**31 for side in shape):
        raise wrong(
            f"Expected the shape of {name} as a list of numbers from 0. Received: {shown(shape)}"
        )
    parameters = _object(tensor.get("parameters", {}), name)
    size = parameters.get("binary_data_size")
    count = 1
    for side in shape:
        count *= side
    if size is None:
        values = _from_data(tensor.get("data"), kind, name, parameters.get("content_type"))
        size = 0
    else:
        if type(size) is not int or size < 0:
            raise wrong(
                f"Expected binary_data_size of {name} as a whole number from 0. "
                f"Received: {shown(size)}"
            )
        if size > len(binary):
            raise wrong(f"{name} should have {size} bytes, but {len(binary)} follow.")
        if "data" in tensor:
            raise wrong(f'Expected {name} with "data" or binary_data_size. Received: both')
        values = _from_bytes(binary[:size], kind, name, count)
    if values.size != count:
        raise wrong(f"{name} has the shape {shape}, but {values.size} values.")
    return name, values.reshape(shape), size


def _from_data(data, kind: str, name: str, content_type) -> np.ndarray:
    if not isinstance(data, list):
        received = "neither" if data is None else shown(data)
        raise wrong(
            f'Expected {name} with "data" or binary_data_size, "data" as a list. '
            f"Received: {received}"
        )
    if kind == "BYTES":
        data = _flat(data)
        if not all(isinstance(text, str) for text in data):
            raise wrong(f"Expected {name} as strings.")
        as_bytes = (
            (lambda text: from_base64(text, name)) if content_type == "base64" else str.encode
        )
        return _objects([as_bytes(text) for text in data])
    try:
        array = np.array(data)
    except ValueError:
        raise wrong(f"Expected {name} as lists of equal lengths.") from None
    if array.size and array.dtype.kind not in "buif":
        raise wrong(f"Expected {name} as numbers.")
    return as_type(array, _TYPES[kind], name).ravel()


def _flat(data: list) -> list:
    while data and isinstance(data[0], list):
        if not all(isinstance(part, list) for part in data):
            raise wrong("Expected lists of equal depths.")
        data = [each for part in data for each in part]
    return data


def _from_bytes(binary: memoryview, kind: str, name: str, count: int) -> np.ndarray:
    if kind != "BYTES":
        dtype = _TYPES[kind]
        if len(binary) != count * dtype.itemsize:
            raise wrong(f"{name} should have {count * dtype.itemsize} bytes, not {len(binary)}.")
        return np.frombuffer(binary, dtype)
    found, place = [], 0
    while place < len(binary):
        if place + 4 > len(binary):
            raise wrong(f"{name} ends within a length.")
        (length,) = struct.unpack_from("<I", binary, place)
        place += 4
        if place + length > len(binary):
            raise wrong(f"{name} ends within an element of {length} bytes.")
        found.append(bytes(binary[place : place + length]))
        place += length
    return _objects(found)


def _write(content: dict, tensors: dict, as_bytes: set, key: str = "outputs") -> tuple:
    """Adds tensors to a message; returns its pieces and the length of its JSON if bytes follow."""
    pieces, described = [], []
    for name, values in tensors.items():
        kind = datatype(values.dtype)
        tensor = {"name": name, "shape": list(values.shape), "datatype": kind}
        if name in as_bytes:
            piece = _to_bytes(values)
            tensor["parameters"] = {"binary_data_size": len(piece)}
            pieces.append(piece)
        elif kind == "BYTES":
            tensor["parameters"] = {"content_type": "base64"}
            tensor["data"] = [base64.b64encode(each).decode() for each in values.ravel()]
        else:
            tensor["data"] = np.ascontiguousarray(values).ravel()
        described.append(tensor)
    content = {**content, key: described}
    header = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return [header, *pieces], len(header) if pieces else None


def _to_bytes(values: np.ndarray) -> bytes:
    if values.dtype.kind != "O":
        return np.ascontiguousarray(values).tobytes()
    return b"".join(struct.pack("<I", len(each)) + each for each in values.ravel())


def _objects(values: list[bytes]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _object(value, what: str) -> dict:
    if not isinstance(value, dict):
        raise wrong(f"Expected {what} as an object.")
    return value
