"""Reading the files of PyTorch's ``torch.save`` without PyTorch, and without executing anything.

Both formats are read: the ZIP archive of PyTorch 1.6 and later (``data.pkl`` holds the objects,
``data/0``, ``data/1`` and so on the elements of the tensors), and that of before, a sequence of
pickles which the elements follow.
"""

import io
import mmap
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from tfdense import inert_pickle
from tfdense.errors import InputError, check_file, listed, printable
from tfdense.inert_pickle import StandIn
from tfdense.torch_tensors import (
    Elements,
    Storage,
    array,
    element_reader,
    is_tensor,
    item_size,
    kind,
    persistent_load,
)

# Where trainers keep the parameters.
KEYS = ("state_dict", "model_state_dict", "net", "model")

_EXPECTED = "Expected a file that PyTorch's torch.save wrote"
_SAVE_AGAIN = "In PyTorch: torch.save({'state_dict': model.state_dict()}, path)"

# How other files begin: at a position, with these bytes.
_OTHER_KINDS = (
    (0, b"\x08", "an ONNX model"),
    (8, b'{"', "a safetensors file"),
    (4, b"TFL3", "a TFLite model"),
    (0, b"\x89HDF", "an HDF5 file, as Keras weights are"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"version https://git-lfs", "a Git LFS pointer, which stands for the file itself"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (257, b"ustar", "a tar archive"),
)

# What zipfile raises for archives that are damaged or of no kind that PyTorch writes.
_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error)

