"""Reading and writing flow files in the Middlebury format (.flo).

The format, little-endian: the float32 202021.25, the int32 width and height, then (dx, dy) of each
pixel as float32, row by row. A value above 1e9 marks a pixel whose flow is unknown.
"""

from pathlib import Path

import numpy as np

from tfdense.errors import InputError, check_file
from tfdense.files import replacing

_MAGIC = 202021.25
_HEADER = np.dtype([("magic", "<f4"), ("width", "<i4"), ("height", "<i4")])


def read_flow(path: str | Path) -> np.ndarray:
    """Reads a .flo file.

    Returns:
        float32 [height, width, 2], (dx, dy) in px. Unknown flow keeps its values above 1e9.

    Raises:
        InputError: if the file is missing, is no .flo file or is cut short.
    """
    path = Path(path)
    check_file(path, "flow file")
    content = path.read_bytes()
    header = np.frombuffer(content[: _HEADER.itemsize].ljust(_HEADER.itemsize), _HEADER)[0]
    if header["magic"] != np.float32(_MAGIC):
        raise InputError(f"{path} is not a flow file: expected a .flo file of Middlebury's format.")
    shape = int(header["height"]), int(header["width"]), 2
    size = len(content) - _HEADER.itemsize
    if min(shape) < 1 or size != 4 * shape[0] * shape[1] * 2:
        raise InputError(
            f"{path} says that it holds {shape[1]}x{shape[0]} pixels of 8 bytes. "
            f"Received: {size} bytes."
        )
    return np.frombuffer(content, "<f4", offset=_HEADER.itemsize).reshape(shape).astype(np.float32)


def encode_flow(flow: np.ndarray) -> bytes:
    """Returns a flow [height, width, 2], (dx, dy) in px, as the content of a .flo file.

    Raises:
        InputError: if the array has another shape.
    """
    if flow.ndim != 3 or flow.shape[-1] != 2 or 0 in flow.shape:
        raise InputError(f"Expected a flow of shape [height, width, 2]. Received: {flow.shape}")
    header = np.array((_MAGIC, flow.shape[1], flow.shape[0]), _HEADER)
    return header.tobytes() + np.ascontiguousarray(flow, "<f4").tobytes()


def write_flow(path: str | Path, flow: np.ndarray) -> None:
    """Writes a flow [height, width, 2], (dx, dy) in px, as a .flo file.

    Raises:
        InputError: if the array has another shape.
        OutputError: if it cannot be written.
    """
    content = encode_flow(flow)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
