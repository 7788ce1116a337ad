"""Tensors as the pickles of ``torch.save`` describe them, and as NumPy's arrays.

A pickle says how to rebuild a tensor: from a storage, which lies outside of the pickle, with an
offset, a shape and strides. Here this stays a description until `array` is asked for it.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tfdense.errors import InputError
from tfdense.inert_pickle import StandIn

# The types of elements by the classes of storages, which lie in torch or torch.cuda.
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "UntypedStorage": "uint8",
    "BoolStorage": "bool",
    # What stands for the numbers of quantised tensors, which are not read.
    "QInt8Storage": "int8",
    "QInt32Storage": "int32",
    "QUInt8Storage": "uint8",
    "QUInt4x2Storage": "uint8",
    "QUInt2x4Storage": "uint8",
}
# Those without a class of storage are kept in untyped ones.
_TYPES = frozenset({*_STORAGES.values(), "uint16", "uint32", "uint64"})

_TENSOR = re.compile(r"torch\._utils\._rebuild_tensor(_v2|_v3)?")
_PARAMETER = re.compile(r"torch\._utils\._rebuild_parameter(_with_state)?")
_NUMPY_ARRAY = re.compile(r"numpy\.(_core|core)\.multiarray\._reconstruct")
_NUMPY_TYPE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16")


class Storage(NamedTuple):
    """Elements that tensors are views of: `count` of a type, from `start` on of those at `key`."""

    type: str
    key: str
    count: int
    start: int = 0


# Gives all elements of a type that are kept under a key.
Elements = Callable[[str, str], np.ndarray]


def persistent_load(identity: Any) -> Any:
    """Returns what PyTorch keeps outside of the pickle: a storage, or a class with its source."""
    match identity:
        case ("module", StandIn() as class_, *_):
            return class_
        case ("storage", StandIn(name=name), str(key), _, int(count), *view):
            module, _, class_ = name.rpartition(".")
            if module not in ("torch", "torch.cuda", "torch.storage") or class_ not in _STORAGES:
                raise InputError(f"it holds elements of the unknown type {name}")
            start = 0
            match view:
                case [(_, int(start), int(count))]:  # of old versions
                    pass
            return Storage(_STORAGES[class_], key, count, start)
    raise ValueError("its pickle refers to what is neither a storage nor a class")


def item_size(type_: str) -> int:
    """Returns how many bytes an element has."""
    return 2 if type_ == "bfloat16" else np.dtype(type_).itemsize


def element_reader(read: Callable[[str], bytes], order: str) -> Elements:
    """Returns what gives the elements of storages.

    Args:
        read: gives the bytes under a key; each is asked for once a type.
        order: of the bytes of an element: ``<`` or ``>``.
    """

    @functools.cache
    def elements(key: str, type_: str) -> np.ndarray:
        data = read(key)
        data = data[: len(data) // item_size(type_) * item_size(type_)]
        if type_ == "bfloat16":  # the upper half of a float32
            halves = np.frombuffer(data, np.dtype(np.uint16).newbyteorder(order))
            return (halves.astype(np.uint32) << 16).view(np.float32)
        stored = np.frombuffer(data, np.dtype(type_).newbyteorder(order))
        return stored.astype(type_, copy=False)

    return elements


def unwrapped(value: Any) -> Any:
    """Returns a parameter's tensor, and a tensor without the attributes of its own."""
    while True:
        match value:
            case StandIn(name=name, arguments=(inner, *_)) if _PARAMETER.fullmatch(name):
                value = inner
            case StandIn(
                name="torch._tensor._rebuild_from_type_v2",
                arguments=(StandIn(name=function), _, tuple(inner), *_),
            ):
                value = StandIn(function, inner)
            case _:
                return value


def kind(value: Any) -> str:
    """Returns the type of a value, or the name of what would have made it."""
    value = unwrapped(value)
    return value.name if isinstance(value, StandIn) else type(value).__name__


def is_tensor(value: Any) -> bool:
    """Tells whether `array` takes a value: a tensor or a parameter of PyTorch, or NumPy's array."""
    value = unwrapped(value)
    return isinstance(value, StandIn) and bool(
        _TENSOR.fullmatch(value.name) or _NUMPY_ARRAY.fullmatch(value.name)
    )


def array(name: Any, value: Any, elements: Elements) -> np.ndarray:
    """Returns the array that a value describes.

    Args:
        name: of the parameter, for errors.
        value: one that `is_tensor`.
        elements: from `element_reader`.

    Raises:
        InputError: if NumPy has no such arrays.
        ValueError: if it is damaged.
    """
    value = unwrapped(value)
    try:
        if _NUMPY_ARRAY.fullmatch(value.name):
            return _numpy_array(value)
        return _tensor(value, elements)
    except InputError as error:
        raise InputError(
            f"{name} {error}. In PyTorch, make it a plain float32 tensor and save it again"
        ) from None
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"{name} cannot be read ({error})") from None


def _tensor(value: StandIn, elements: Elements) -> np.ndarray:
    """Returns the view of a storage that a call of PyTorch's ``_rebuild_tensor`` describes."""
    storage, offset, shape, strides, *more = value.arguments
    more = more[2:]  # not: whether it has a gradient, and its hooks
    type_ = more.pop(0).name if value.name.endswith("_v3") else storage.type
    type_ = type_.removeprefix("torch.")
    if type_ not in _TYPES:
        raise InputError(f"is of type {type_}")
    if any(more):
        raise InputError("is negated or conjugated on use")
    numbers = (storage.start, storage.count, offset, *shape, *strides)
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("its place is not given by whole numbers")
    if len(shape) != len(strides):
        raise ValueError(f"{len(shape)} sizes but {len(strides)} strides")
    count = storage.count * item_size(storage.type) // item_size(type_)
    kept = elements(storage.key, type_)[storage.start :][:count]
    if len(kept) < count:
        raise ValueError(f"its storage holds {len(kept)} of {count} elements")
    if 0 in shape:
        return np.empty(shape, kept.dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if last >= count:
        raise ValueError(f"its element {last} is not among its storage's {count}")
    strides = [stride * kept.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(kept[offset:], shape, strides, writeable=False)


def _numpy_array(value: StandIn) -> np.ndarray:
    """Returns the array that a pickle of NumPy's describes."""
    _, shape, type_, by_columns, data = value.state
    code, order = type_.arguments[0], type_.state[1]
    if not _NUMPY_TYPE.fullmatch(code):
        raise InputError(f"is of NumPy's type {code}")
    if isinstance(data, StandIn):  # protocols before 3, which know no bytes: _codecs.encode
        data = data.arguments[0]
    if isinstance(data, str):
        data = data.encode("latin-1")
    stored = np.frombuffer(data, np.dtype(code).newbyteorder(order))
    return stored.reshape(shape, order="F" if by_columns else "C").astype(code, copy=False)