_MAGIC_NUMBER, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the parameters of a network from a PyTorch file.

    Nothing in it is executed, whatever else it holds; of its tensors only these are read.

    Args:
        path: the file; it holds a dict of tensors, by itself or under one of `KEYS`.

    Returns:
        The arrays by name, without the prefixes that parallel and compiled networks add
        (``module.``, ``_orig_mod.``). Types are kept, but that bfloat16 becomes float32. The arrays
        are read-only and may share memory, as they do in the file.

    Raises:
        InputError: if the file is of another kind or damaged, or its parameters are not found.
    """
    path = Path(path)
    check_file(path, "file")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty. {_EXPECTED}.")
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            is_archive = content[:4] == b"PK\3\4"
            value, elements = _open_archive(file) if is_archive else _open_sequence(content)
            return {
                re.sub(r"^((module|_orig_mod)\.)+", "", str(name)): array(name, tensor, elements)
                for name, tensor in _state_dict(value).items()
            }
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except InputError as error:
        raise InputError(f"{path}: {printable(f'{error}')}.") from None
    except ValueError as error:
        raise InputError(
            f"{path} is damaged, cut short or of another kind: {printable(f'{error}')}."
        ) from None


def _open_archive(file: BinaryIO) -> tuple[Any, Elements]:
    """Reads a ZIP archive.

    Returns:
        Its objects, whose storages are `Storage`, and what reads their elements.
    """
    size = file.seek(0, io.SEEK_END)
    try:
        archive = zipfile.ZipFile(file)
    except _ZIP_ERRORS as error:
        raise ValueError(f"its ZIP archive cannot be read ({error})") from None
    records = {record.filename: record for record in archive.infolist()}
    pickles = [name for name in records if PurePosixPath(name).name == "data.pkl"]
    if len(pickles) != 1:
        raise InputError(f"it is a ZIP archive without PyTorch's data.pkl. {_EXPECTED}")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in records:
        raise InputError(
            "it is a TorchScript program. In PyTorch: "
            "torch.save(torch.jit.load(path).state_dict(), new_path)"
        )
    # PyTorch compresses nothing; so no record needs to claim more than there is.
    if any(record.compress_type != zipfile.ZIP_STORED for record in records.values()):
        raise InputError(f"it was compressed. {_EXPECTED}, as it was written")
    if sum(record.file_size for record in records.values()) > size:
        raise ValueError("its records claim to be larger than the file")
    for record in records.values():
        if record.CRC == 0:  # none was computed: torch.serialization.set_crc32_options(False)
            del record.CRC  # so that zipfile compares none

    def read(name: str) -> bytes:
        if f"{folder}{name}" not in records:
            raise ValueError(f"it lacks the record {name}")
        try:
            return archive.read(records[f"{folder}{name}"])
        except _ZIP_ERRORS as error:
            raise ValueError(f"its record {name} cannot be read ({error})") from None

    order = read("byteorder") if f"{folder}byteorder" in records else b"little"
    if order not in (b"little", b"big"):
        raise ValueError("its byte order is neither little nor big")
    value = inert_pickle.load(io.BytesIO(read("data.pkl")), persistent_load)
    return value, element_reader(
        lambda key: read(f"data/{key}"), "<" if order == b"little" else ">"
    )


def _open_sequence(content: mmap.mmap) -> tuple[Any, Elements]:
    """Reads a sequence of pickles; see `_open_archive`."""
    _check_kind(content)
    storages = {}

    def persistent(identity: Any) -> Any:
        value = persistent_load(identity)
        if isinstance(value, Storage):
            storages[value.key] = value
        return value

    inert_pickle.load(content, persistent_load)  # the sizes of C's types
    value = inert_pickle.load(content, persistent)
    keys = inert_pickle.load(content, persistent_load)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("it does not list its storages")
    places = {}
    for key in keys:
        if key not in storages:
            raise ValueError(f"its storage {key} belongs to no tensor")
        head = content.read(8)  # little-endian on any machine, like the elements
        length = int.from_bytes(head, "little") * item_size(storages[key].type)
        start = content.tell()
        if len(head) < 8 or length > len(content) - start:
            raise ValueError(f"its storage {key} goes beyond the end")
        places[key] = slice(start, start + length)
        content.seek(start + length)

    def read(key: str) -> bytes:
        if key not in places:
            raise ValueError(f"its storage {key} is missing")
        return content[places[key]]

    return value, element_reader(read, "<")


def _check_kind(content: mmap.mmap) -> None:
    """Reads the first two pickles, by which PyTorch's files are known."""
    for position, start, what in _OTHER_KINDS:
        if content[position : position + len(start)] == start:
            raise InputError(f"it is {what}. {_EXPECTED}")
    if content[:512].lstrip().startswith(b"<"):
        raise InputError(f"it is a page of HTML or XML, not the file it links to. {_EXPECTED}")
    for expected in (_MAGIC_NUMBER, _PROTOCOL):
        try:
            found = inert_pickle.load(content, persistent_load)
        except ValueError:
            found = None
        if found != expected:
            raise InputError(f"it does not begin as PyTorch's files do. {_EXPECTED}")


def _state_dict(value: Any) -> dict[Any, Any]:
    """Finds the dict of tensors in what a file holds."""
    found = next((each for each in _dicts(value) if any(map(is_tensor, each.values()))), None)
    if found is None:
        has = [f"{key} ({kind(item)})" for key, item in _items(value).items()]
        raise InputError(
            f"no tensors in it or under {', '.join(KEYS)}: it is of type {kind(value)}"
            f"{' and has ' * bool(has)}{listed(has)}. {_SAVE_AGAIN}"
        )
    others = [f"{key} ({kind(item)})" for key, item in found.items() if not is_tensor(item)]
    if others:
        raise InputError(f"expected a dict of tensors, but {listed(others)} are not. {_SAVE_AGAIN}")
    return found


def _dicts(value: Any, depth: int = 2) -> Iterator[dict[Any, Any]]:
    """Yields the dicts that may be meant, the inner ones first."""
    items = _items(value)
    for key in KEYS if depth else ():
        yield from _dicts(items.get(key), depth - 1)
    yield items


def _items(value: Any) -> dict[Any, Any]:
    match value:
        case StandIn(name="collections.OrderedDict", arguments=(list(pairs),)):  # of Python 2
            return {pair[0]: pair[1] for pair in pairs if _is_named(pair)}
        case dict():
            return value
    return {}


def _is_named(pair: Any) -> bool:
    return isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str)
