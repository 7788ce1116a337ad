"""What can be refused before a network is loaded."""

import numbers
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tfdense.errors import InputError, shown
from tfdense.images import Photo, load_image

# Less has no structure to match; more is beyond what OpenCV's remap can address.
_SMALLEST_SIDE, _LARGEST_SIDE = 16, 32766
# That OpenCV's models of a lens have.
_COEFFICIENTS = (4, 5, 8, 12, 14)
# The correlation of all pairs grows with the square of the pixels: at 2048x2048 px, in cells of 16,
# it takes 1 GiB, at twice the side 16.
LARGEST_EXPORTED_SIDE = 2048


def photo_to_match(role: str, image, mask=None) -> Photo:
    """Reads an image to match, and which of its pixels count.

    Args:
        role: what the image is, for the message.
        image, mask: see `tfdense.images.load_image`.

    Raises:
        InputError: if it cannot be read, is no image or has a side of less than 16 px; if the mask
            is none of its size, or no pixel counts.
    """
    photo = load_image(image, role, mask)
    height, width = photo.pixels.shape[:2]
    if min(height, width) < _SMALLEST_SIDE or max(height, width) > _LARGEST_SIDE:
        raise InputError(
            f"Expected images with sides of {_SMALLEST_SIDE} to {_LARGEST_SIDE} px. "
            f"Received: a {role} of {width}x{height} px."
        )
    if photo.mask is not None and not photo.mask.any():
        raise InputError(f"No pixel of the {role} counts: it is transparent or masked throughout.")
    return photo


def check_exported_side(size: tuple[int, int]) -> None:
    """Refuses a (height, width) with which no exported file could be run.

    Raises:
        InputError: if a side is too large. Which ones are too small, the network says.
    """
    if max(size) > LARGEST_EXPORTED_SIDE:
        raise InputError(
            f"Expected a height and width of at most {LARGEST_EXPORTED_SIDE}. "
            f"Received: {'x'.join(map(str, size))}"
        )


def check_radius(radius) -> float | None:
    """Returns the radius of a confidence as a number; None stays None.

    Raises:
        InputError: if it is no single finite positive number.
    """
    if radius is None:
        return None
    value = check_number("a positive radius", radius)
    if not 0 < value < np.inf:
        wanted = "finite" if value > 0 else "positive"
        raise InputError(f"Expected a {wanted} radius. Received: {shown(radius)}")
    return value


def check_frames(frames) -> Iterator:
    """Returns an iterator of the frames of a film, of which none is read yet.

    Raises:
        InputError: if they are no images one after the other; the letters of a name would be.
    """
    try:
        if not isinstance(frames, (str, bytes, bytearray, memoryview)):
            return iter(frames)
    except TypeError:
        pass
    raise InputError(
        "Expected frames: images one after the other, such as a list or a generator. "
        f"Received: {shown(frames)}. For the file of a film there is the command tfdense video."
    )


def check_number(what: str, value) -> float:
    """Returns a number of any type as a float.

    Args:
        what: it should be, for the message.
        value: which was given.

    Raises:
        InputError: if it is no single number, NaN, True or False.
    """
    # True would count as 1.
    is_flag = isinstance(value, bool) or getattr(value, "dtype", None) == np.bool_
    number = np.empty(0) if is_flag or isinstance(value, (str, bytes)) else _real(value)
    if number.shape != () or np.isnan(number):
        raise InputError(f"Expected {what}. Received: {shown(value)}")
    return float(number)


def check_threshold(threshold) -> float:
    """Returns the least confidence of a match as a float.

    Raises:
        InputError: if it is no single number in 0..1.
    """
    value = check_number("a threshold in 0..1", threshold)
    if not 0 <= value <= 1:
        raise InputError(f"Expected a threshold in 0..1. Received: {shown(threshold)}")
    return value


def check_distance(distance, default: float) -> float:
    """Returns the largest distance of an inlier; None is the default.

    Raises:
        InputError: if it is no single positive number.
    """
    if distance is None:
        return default
    value = check_number("a positive distance", distance)
    if not value > 0:
        raise InputError(f"Expected a positive distance. Received: {shown(distance)}")
    return value


