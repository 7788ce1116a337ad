"""Files that ground truth is published in: homographies and other numbers as text, 16-bit PNG."""

from pathlib import Path

import cv2
import numpy as np

from tfdense.errors import InputError


def read_homography(path: Path) -> np.ndarray:
    """Reads a homography [3, 3] from a text file: three rows of three numbers.

    Raises:
        InputError: if the file is missing or holds anything else.
    """
    matrix = read_numbers(path, "a 3x3 homography", columns=3)
    if matrix.shape != (3, 3) or np.linalg.det(matrix) == 0:
        raise InputError(f"{path} holds no homography: expected 3 rows of 3, of full rank.")
    return matrix


def read_kitti_flow(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a flow of KITTI: a 16-bit PNG of 64 u + 2^15, 64 v + 2^15 and whether it is valid.

    Returns:
        The flow, float32 [height, width, 2] in px, and where it is valid, boolean [height, width].

    Raises:
        InputError: if the file is missing or is no such image.
    """
    values = read_raw(path)
    if values.dtype != np.uint16 or values.ndim != 3:
        raise InputError(f"{path} is no flow of KITTI: expected a 16-bit PNG of three channels.")
    # OpenCV gives blue, green, red.
    flow = (values[..., :0:-1].astype(np.float32) - 2**15) / 64
    return flow, values[..., 0] > 0


def read_raw(path: Path) -> np.ndarray:
    """Reads an image as it is stored, whatever its depth and channels."""
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise InputError(f"{path} is not an image that can be decoded.")
    return values


def read_numbers(path: Path, content: str, columns: int) -> np.ndarray:
    """Reads rows of numbers, [rows, columns]; `content` says for an error what they should be."""
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        values = np.loadtxt(path, ndmin=2)
    except ValueError:
        values = np.empty((0, 0))
    if values.shape[1:] != (columns,) or not np.isfinite(values).all():
        raise InputError(f"Expected {path} to hold {content}, as text.")
    return values
