"""Decoding image files: from their bytes to the values that they store, upright."""

import io
import os
import re
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageFile

from tfdense.errors import InputError

if "OPENCV_LOG_LEVEL" not in os.environ:  # what it would print of damaged files is raised here
    # OpenCV 5 moved it.
    (cv2.utils.logging if hasattr(cv2.utils, "logging") else cv2).setLogLevel(0)

LARGEST_AREA = 2**28
"""Images of more pixels are refused by their header, before they fill the memory."""

# Pillow has more, some of which start other programs.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "PPM", "GIF", "AVIF", "JPEG2000", "SUN")
_JPEG_COLOURS = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
# How files of floats in colour begin, which OpenCV reads and Pillow does not.
_OF_FLOATS = {b"II": "TIFF", b"MM": "TIFF", b"PF": "PFM", b"#?": "HDR"}
# Brands of the HEIF family, the format of many phones; films begin as they do, with other ones.
_HEIF = {b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"avif", b"avis"}
# Modes of a TIFF for OpenCV: Pillow takes some types of integers for others. OpenCV in turn passes
# over damaged data of 8 bits.
_DEEP_MODES = ("I", "F", "I;16", "I;16B")
# How Pillow writes in its plan for decoding that colours have 16 bits.
_DEEP = re.compile(r";16|\b65535\b")

_ORIENTATION = 0x0112
_PHOTOMETRIC = 262  # a TIFF's tag; 0 says that white is 0, which OpenCV passes over
_NO_DATA = 42113  # GDAL's tag in a TIFF file
# By EXIF orientation: whether rows and columns are swapped, and which of them then reversed.
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


class Stored(NamedTuple):
    """What an image holds.

    Attributes:
        values: [height, width] if it is grey, else [height, width, 3], RGB; of any type of numbers.
        alpha: uint8 [height, width], 0 also where it says that there is no data. None if it has
            neither.
    """

    values: np.ndarray
    alpha: np.ndarray | None


def decode(content: bytes, name: str) -> Stored:
    """Decodes an image file; of several images in it, the first.

    Args:
        content: of the file.
        name: of the file, for the message.

    Raises:
        InputError: if it is no image, is damaged, or has more than `LARGEST_AREA` pixels.
    """
    image = _open(content)
    kind = image.format if image else _OF_FLOATS.get(content[:2])
    if kind is None:
        if content[4:8] == b"ftyp" and content[8:12] in _HEIF:
            raise InputError(f"{name} is of the HEIF family, which is not read: save it as JPEG.")
        raise InputError(f"{name} is not an image that can be decoded ({len(content)} bytes).")
    try:
        if image is None:
            return _by_opencv(content)
        width, height = image.size
        if width * height > LARGEST_AREA:
            raise InputError(
                f"{name} has {width}x{height} px, {width * height / 1e6:.0f} million. "
                f"Expected at most {LARGEST_AREA / 1e6:.0f} million."
            )
        if kind in ("JPEG", "MPO"):
            return _decode_jpeg(image, content)
        if kind == "PNG":
            _open(content).verify()  # the checksums, which decoding does not look at
        deep = _DEEP.search(str([tile.args for tile in image.tile[:1]]))
        if kind == "TIFF" and (deep or image.mode in _DEEP_MODES):
            stored = _by_opencv(content, no_data=_no_data(image))
            return _negative(stored) if image.tag_v2.get(_PHOTOMETRIC) == 0 else stored
        if deep and image.mode[0] != "I":
            return _by_opencv(content, _orientation(image))
        if kind == "JPEG2000" and image.mode[0] != "I":
            values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
            if values is not None and values.dtype != np.uint8:  # which Pillow cuts off
                return _by_opencv(content)
        return convert(image)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the decoders raise errors of any type
        raise InputError(
            f"{name} cannot be decoded as {kind} ({len(content)} bytes): {_reason(error)}."
        ) from None


def header_size(content: bytes, name: str) -> tuple[int, int]:
    """Returns the (height, width) that the header of an image file states.

    Raises:
        InputError: if it is no image.
    """
    image = _open(content)
    if image is None:
        raise InputError(f"{name} is not an image that can be decoded ({len(content)} bytes).")
    return image.size[1], image.size[0]


def from_pillow(image: Image.Image, name: str) -> Stored:
    """Returns what an image of Pillow holds.

    One that was opened but not loaded yet is decoded as its file is.

    Raises:
        InputError: as `decode`, or if the image's mode cannot be converted to RGB.
    """
    fresh = isinstance(image, ImageFile.ImageFile) and image.tile and image.tell() == 0
    if fresh and image.format in (*_FORMATS, "MPO"):
        if image.fp is None:
            raise InputError(f"Expected {name} to be an open Pillow image. Received: a closed one.")
        position = image.fp.tell()
        image.fp.seek(0)
        content = image.fp.read()
        image.fp.seek(position)
        return decode(content, getattr(image, "filename", "") or name)
    try:
        return convert(image)
    except Exception as error:
        raise InputError(
            f"Expected {name} to be a Pillow image that converts to RGB. "
            f"Received mode {image.mode}: {_reason(error)}."
        ) from None


