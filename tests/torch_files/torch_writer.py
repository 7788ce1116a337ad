"""Writes what ``torch.save`` would, without PyTorch, so that tests can vary each part of it."""

import io
import pickle
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

STORAGES = {
    "f8": "DoubleStorage",
    "f4": "FloatStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "i4": "IntStorage",
    "i2": "ShortStorage",
    "i1": "CharStorage",
    "u1": "ByteStorage",
    "b1": "BoolStorage",
    "c8": "ComplexFloatStorage",
    "c16": "ComplexDoubleStorage",
}


@dataclass
class Name:
    """A class or function that need not exist."""

    name: str


@dataclass
class Call:
    """A call of one, with arguments, as REDUCE does it; `state` is for BUILD."""

    name: str
    arguments: tuple = ()
    state: Any = None


@dataclass
class Persistent:
    """An object outside of the pickle."""

    identity: Any


class _Pickler(pickle._Pickler):
    def save(self, value, save_persistent_id=True):
        match value:
            case Name(name):
                module, _, attribute = name.rpartition(".")
                self.write(f"c{module}\n{attribute}\n".encode())
            case Call(name, arguments, state):
                self.save(Name(name))
                self.save(arguments)
                self.write(pickle.REDUCE)
                if state is not None:
                    self.save(state)
                    self.write(pickle.BUILD)
            case Persistent(identity):
                self.save(identity)
                self.write(pickle.BINPERSID)
            case _:
                super().save(value, save_persistent_id)


def dumps(value, protocol=2) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol).dump(value)
    return file.getvalue()


def storage(array, key, class_=None, **more):
    """Returns the reference to the elements of an array."""
    class_ = class_ or STORAGES[array.dtype.str[1:]]
    size = more.get("count", array.size)
    return Persistent(("storage", Name(f"torch.{class_}"), key, "cpu", size, *more.get("view", ())))


def tensor(reference, shape, strides, offset=0):
    """Returns the call that makes a tensor; strides and offset count elements."""
    hooks = Call("collections.OrderedDict")
    arguments = (reference, offset, tuple(shape), tuple(strides), False, hooks)
    return Call("torch._utils._rebuild_tensor_v2", arguments)


def with_tensors(arrays: dict) -> tuple[dict, dict]:
    """Returns contiguous tensors by name, and their elements by key."""
    tensors, elements = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        strides = [stride // array.itemsize for stride in array.strides]
        tensors[name] = tensor(storage(array, str(key)), array.shape, strides)
        elements[str(key)] = array
    return tensors, elements


def archive(path, content, elements, *, protocol=2, order="<", folder="archive/", **records):
    """Writes the format since PyTorch 1.6.

    Args:
        path: of the file.
        content: the objects.
        elements: the contiguous arrays of the storages by key.
        protocol: of the pickle.
        order: of the bytes.
        folder: in which the records lie.
        **records: others, or other contents; underscores stand for points.
    """
    contents = {"data.pkl": dumps(content, protocol)}
    if order:
        contents["byteorder"] = b"little" if order == "<" else b"big"
    for key, array in elements.items():
        array = np.asarray(array)
        contents[f"data/{key}"] = array.astype(array.dtype.newbyteorder(order or "<")).tobytes()
    contents |= {name.replace("_", "."): record for name, record in records.items()}
    with zipfile.ZipFile(path, "w") as file:
        for name, record in contents.items():
            file.writestr(folder + name, record)


def sequence(path, content, elements, *, protocol=2):
    """Writes the format before; see `archive`."""
    heads = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, content, sorted(elements))
    with open(path, "wb") as file:
        for head in heads:
            file.write(dumps(head, protocol))
        for key in sorted(elements):
            file.write(elements[key].size.to_bytes(8, "little") + elements[key].tobytes())
