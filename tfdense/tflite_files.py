"""Reading .tflite files: what tfdense wrote into them, and their operations.

Needs numpy and ai-edge-litert, no TensorFlow.
"""

import collections
import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tfdense.checks import check_path
from tfdense.descriptions import check_description, parse_description
from tfdense.errors import InputError, printable

METADATA_NAME = "TFDENSE_METADATA"
# Of the metadata; is raised when a reader of the one before would misunderstand a file.
FORMAT = 1
FILE_IDENTIFIER = b"TFL3"
SIGNATURE = "match"

# Behind this, eight hexadecimal digits of the description: CRC-32 of the file with zeros there.
_CHECKSUM, _DIGITS = b'"file_crc32": "', 8

_CUSTOM = "CUSTOM "
_UNUSED = -1


class Tensor(NamedTuple):
    """What an operation takes or gives.

    Attributes:
        name: unique within a file for all but constants.
        shape: as the file states it.
        dtype: as the schema names it: FLOAT32, INT32, BOOL...
        values: of a constant, [*shape], if it is of a type that NumPy has; else None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    values: np.ndarray | None

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


class Operation(NamedTuple):
    """One step of a file.

    Attributes:
        name: as the schema names it: CONV_2D, GATHER...; "CUSTOM ..." if LiteRT does not have it.
        inputs, outputs: without those that are left out.
        options: the schema's object, such as ``StridedSliceOptionsT``; None if there is none.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    options: Any = None


class TFLiteFile(NamedTuple):
    """A file that tfdense wrote, mapped into memory.

    Attributes:
        interpreter: LiteRT's, which has not allocated anything yet.
        metadata: what the exporter wrote, see `tfdense.exporting.metadata`.
        content: its bytes.
    """

    interpreter: Interpreter
    metadata: dict
    content: mmap.mmap


def open_file(path: str | Path, **options) -> TFLiteFile:
    """Opens a file that ``tfdense export tflite`` wrote.

    Args:
        path: of the file.
        options: of LiteRT's interpreter.

    Raises:
        InputError: if it is no path, there is no such file, it is broken, was not written by
            tfdense or by a later version, or a bit of it has changed since.
    """
    path = check_path("a .tflite file", path)
    shown = printable(str(path))
    if path.is_dir():
        raise InputError(f"Expected a .tflite file. Received: {shown}, a folder")
    if not path.is_file():
        raise InputError(f"There is no .tflite file {shown}.")
    with path.open("rb") as file:
        if file.read(8)[4:] != FILE_IDENTIFIER:
            raise InputError(f"{shown} is not a .tflite file.")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # Before anything is built on it.
    if (stated := _stated_checksum(content)) not in (None, checksum(content)):
        raise InputError(
            f"{shown} is damaged or cut short: its checksum is not {stated}, as it says. Copy or "
            "export it again."
        )
    try:
        # LiteRT checks the whole structure, so that what reads it afterwards need not.
        interpreter = Interpreter(model_path=os.fsencode(path), **options)
    except ValueError as error:
        reason = printable(str(error).strip().splitlines()[0])
        raise InputError(f"{shown} is cut short or broken: {reason}") from None
    try:
        metadata = read_metadata(content)
        if metadata is None:
            raise InputError(f"{shown} was not exported by tfdense: it has no {METADATA_NAME}.")
        check_description(metadata)
        if metadata.get("format", FORMAT) > FORMAT:
            raise InputError(
                f"{shown} is of tfdense {metadata.get('version')}, and of a format that this "
                f"version does not know yet. Expected format {FORMAT} at most. "
                f"Received: {metadata['format']}"
            )
        check_description(metadata, "size")
        # Files of before had neither.
        if stated is None and "sizes" in metadata:
            raise ValueError("it has no checksum")
    except InputError:
        raise
    except (ValueError, AttributeError, TypeError, struct.error) as error:
        raise InputError(f"{shown} is broken: {printable(str(error))}") from None
    return TFLiteFile(interpreter, metadata, content)


