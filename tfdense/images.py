"""Reading and writing photos as RGB arrays."""

import os
from pathlib import Path

import cv2
import numpy as np

from tfdense.errors import InputError
from tfdense.files import replacing
from tfdense.pixels import to_bytes

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})


def find_images(folder: str | Path) -> list[Path]:
    """Lists the image files below a folder, by their suffix, in sorted order.

    Links to folders are followed, each folder is listed once.

    Raises:
        InputError: if the folder does not exist or holds no image file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"Expected a folder of images. Received: {folder}, which is not a folder.")
    paths, visited = [], set()
    for below, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(below) in visited:
            folders.clear()
            continue
        visited.add(os.path.realpath(below))
        folders.sort()
        found = (Path(below, name) for name in files)
        paths += [path for path in found if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not paths:
        raise InputError(
            f"No images in {folder}. Expected files ending in {', '.join(sorted(SUFFIXES))}."
        )
    return sorted(paths)


def read_image(path: str | Path) -> np.ndarray:
    """Reads a photo as 8-bit RGB, turned upright by its EXIF orientation.

    Grey images get three equal channels, 16-bit ones are scaled to 8 bits, alpha is dropped.

    Returns:
        uint8 [height, width, 3].

    Raises:
        InputError: if the file is missing or no image that OpenCV can decode.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no image file {path}.")
    # Decoding from memory: OpenCV prints a warning of its own where imread fails.
    encoded = np.fromfile(path, np.uint8)
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if encoded.size else None
    except cv2.error:
        image = None
    if image is None:
        raise InputError(f"{path} is not an image that can be decoded ({encoded.size} bytes).")
    return image


def as_image(image) -> np.ndarray:
    """Turns a path or an array into an 8-bit RGB image.

    Args:
        image: a path, or an array [height, width, 3] or [height, width] with values in 0..255.

    Returns:
        uint8 [height, width, 3].

    Raises:
        InputError: if the file cannot be read or the array is not such an image, or its values
            are in 0..1.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=-1)
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        raise InputError(f"Expected an image of shape [height, width, 3]. Received: {array.shape}")
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise InputError(f"Expected an image of numbers. Received: {array.dtype}")
    return to_bytes(array)


def encode_image(name: str | Path, image: np.ndarray) -> bytes:
    """Returns an RGB image (uint8 [height, width, 3]) as the content of a file of that name.

    Raises:
        InputError: if OpenCV does not know the format that the suffix names, or cannot hold so
            large an image in it.
    """
    # Of characters that are not UTF-8 OpenCV dies.
    suffix = Path(name).suffix.encode("ascii", "replace").decode()
    try:
        encoded, content = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        encoded = False
    if not encoded:
        raise InputError(f"OpenCV cannot write {image.shape[1]}x{image.shape[0]} px to {name}.")
    return content.tobytes()


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes an RGB image (uint8 [height, width, 3]) in the format that the suffix names.

    Raises:
        InputError: as `encode_image`.
        OutputError: if it cannot be written.
    """
    content = encode_image(path, image)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