def check_side(max_side) -> int:
    """Returns how much of an image a network is to see, in px, as an integer.

    Raises:
        InputError: if it is no whole number. Which ones are too small, the network says.
    """
    if not isinstance(max_side, numbers.Integral) or isinstance(max_side, bool):
        raise InputError(
            f"Expected max_side to be a whole number, in px. Received: {shown(max_side)}"
        )
    return int(max_side)


def check_fill(fill) -> bool:
    """Returns whether uncertain pixels get another flow.

    Raises:
        InputError: see `check_flag`.
    """
    return check_flag("fill", fill)


def check_flag(name: str, value) -> bool:
    """Returns what is on or off as bool.

    Raises:
        InputError: if it is neither True nor False: a text such as "no" would count as True.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"Expected {name} to be True or False. Received: {shown(value)}")
    return bool(value)


def check_folder_name(folder) -> Path:
    """Returns the path of a folder to write to.

    Raises:
        InputError: if it is neither a text nor a path, or has a zero byte, which no name has.
    """
    # No name is the folder that one is in.
    return check_path("a folder", "." if isinstance(folder, str) and not folder else folder)


def check_path(what: str, path) -> Path:
    """Returns the path of a file or folder.

    Args:
        what: it is of, for the message.
        path: which was given.

    Raises:
        InputError: if it is neither a text nor a path, is empty, or has a zero byte, which no name
            has.
    """
    is_path = isinstance(path, (str, os.PathLike)) and isinstance(os.fspath(path), str)
    if not is_path or not os.fspath(path) or "\0" in os.fspath(path):
        raise InputError(f"Expected the path of {what}. Received: {shown(path)}")
    return Path(path)


def check_names(what: str, names, count: int | None = None) -> list[str]:
    """Returns texts as a list.

    Args:
        what: they should be, for the message.
        names: which were given.
        count: how many there must be; None if any.

    Raises:
        InputError: if they are none, or a single text, whose letters would count as texts.
    """
    listed = list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [None]
    texts = all(isinstance(name, str) for name in listed)
    if not texts or count not in (None, len(listed)):
        raise InputError(f"Expected {what}. Received: {shown(names)}")
    return listed


def camera_matrix(name: str, matrix) -> np.ndarray:
    """Returns the intrinsic matrix of a camera as float64 [3, 3].

    Raises:
        InputError: if it is not ``[[fx, skew, cx], [0, fy, cy], [0, 0, 1]]`` with fx, fy > 0.
    """
    values = _real(matrix)
    if (
        values.shape != (3, 3)
        or not np.isfinite(values).all()
        or np.any(values[[1, 2, 2, 2], [0, 0, 1, 2]] != [0, 0, 0, 1])
        or not (values[0, 0] > 0 and values[1, 1] > 0)
    ):
        raise InputError(
            f"Expected {name} to be [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] with positive fx and "
            f"fy, in px. Received: {shown(matrix)}"
        )
    return values


def lens_distortion(name: str, coefficients) -> np.ndarray | None:
    """Returns the coefficients of a lens as float64 [count]; None stays None.

    Raises:
        InputError: if they are not 4, 5, 8, 12 or 14 finite numbers, as OpenCV has them.
    """
    if coefficients is None:
        return None
    values = _real(coefficients).ravel()
    if len(values) not in _COEFFICIENTS or not np.isfinite(values).all():
        raise InputError(
            f"Expected {name} to be {', '.join(map(str, _COEFFICIENTS))} coefficients in OpenCV's "
            f"order. Received: {shown(coefficients)}"
        )
    return values


def _real(values) -> np.ndarray:
    """Returns values as float64; what are no real numbers are an empty array."""
    try:
        array = np.ma.asarray(values)
        if np.iscomplexobj(array) or np.ma.is_masked(array):
            return np.empty(0)
        return np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.empty(0)


def key_points(role: str, points) -> np.ndarray:
    """Returns the (x, y) of key points as float64 [count, 2]; an empty list has none.

    Raises:
        InputError: if they are no such array of finite numbers.
    """
    values = _real(points)
    if values.shape == np.asarray(points, object).shape == (0,):
        return np.empty((0, 2))
    wrong_shape = values.size and (values.ndim != 2 or values.shape[1] != 2)
    if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():
        raise InputError(
            f"Expected the key points of the {role} to be finite (x, y), [count, 2]. "
            f"Received: {np.shape(values) if wrong_shape else shown(points)}"
        )
    return values
