"""What can be refused before a network is loaded."""

import numbers

import numpy as np

from tfdense.errors import InputError, shown
from tfdense.images import Photo, load_image

# Less has no structure to match; more is beyond what OpenCV's remap can address.
_SMALLEST_SIDE, _LARGEST_SIDE = 16, 32766
# That OpenCV's models of a lens have.
_COEFFICIENTS = (4, 5, 8, 12, 14)


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


def check_radius(radius) -> float | None:
    """Returns the radius of a confidence as a number; None stays None.

    Raises:
        InputError: if it is no single positive number, or infinite.
    """
    if radius is None:
        return None
    value = _real(radius)
    if isinstance(radius, (str, bytes)) or value.shape != () or not 0 < value < np.inf:
        raise InputError(f"Expected a positive radius. Received: {shown(radius)}")
    return float(value)


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
        InputError: if it is neither True nor False: a text such as "no" would count as True.
    """
    if not isinstance(fill, (bool, np.bool_)):
        raise InputError(f"Expected fill to be True or False. Received: {shown(fill)}")
    return bool(fill)


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
    if values.shape == (0,) and hasattr(points, "__len__") and len(points) == 0:
        return np.empty((0, 2))
    if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():
        raise InputError(
            f"Expected the key points of the {role} to be finite (x, y), [count, 2]. "
            f"Received: {np.shape(values) if values.size else shown(points)}"
        )
    return values
