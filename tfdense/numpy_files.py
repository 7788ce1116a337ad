"""Reading NumPy's files from whomever they are: no code in them runs, and none fills the memory.

NumPy reads arrays of objects as pickles, which are programs. Here such a program may build plain
values and NumPy's arrays, and call nothing else.
"""

import pickle
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfdense.errors import InputError, check_file, printable

LARGEST = 2**32
"""Bytes that the arrays of one file may have once they are read."""

# What arrays, their types and single numbers are pickled as, by NumPy 1 and 2.
_ALLOWED = frozenset(
    {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
    | {
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    }
    | {("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer")}
)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise ValueError(f"it would call {module}.{name}")
        return super().find_class(module, name)


def read_array(path: str | Path) -> np.ndarray:
    """Reads a ``.npy`` file of numbers.

    Raises:
        InputError: if it is missing, damaged or of another kind.
    """
    path = Path(path)
    check_file(path, "file")
    with path.open("rb") as file:
        size = path.stat().st_size
        return _refusing(path, "an array", lambda: _read(file, size, objects=False))


def read_arrays(
    path: str | Path, *names: str, objects: bool = False, beside: Iterable[str] = ()
) -> dict[str, np.ndarray]:
    """Reads arrays of a ``.npz`` file.

    Args:
        path: of the file.
        *names: of the arrays.
        objects: whether they may hold objects: None, numbers, strings, lists, dicts and arrays.
        beside: names of arrays that have to be there, but are not read.

    Raises:
        InputError: if it is missing, damaged or of another kind, or lacks one of them.
    """
    path = Path(path)
    check_file(path, "file")

    def read() -> dict[str, np.ndarray]:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            missing = [name for name in (*names, *beside) if f"{name}.npy" not in members]
            if missing:
                raise ValueError(f"it has no {', '.join(sorted(set(missing)))}")
            wanted = {name: members[f"{name}.npy"] for name in names}
            if sum(member.file_size for member in wanted.values()) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST >> 30} GiB")
            arrays = {}
            for name, member in wanted.items():
                with archive.open(member) as file:
                    arrays[name] = _read(file, member.file_size, objects)
            return arrays

    return _refusing(path, "an archive of arrays", read)


def _read(file: IO[bytes], size: int, objects: bool) -> np.ndarray:
    header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in header:
        raise ValueError(f"its format is {version[0]}.{version[1]}")
    shape, by_columns, dtype = header[version](file)
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if dtype.hasobject:
        if not objects or dtype.kind != "O":
            raise ValueError("it holds objects")
        values = _Unpickler(file).load()
        if not isinstance(values, np.ndarray) or values.shape != shape:
            raise ValueError("its objects are not those that it states")
        return values
    if count * dtype.itemsize > size:
        raise ValueError(f"it says that it holds {shape}, but has {size} bytes")
    content = file.read(count * dtype.itemsize)
    if len(content) < count * dtype.itemsize:
        raise ValueError("it is cut short")
    order = "F" if by_columns else "C"
    return np.frombuffer(bytearray(content), dtype, count).reshape(shape, order=order)


def _refusing(path: Path, what: str, read: Callable) -> Any:
    try:
        return read()
    except Exception as error:  # NumPy, zlib and pickle raise errors of any type
        reason = printable((str(error).splitlines() or [type(error).__name__])[0])
        raise InputError(
            f"{printable(str(path))} is not {what} that NumPy can read: {reason}."
        ) from None
