"""Files that ground truth is published in: flows, disparities, homographies, other numbers."""

import math
import re
from pathlib import Path

import cv2
import h5py
import numpy as np

from tfdense.errors import InputError, check_file
from tfdense.flow_files import read_flow
from tfdense.numpy_files import LARGEST, read_array, read_arrays

# What a flow holds where it is unknown is larger than this, or no number.
_UNKNOWN = 1e9
# Between the parts stands white space, or a line of comment; then the line ends, or one space.
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PFM_HEADER = re.compile(
    _GAP.join([rb"(PF|Pf)", rb"(\d+)", rb"(\d+)", rb"([-+.\deE]+)"])
    + rb"(?:[ \t]*(?:\r\n|\r|\n)|\s)"
)
# Of a PNG: what it begins with, and the depth and kind (RGB) of KITTI's.
_PNG, _KITTI_PNG = b"\x89PNG\r\n\x1a\n", bytes([16, 2])

FLOW_SUFFIXES = frozenset({".flo", ".flo5", ".npy", ".pfm", ".png"})
"""Of the files that `read_flow_file` reads; an ``.npz`` is one where the layout says so."""


def read_homography(path: Path) -> np.ndarray:
    """Reads a homography [3, 3] from a text file: three rows of three numbers.

    Raises:
        InputError: if the file is missing or holds anything else.
    """
    matrix = read_numbers(path, "a 3x3 homography", 3)
    if matrix.shape != (3, 3) or np.linalg.det(matrix) == 0:
        raise InputError(f"{path} holds no homography: expected 3 rows of 3, of full rank.")
    return matrix


def read_flow_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a flow in the format that the file's suffix names, in small or capital letters.

    - ``.flo``: Middlebury's, see `tfdense.flow_files`.
    - ``.pfm``: portable float map of three channels, (dx, dy) and one that is not used, as the
      Scene Flow data sets have it.
    - ``.flo5``: Spring's, the dataset ``flow`` [height, width, 2] of an HDF5 file.
    - ``.npy``: a NumPy array [height, width, 2].
    - ``.npz``: VIPER's, the NumPy arrays ``u`` and ``v``, [height, width] each.
    - ``.png``: KITTI's, see `read_kitti_flow`.

    Returns:
        The flow (dx, dy) in px, float32 [height, width, 2], and where it is known, boolean
        [height, width]: where both are finite and none beyond 1e9.

    Raises:
        InputError: if the file is missing, of another format, or holds no flow.
    """
    suffix = path.suffix.lower()
    if suffix not in {".png", *_READERS}:
        raise InputError(
            f"Expected a flow as .flo, .flo5, .npy, .npz, .pfm or .png. Received: {path}"
        )
    if suffix == ".png":
        return read_kitti_flow(path)
    flow = _READERS[suffix](path)
    channels = 3 if suffix == ".pfm" else 2
    if flow.ndim != 3 or flow.shape[-1] != channels:
        raise InputError(
            f"{path} holds no flow: expected [height, width, {channels}]. Received: {flow.shape}"
        )
    flow = flow[..., :2].astype(np.float32)
    # Of what is no number, no comparison is true.
    return flow, (np.abs(flow) < _UNKNOWN).all(axis=-1)


def read_pfm(path: Path) -> np.ndarray:
    """Reads a portable float map; its scale says only in which order the bytes are.

    Returns:
        float32 [height, width, 3], or [height, width] if it has one channel.

    Raises:
        InputError: if the file is missing, is no such map or is cut short.
    """
    check_file(path, "file")
    content = path.read_bytes()
    header = _PFM_HEADER.match(content)
    if header is None:
        raise InputError(f"{path} is no portable float map: expected a file that begins with PF.")
    kind, width, height, scale = header.groups()
    shape = (int(height), int(width)) + ((3,) if kind == b"PF" else ())
    if not math.prod(shape) or len(content) - header.end() != 4 * math.prod(shape):
        raise InputError(f"{path} does not hold the {int(width)}x{int(height)} px that it states.")
    order = "<f4" if scale.startswith(b"-") else ">f4"
    # The lowest row comes first.
    values = np.frombuffer(content, order, offset=header.end()).reshape(shape)[::-1]
    return values.astype(np.float32)


def _read_array(path: Path) -> np.ndarray:
    values = read_array(path)
    if not np.issubdtype(values.dtype, np.floating):
        raise InputError(f"Expected {path} to hold floating numbers. Received: {values.dtype}")
    return values


def _read_components(path: Path) -> np.ndarray:
    try:
        arrays = read_arrays(path, "u", "v")
        return np.stack([arrays["u"], arrays["v"]], axis=-1).astype(np.float32)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"Expected {path} to hold the arrays u and v of one size: {error}"
        ) from None


def _read_hdf5(path: Path) -> np.ndarray:
    check_file(path, "file")
    try:
        with h5py.File(path) as file:
            flow = file["flow"]
            if not isinstance(flow, h5py.Dataset) or flow.size * flow.dtype.itemsize > LARGEST:
                raise ValueError
            return np.asarray(flow, np.float32)
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, MemoryError):
        raise InputError(f"Expected {path} to be an HDF5 file with the dataset flow.") from None


_READERS = {
    ".flo": read_flow,
    ".flo5": _read_hdf5,
    ".npy": _read_array,
    ".npz": _read_components,
    ".pfm": read_pfm,
}


def is_kitti_flow(path: Path) -> bool:
    """Whether a PNG has 16 bits in three channels, as KITTI's flows do, and no picture of one."""
    with path.open("rb") as file:
        start = file.read(26)
    return start.startswith(_PNG) and start.endswith(_KITTI_PNG)


def read_kitti_flow(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a flow of KITTI: a 16-bit PNG of 64 u + 2^15, 64 v + 2^15 and whether it is valid.

    Returns:
        The flow, float32 [height, width, 2] in px, and where it is valid, boolean [height, width].

    Raises:
        InputError: if the file is missing or is no such image.
    """
    values = read_raw(path)
    if values.dtype != np.uint16 or values.shape[2:] != (3,):
        raise InputError(f"{path} is no flow of KITTI: expected a 16-bit PNG of three channels.")
    # OpenCV gives blue, green, red.
    flow = (values[..., :0:-1].astype(np.float32) - 2**15) / 64
    return flow, values[..., 0] > 0


def read_raw(path: Path) -> np.ndarray:
    """Reads an image as it is stored, whatever its depth and channels."""
    check_file(path, "file")
    content = np.fromfile(path, np.uint8)
    values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if values is None:
        raise InputError(f"{path} is not an image that can be decoded.")
    return values


def read_numbers(path: Path, content: str, *columns: int) -> np.ndarray:
    """Reads rows of numbers, [rows, one of columns]; `content` says what they should be."""
    check_file(path, "file")
    try:
        # Windows' editors put a mark before UTF-8.
        values = np.loadtxt(path, ndmin=2, encoding="utf-8-sig")
    except ValueError:
        values = np.empty((0, 0))
    if values.shape[-1] not in columns or not np.isfinite(values).all():
        raise InputError(f"Expected {path} to hold {content}, as text.")
    return values
