"""Tensors between the forms of the protocols and NumPy."""

import base64
import binascii

import numpy as np

from tfdense.serving.refusal import wrong


def from_json(value, dtype: np.dtype, name: str) -> np.ndarray:
    """Returns nested lists of JSON as an array.

    Args:
        value: as JSON gave it; bytes are ``{"b64": "..."}``, or a string, which stands for its
            UTF-8.
        dtype: that it shall have; object for bytes.
        name: of the tensor, for the message.

    Raises:
        Refusal: if it is no such tensor.
    """
    if dtype.kind == "O":
        return _object_array(_to_bytes(value, name))
    try:
        array = np.array(value)
    except ValueError:
        raise wrong(f"Expected {name} as lists of equal lengths.") from None
    return as_type(array, dtype, name)


def as_type(array: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """Returns numbers as the type that is expected.

    Raises:
        Refusal: if they are none, or do not fit.
    """
    if array.dtype == dtype:
        return array
    if array.size == 0:
        return array.astype(dtype)
    if dtype.kind == "O" or array.dtype.kind not in "buif":
        raise wrong(f"Expected {name} of type {type_name(dtype)}. Received: {array.dtype}")
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        if array.dtype.kind == "f" and not (array == np.floor(array)).all():
            raise wrong(f"Expected {name} as whole numbers. Received: fractions")
        if not (limits.min <= array.min() and array.max() <= limits.max):
            raise wrong(
                f"Expected {name} in {limits.min}..{limits.max}. "
                f"Received: {array.min()} to {array.max()}"
            )
    with np.errstate(over="ignore"):  # what becomes infinite is refused by `check_inputs`
        return array.astype(dtype)


def check_inputs(inputs: dict, specs) -> dict:
    """Makes sure that inputs have the names, types and dimensions of a signature.

    Args:
        inputs: arrays by name.
        specs: by name, see `tfdense.saved_models.Signature.inputs`.

    Returns:
        The inputs, of the types expected.

    Raises:
        Refusal: if they have not, or hold what is not finite.
    """
    for name in inputs:
        if name not in specs:
            raise wrong(f"Expected the inputs {', '.join(specs)}. Received: {name[:80]!r}")
    for name, spec in specs.items():
        if name not in inputs and not spec.optional:
            raise wrong(f"The input {name} is missing: {spec.description}".rstrip(": "))
    checked = {}
    for name, array in inputs.items():
        spec = specs[name]
        checked[name] = as_type(array, spec.dtype, name)
        fits = array.ndim == len(spec.shape) and all(
            expected in (None, actual)
            for expected, actual in zip(spec.shape, array.shape, strict=True)
        )
        if not fits or 0 in array.shape:
            shape = ["any" if side is None else side for side in spec.shape]
            raise wrong(
                f"Expected {name} of the shape [{', '.join(map(str, shape))}]. "
                f"Received: {list(array.shape)}"
            )
        if spec.dtype.kind == "f" and not np.isfinite(checked[name]).all():
            raise wrong(f"Expected {name} as finite numbers. Received: NaN, or too large a number")
    return checked


def type_name(dtype) -> str:
    """Returns what a type is called in messages."""
    return "bytes" if np.dtype(dtype).kind == "O" else np.dtype(dtype).name


def _to_bytes(value, name: str):
    if isinstance(value, list):
        return [_to_bytes(each, name) for each in value]
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        return from_base64(value["b64"], name)
    raise wrong(
        f'Expected {name} as {{"b64": "..."}} or a string. Received: {type(value).__name__}'
    )


def from_base64(text: str, name: str) -> bytes:
    """Decodes base64, with or without the padding.

    Raises:
        Refusal: if it is none.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise wrong(f"Expected {name} in base64. Received: other characters") from None


def _object_array(values) -> np.ndarray:
    if isinstance(values, bytes):
        array = np.empty((), object)
        array[()] = values
        return array
    parts = [_object_array(each) for each in values]
    if len({part.shape for part in parts}) > 1:
        raise wrong("Expected bytes as lists of equal lengths.")
    array = np.empty((len(parts), *(parts[0].shape if parts else ())), object)
    for i, part in enumerate(parts):
        array[i] = part[()] if part.ndim == 0 else part
    return array
