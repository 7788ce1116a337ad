"""The values of an image given as an array: needs numpy alone, and so serves on devices too."""

import numpy as np

from tfdense.errors import InputError, shown

OPAQUE = 128
"""The least alpha, of 255, of a pixel that can be seen."""

# What resizing may add at edges, and to how many of the values.
_OVERSHOOT, _OVERSHOOT_SHARE = 80, 0.25

# What white may be in an image of more than 8 bits. A float image may also have it at 1.
_WHITES = (2**8 - 1, 2**16 - 1, 2**32 - 1)
OUTLIERS = 0.005
"""The share of values at either end that says nothing of how far the content spans."""


def pixel_positions(size: tuple[int, int], dtype=int) -> np.ndarray:
    """Returns the position (x, y) of each pixel of an image, [height, width, 2].

    Args:
        size: (height, width).
        dtype: of the result.
    """
    rows, columns = (np.arange(side, dtype=dtype) for side in size)
    return np.stack(np.meshgrid(columns, rows), axis=-1)


def to_rgb(array, name: str = "image", used: np.ndarray | None = None) -> np.ndarray:
    """Turns an array into an 8-bit RGB image.

    Args:
        array: as `channels_last` takes it, with values as `to_bytes` takes them.
        name: what the image is, for the message.
        used: see `stretch`.

    Returns:
        uint8 [height, width, 3]; the array itself if it is that already, in one piece of memory.

    Raises:
        InputError: if it is not such an image.
    """
    array = to_bytes(channels_last(array, name), name, used)
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else np.ascontiguousarray(array)


def channels_last(array, name: str = "image") -> np.ndarray:
    """Returns an image as [height, width, channels].

    Args:
        array: [height, width, 3] RGB, or [height, width] or [height, width, 1] grey.
        name: what the image is, for the message.

    Raises:
        InputError: if it has another shape.
    """
    given = array
    try:
        array = np.asarray(array)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"Expected {name} shape [height, width, 3]. "
            f"Received: {type(array).__name__}, of which NumPy makes no array."
        ) from None
    shape = array.shape
    if not shape:
        raise InputError(
            f"Expected {name} to be a file or an array [height, width, 3]. "
            f"Received: {shown(given)} ({type(given).__name__})"
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3) or 0 in shape:
        raise InputError(
            f"Expected {name} shape [height, width, 3]. Received: {shape}{_way_out(shape)}"
        )
    return array


def to_bytes(image: np.ndarray, name: str = "image", used: np.ndarray | None = None) -> np.ndarray:
    """Rounds the values of an image to 8 bits.

    What overshoots 0..255 a little, as resizing leaves it at edges, is clipped. 16-bit numbers
    (uint16) that exceed 255 are stretched, see `stretch`.

    Args:
        image: of numbers in 0..255, [height, width, channels].
        name: what the image is, for the message.
        used: see `stretch`.

    Returns:
        uint8, of the same shape; the image itself if it is that already.

    Raises:
        InputError: if these are no numbers, out of range or not finite. Also if they are fractions
            below 2, or floats of which the largest is 1: such an image is meant to be in 0..1, and
            would be matched as a black one.
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind not in "uif":
        hint = " Multiply it by 255." if image.dtype == bool else ""
        raise InputError(f"Expected {name} values to be numbers. Received: {image.dtype}.{hint}")
    if image.dtype.kind == "u" and image.dtype.itemsize == 2:
        return stretch(image, used)
    lowest, highest = image.min(), image.max()
    expected = f"Expected {name} values in 0..255. Received: "
    is_unit = image.dtype.kind == "f" and highest == 1
    if is_unit or (highest < 2 and ((image > 0) & (image < 1)).any()):
        hint = "(image + 1) * 127.5 is in 0..255" if lowest < -0.5 else "Multiply them by 255"
        raise InputError(
            f"{expected}{lowest:.3g} to {highest:.3g}, which look as if white were 1. {hint}."
        )
    within = lowest >= -_OVERSHOOT and highest <= 255 + _OVERSHOOT  # false if one is NaN
    if not within or np.mean((image < -0.5) | (image > 255.5)) > _OVERSHOOT_SHARE:
        hint = ""
        if not np.isfinite([lowest, highest]).all():
            hint = " Fill what is not finite, and leave it out with a mask."
        elif lowest >= 0 and highest < 2**16:
            hint = " If white is 65535, give them as uint16."
        raise InputError(f"{expected}{lowest} to {highest} ({image.dtype}).{hint}")
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def stretch(image: np.ndarray, used: np.ndarray | None = None) -> np.ndarray:
    """Brings an image of more than 8 bits to 8 bits, by what it holds.

    Integers that all lie in 0..255 stay as they are. Otherwise the numbers of a window are divided
    into 256 steps of equal width. Black of the window is 0 and its white the first of 255, 2^16 - 1
    and 2^32 - 1 (of floats: 1, 255, ...) that no value exceeds, if the content spans at least half
    of that; so a 16-bit photo becomes what it is in 8 bits. If the content spans a quarter or less,
    as that of a thermal camera, the window is just the content; in between it goes over from one
    to the other. The content is what lies between the quantiles 0.005 and 0.995 of all channels
    together; what is outside of the window becomes black or white.

    Each image is stretched by itself. The same place may so be brighter in one image of a pair
    than in the other, where one holds something much hotter, say; bring both to 8 bits by one
    scale before if that matters.

    Args:
        image: finite, [height, width] or [height, width, channels].
        used: boolean [height, width]; the content is that of these pixels. None means all.

    Returns:
        uint8, of the same shape.
    """
    if image.dtype == np.uint8:
        return image
    seen = image if used is None else image[used]
    if not seen.size:
        return np.zeros(image.shape, np.uint8)
    lowest, highest = seen.min(), seen.max()
    integers = image.dtype.kind in "ui"
    if integers and lowest >= 0 and highest <= 255:
        return np.clip(image, 0, 255).astype(np.uint8)
    low, high = _content(seen)
    whites = _WHITES if integers else (1, *_WHITES)
    white = next((white for white in whites if lowest >= 0 and highest <= white), None)
    if white is not None:
        whole = np.clip(4 * (high - low) / white - 1, 0, 1)
        low, high = low * (1 - whole), high + (white - high) * whole
    # A window of integers ends where the next one would begin.
    width = (high - low + integers) or 1.0

    def steps(values):
        return np.uint8(np.minimum(256 * np.clip((values - low) / width, 0, 1), 255))

    if image.dtype.kind == "u" and image.dtype.itemsize == 2:
        return steps(np.arange(2**16, dtype=np.float64))[image]
    return steps(image.astype(np.float64))


def _content(values: np.ndarray) -> tuple[float, float]:
    """Returns the ends of the values without outliers."""
    ends = np.quantile(values, [OUTLIERS, 1 - OUTLIERS], method="inverted_cdf")
    low, high = (float(end) for end in ends)
    return low, high


def _way_out(shape: tuple[int, ...]) -> str:
    """Says what to do with an array that has a known other form."""
    if len(shape) == 3 and shape[-1] in (2, 4):
        return ". Give the colours alone, and alpha >= 128 as a mask."
    if len(shape) == 3 and shape[0] in (1, 3):
        return ". Put the channels last: image.transpose(1, 2, 0)."
    if len(shape) == 4 and shape[0] == 1:
        return ". Give the one image of the batch: image[0]."
    return ""
