"""The JSON of TensorFlow Serving: rows ("instances") or columns ("inputs") of tensors."""

import base64

import numpy as np
import orjson

from tfdense.errors import shown
from tfdense.serving.protocols.tensors import from_json
from tfdense.serving.refusal import Refusal, wrong

DEFAULT_SIGNATURE = "serving_default"
_KEYS = {"signature_name", "instances", "inputs"}


def read_request(body: bytes, signatures) -> tuple[str, dict[str, np.ndarray], bool]:
    """Reads the body of ``:predict``.

    Args:
        body: JSON, see TensorFlow Serving's "RESTful API".
        signatures: by name, see `tfdense.saved_models.Signature`.

    Returns:
        The signature's name, its inputs, and whether they came in rows.

    Raises:
        Refusal: if it is no such request.
    """
    content = read_json(body)
    for key in content:
        if key not in _KEYS:
            raise wrong(f"Expected the keys {', '.join(sorted(_KEYS))}. Received: {key[:80]!r}")
    signature = signature_of(content.get("signature_name"), signatures)
    specs = signatures[signature].inputs
    if ("instances" in content) == ("inputs" in content):
        raise wrong('Expected either "instances" or "inputs".')
    if "inputs" in content:
        columns = content["inputs"]
        if not isinstance(columns, dict):
            raise wrong(f'Expected "inputs" by name: {", ".join(specs)}.')
        return signature, _tensors(columns, specs), False
    rows = content["instances"]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise wrong(f'Expected "instances" as a list of objects with {", ".join(specs)}.')
    if any(row.keys() != rows[0].keys() for row in rows):
        raise wrong("Expected the same inputs in each of the instances.")
    return signature, _tensors({name: [row[name] for row in rows] for name in rows[0]}, specs), True


def write_response(outputs: dict[str, np.ndarray], rows: bool) -> bytes:
    """Returns the answer, in rows or columns as the request was."""
    outputs = {name: np.ascontiguousarray(values) for name, values in outputs.items()}
    if not rows:
        return orjson.dumps({"outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    count = len(next(iter(outputs.values())))
    predictions = [{name: values[i] for name, values in outputs.items()} for i in range(count)]
    return orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


def write_request(signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    """Returns the body of ``:predict``, in columns."""
    columns = {name: _to_json(values) for name, values in inputs.items()}
    content = {"signature_name": signature, "inputs": columns}
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def read_response(body: bytes) -> dict[str, np.ndarray]:
    """Reads an answer in columns.

    Raises:
        ValueError: if it is none.
    """
    outputs = orjson.loads(body).get("outputs")
    if not isinstance(outputs, dict):
        raise ValueError("no outputs by name")
    return {
        name: np.array(values, np.int32 if name == "target_size" else np.float32)
        for name, values in outputs.items()
    }


def read_json(body: bytes) -> dict:
    """Reads an object of JSON.

    Raises:
        Refusal: if it is none.
    """
    try:
        content = orjson.loads(body)
    except ValueError as error:
        raise wrong(f"The body is no JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise wrong("Expected an object of JSON.")
    return content


def signature_of(name, signatures) -> str:
    """Returns the name of a signature that there is; none, or an empty one, means the default.

    Raises:
        Refusal: if there is none by that name.
    """
    if name is None or name == "":
        name = DEFAULT_SIGNATURE
    if not isinstance(name, str) or name not in signatures:
        raise Refusal(
            404, f"Expected a signature of {', '.join(signatures)}. Received: {shown(name)}"
        )
    return name


def _tensors(columns: dict, specs) -> dict[str, np.ndarray]:
    found = {}
    for name, value in columns.items():
        if name not in specs:
            raise wrong(f"Expected the inputs {', '.join(specs)}. Received: {name[:80]!r}")
        found[name] = from_json(value, specs[name].dtype, name)
    return found


def _to_json(values: np.ndarray):
    if values.dtype.kind != "O":
        return np.ascontiguousarray(values)
    return [
        {"b64": base64.b64encode(each).decode()} if isinstance(each, bytes) else _to_json(each)
        for each in values
    ]