def read_metadata(content) -> dict | None:
    """Returns what tfdense wrote into a .tflite file, None if there is nothing.

    Args:
        content: of the file, as bytes or a buffer.
    """
    model = schema.Model.GetRootAs(content, 0)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == METADATA_NAME.encode():
            return parse_description(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
    return None


def seal(content: bytes) -> bytes:
    """Writes its checksum into a file whose description has eight digits as "file_crc32"."""
    place = content.rfind(_CHECKSUM) + len(_CHECKSUM)
    return content[:place] + checksum(content).encode() + content[place + _DIGITS :]


def checksum(content) -> str:
    """Returns the CRC-32 of a file, with zeros in the place of what it says of that.

    Args:
        content: of the file, as bytes or a buffer.
    """
    place = content.rfind(_CHECKSUM) + len(_CHECKSUM)
    with memoryview(content) as view:
        before = zlib.crc32(b"0" * _DIGITS, zlib.crc32(view[:place]))
        return f"{zlib.crc32(view[place + _DIGITS :], before):0{_DIGITS}x}"


def _stated_checksum(content) -> str | None:
    place = content.rfind(_CHECKSUM)
    if place < 0:
        return None
    place += len(_CHECKSUM)
    digits = content[place : place + _DIGITS]
    return digits.decode("ascii", "replace")


def signature_names(metadata: dict) -> dict[tuple[int, int], str]:
    """Returns the name of the signature for each (height, width) of a file.

    Args:
        metadata: of the file.
    """
    sizes = [tuple(size) for size in metadata.get("sizes", [metadata["size"]])]
    if len(sizes) == 1:
        return {sizes[0]: SIGNATURE}
    return {size: f"{SIGNATURE}_{size[0]}x{size[1]}" for size in sizes}


def read_operations(content, graph: int | None = None) -> list[Operation]:
    """Lists the operations of a .tflite file, in order.

    Args:
        content: of the file, as bytes or a buffer.
        graph: the number of the only graph to read, which each of several sizes has; None reads
            all.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    names = [_operation_name(code) for code in model.operatorCodes]
    types = _names_by_code(schema.TensorType)
    found = []
    graphs = model.subgraphs if graph is None else [model.subgraphs[graph]]
    for each in graphs:
        tensors = [_tensor(model, types, tensor) for tensor in each.tensors]
        for operator in each.operators:
            inputs, outputs = (
                tuple(tensors[i] for i in indices if i != _UNUSED)
                for indices in (operator.inputs, operator.outputs)
            )
            name = names[operator.opcodeIndex]
            found.append(Operation(name, inputs, outputs, operator.builtinOptions))
    return found


def count_operations(operations: Sequence[Operation]) -> dict[str, int]:
    """Counts operations, the most frequent first.

    Returns:
        The number by name.
    """
    counts = collections.Counter(operation.name for operation in operations)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def foreign_operations(names: Sequence[str]) -> Iterator[str]:
    """Yields those of the names that are not of operations built into LiteRT."""
    return (name.removeprefix(_CUSTOM) for name in names if name.startswith(_CUSTOM))


def _operation_name(code: schema.OperatorCodeT) -> str:
    # The older field holds eight bits; the newer one is zero in files from before it.
    name = _names_by_code(schema.BuiltinOperator)[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return _CUSTOM + code.customCode.decode() if name == "CUSTOM" else name


def _tensor(model: schema.ModelT, types: dict, tensor: schema.TensorT) -> Tensor:
    shape = () if tensor.shape is None else tuple(map(int, tensor.shape))
    dtype = types[tensor.type]
    data = model.buffers[tensor.buffer].data
    values = None
    if data is not None and dtype in _NUMPY_TYPES:
        values = np.asarray(data).view(dtype.lower()).reshape(shape)
    return Tensor(tensor.name.decode(errors="replace"), shape, dtype, values)


def _names_by_code(enumeration) -> dict[int, str]:
    return {code: name for name, code in vars(enumeration).items() if name.isupper()}


_NUMPY_TYPES = {"FLOAT16", "FLOAT32", "FLOAT64", "INT8", "INT16", "INT32", "INT64", "UINT8", "BOOL"}