def convert(image: Image.Image) -> Stored:
    """Returns what an image of Pillow holds, as `Stored`, whatever its mode is."""
    image.load()  # of a TIFF this applies the orientation, and deletes it
    no_data, alpha = _no_data(image), None
    if image.mode[0] in "IF":
        values = np.array(image)
        no_data = image.info.get("transparency", no_data)
    elif image.has_transparency_data:
        rgba = np.array(
            image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        )
        values, alpha = rgba[..., :3], rgba[..., 3]
    elif image.mode in ("L", "RGB"):
        values = np.array(image)
    else:
        values = np.array(image.convert("L" if image.mode == "1" else "RGB"))
    return _finish(values, alpha, _orientation(image), no_data)


def _open(content: bytes) -> ImageFile.ImageFile | None:
    """Reads the header of an image file.

    `Image.open` would refuse large images by a limit of the whole process, without their size.
    """
    Image.init()
    for name in _FORMATS:
        factory, accept = Image.OPEN[name]
        if accept(content[:16]) is True:
            try:
                return factory(io.BytesIO(content), "")
            except Exception:  # Pillow's answer to what is of another format, or damaged
                continue
    return None


def _decode_jpeg(image: ImageFile.ImageFile, content: bytes) -> Stored:
    """Decodes a JPEG, strictly: Pillow and OpenCV pass over data that makes no sense.

    Damage that happens to make sense cannot be told, since a JPEG holds no checksum.
    """
    values = simplejpeg.decode_jpeg(content, _JPEG_COLOURS[image.mode], strict=True)
    if image.mode == "CMYK":
        return convert(image)
    return _finish(values[..., 0] if image.mode == "L" else values, None, _orientation(image))


def _by_opencv(content: bytes, orientation: int = 1, no_data: float | None = None) -> Stored:
    """Decodes what Pillow would reduce to 8 bits, and TIFF, which OpenCV turns upright itself."""
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("OpenCV finds it damaged, or of a kind that it does not know")
    if values.ndim == 2:
        return _finish(values, None, orientation, no_data)
    blue, green, red, *further = cv2.split(values)
    if len(further) > 1:
        raise ValueError(f"it has {3 + len(further)} channels")
    alpha = further[0] if further else None
    if alpha is not None and alpha.dtype != np.uint8:
        opaque = 1.0 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
        alpha = np.uint8(np.clip(alpha * (255.0 / opaque), 0, 255))
    return _finish(cv2.merge([red, green, blue]), alpha, orientation, no_data)


def _negative(stored: Stored) -> Stored:
    values = stored.values
    white = 0 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    return stored._replace(values=white - values)


def _finish(values: np.ndarray, alpha, orientation: int = 1, no_data=None) -> Stored:
    """Turns an image upright, and makes what is no data transparent."""
    channels = values.reshape(*values.shape[:2], -1)
    missing = np.False_
    if values.dtype.kind == "f":
        missing = ~np.isfinite(channels).all(axis=-1)
    if no_data is not None:
        missing |= (channels == no_data).all(axis=-1)
    if missing.any():
        values = np.where(missing.reshape(missing.shape + (1,) * (values.ndim - 2)), 0, values)
        alpha = np.where(missing, 0, 255 if alpha is None else alpha).astype(np.uint8)
    return Stored(_turn(values, orientation), None if alpha is None else _turn(alpha, orientation))


def _turn(values: np.ndarray, orientation: int) -> np.ndarray:
    swap, reverse_rows, reverse_columns = _TURNS.get(orientation, (False, False, False))
    if swap:
        values = values.swapaxes(0, 1)
    return np.ascontiguousarray(
        values[:: -1 if reverse_rows else 1, :: -1 if reverse_columns else 1]
    )


def _no_data(image: Image.Image) -> float | None:
    """Returns the value that a TIFF declares to stand for no data."""
    text = getattr(image, "tag_v2", {}).get(_NO_DATA)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation of an image, 1 if it has none that can be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # of damaged metadata, which leave the pixels as they are
        return 1


def _reason(error: Exception) -> str:
    """Returns the first line of an error's message."""
    # OpenCV's own text names its source file.
    text = f"OpenCV expects {error.err}" if isinstance(error, cv2.error) else str(error)
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")
