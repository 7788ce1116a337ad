"""Photos as RGB arrays: the one place that takes an image in any form, and that writes one."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfdense.errors import InputError, printable, shown
from tfdense.files import replacing
from tfdense.masking import as_mask
from tfdense.optional import needed_for
from tfdense.pixels import OPAQUE, channels_last, stretch, to_rgb

if TYPE_CHECKING:  # Arrays need nothing but NumPy: on devices there may be nothing else.
    from tfdense.decoding import Stored

_LARGEST_FILE = 2**31

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jpg", ".jpeg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


class Photo(NamedTuple):
    """An image to match.

    Attributes:
        pixels: uint8 [height, width, 3], RGB, upright.
        mask: boolean [height, width], true where it may be matched; None if everywhere.
    """

    pixels: np.ndarray
    mask: np.ndarray | None = None


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


def read_stored(path: str | Path) -> Stored:
    """Reads what an image file, or a pipe that gives one, holds, turned upright by its EXIF data.

    Raises:
        InputError: if the file is missing, no image, damaged or too large.
    """
    name = str(path) if str(path).isprintable() else ascii(str(path))
    if os.path.isdir(path):
        raise InputError(f"Expected an image file. Received a folder: {name}")
    if not os.path.exists(path):
        raise InputError(f"There is no image file {name}.")
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"Cannot read {name}: {error.strerror}.") from None
    if len(content) > _LARGEST_FILE:
        raise InputError(f"{name} has more than {_LARGEST_FILE / 2**30:.0f} GiB: no image.")
    return _decode(content, name)


def load_image(image, name: str = "image", mask=None) -> Photo:
    """Takes an image in any form; the same image gives the same pixels in each.

    Files are decoded (JPEG, PNG, TIFF, WebP, AVIF, GIF, BMP, PPM, JPEG 2000; of several images in
    one, the first), turned upright by their EXIF orientation and brought to RGB. More than 8 bits
    are stretched by content, see `tfdense.pixels.stretch`. Alpha below 128, what a TIFF declares to
    be no data, and what is not finite in a file of floats is left out by the mask.

    Args:
        image: a path, the bytes of a file, an open file, an image of Pillow in any mode, or an
            array, RGB [height, width, 3] or grey [height, width], of numbers in 0..255 or, as
            uint16, in 0..65535. Of a NumPy masked array, what is masked is left out.
        name: what the image is, for messages.
        mask: where it may be matched, see `load_mask`; None means everywhere that the image itself
            does not leave out.

    Raises:
        InputError: if it cannot be read, is no such image, or its values are in 0..1.
    """
    if isinstance(image, Photo):
        pixels, used = image
        return Photo(pixels, _both(used, mask, pixels, name))
    stored = _stored(image, name)
    if stored is not None:
        used = None if stored.alpha is None else stored.alpha >= OPAQUE
        used = _both(used, mask, stored.values, name)
        return Photo(to_rgb(stretch(stored.values, used)), used)
    used = None
    if isinstance(image, np.ma.MaskedArray):
        missing = channels_last(np.ma.getmaskarray(image), name)
        used = ~missing.any(axis=-1)
        # Of a type that is no number, this fails; it is refused below.
        with contextlib.suppress(TypeError, ValueError):
            image = image.filled(0)
    array = channels_last(image, name)
    used = _both(used, mask, array, name)
    return Photo(to_rgb(array, name, used), used)


def as_image(image, name: str = "image") -> np.ndarray:
    """Takes the pixels of an image in any form, uint8 [height, width, 3], see `load_image`."""
    return load_image(image, name).pixels


def read_image(path: str | Path) -> np.ndarray:
    """Reads the pixels of an image file, uint8 [height, width, 3], see `load_image`."""
    return as_image(Path(path))


def load_mask(mask, size: tuple[int, int], name: str = "mask") -> np.ndarray:
    """Takes a mask in any form that `load_image` takes, and as an array of booleans.

    Args:
        mask: white where the image may be matched: whatever is brighter than half of its brightest
            pixel, so that 0 and 1, 0 and 255 and True and False mean the same.
        size: (height, width) of the image.
        name: what it is, for messages.

    Returns:
        boolean [height, width].

    Raises:
        InputError: if it cannot be read, is no image or has another size.
    """
    stored = _stored(mask, name)
    try:
        # What a masked array masks does not count.
        values, alpha = (np.asarray(np.ma.filled(mask, 0)), None) if stored is None else stored
        grey = np.float64(values).reshape(*values.shape[:2], -1).mean(axis=-1)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"Expected the {name} to be of finite numbers or booleans. Received: {shown(mask)}"
        ) from None
    used = as_mask(grey, size, name)
    return used if alpha is None else used & (alpha >= OPAQUE)


def encode_image(name: str | Path, image: np.ndarray) -> bytes:
    """Returns an image as the content of a file of that name.

    Args:
        name: whose suffix names the format.
        image: uint8, or uint16 where the format holds it: RGB [height, width, 3] or grey
            [height, width].

    Raises:
        InputError: if OpenCV does not know the format that the suffix names, or cannot hold so
            large an image in it.
    """
    # Of characters that are not UTF-8 OpenCV dies.
    suffix = Path(name).suffix.encode("ascii", "replace").decode()
    with needed_for("Writing images"):
        import cv2
    try:
        stored = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        encoded, content = cv2.imencode(suffix, stored)
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


def _both(used, mask, pixels: np.ndarray, name: str) -> np.ndarray | None:
    """Returns where an image may be matched by itself and by the mask that is given with it."""
    if mask is None:
        return None if used is None or used.all() else used
    mask = load_mask(mask, pixels.shape[:2], f"mask of the {name}")
    return mask if used is None else used & mask


def _stored(image, name: str) -> Stored | None:
    """Returns what an image holds, None if it is not given as a file or by Pillow."""
    if isinstance(image, (str, os.PathLike)):
        return read_stored(image)
    # Whoever gives an image of Pillow has imported it.
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(image, pillow.Image):
        with needed_for("Taking images of Pillow, other than as arrays,"):
            from tfdense.decoding import from_pillow
        return from_pillow(image, name)
    if hasattr(image, "read"):
        try:
            image = image.read()
        except (OSError, ValueError) as error:  # the latter of a closed file
            reason = printable(getattr(error, "strerror", None) or str(error))
            raise InputError(f"Cannot read the {name}: {reason.rstrip('.')}.") from None
        if isinstance(image, str):
            raise InputError(
                f"Expected the {name} as a file opened in binary mode. Received: text."
            )
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _decode(bytes(image), f"the {name}")
    return None


def _decode(content: bytes, name: str) -> Stored:
    with needed_for("Reading image files"):
        from tfdense.decoding import decode
    return decode(content, name)
