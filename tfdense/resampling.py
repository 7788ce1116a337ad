"""Resizing and sampling images with NumPy alone, for devices.

Images come out as `tfdense.inference.resizing` makes them with OpenCV, to the last bit, so that a
network sees the same on a device.
"""

from collections.abc import Iterator

import numpy as np

# Of OpenCV's resizing of bytes: its weights are multiples of 2^-11.
_WEIGHT_BITS = 11
# So many values are worked on at a time.
_BLOCK = 2**18
_ALL = slice(None)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes with half-pixel centres; averages areas along an axis that shrinks.

    Args:
        image: uint8 [height, width, channels].
        size: (height, width) of the result.
    """
    for axis in (1, 0):
        if size[axis] < image.shape[axis]:
            image = _shrink(image, size[axis], axis)
        elif size[axis] > image.shape[axis]:
            image = _enlarge(image, size[axis], axis)
    return image


def resize_smooth(
    values: np.ndarray,
    shape: tuple[int, ...],
    rows: slice = _ALL,
    columns: slice = _ALL,
) -> np.ndarray:
    """Resizes floats [height, width, channels] bilinearly, with half-pixel centres.

    Args:
        values: float32.
        shape: begins with the new height and width.
        rows, columns: which of the result are needed.
    """
    first, second, weights = (x[columns] for x in _neighbours(values.shape[1], shape[1]))
    weights = weights[:, None]
    low, high, share = (x[rows] for x in _neighbours(values.shape[0], shape[0]))
    result = np.empty((len(low), len(first), *values.shape[2:]), np.float32)
    for block in blocks(result.shape):
        upper, lower = np.take(values, low[block], 0), np.take(values, high[block], 0)
        lower -= upper
        lower *= share[block, None, None]
        lower += upper
        # Taking whole rows is far quicker than indexing.
        left, right = np.take(lower, first, 1), np.take(lower, second, 1)
        right -= left
        right *= weights
        np.add(left, right, out=result[block])
    return result


def sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Samples an image bilinearly; outside of it all is 0.

    Args:
        image: [height, width] or [height, width, channels].
        places: (x, y), [rows, columns, 2].

    Returns:
        [rows, columns] or [rows, columns, channels], of the image's type.
    """
    result = np.empty((*places.shape[:2], *image.shape[2:]), image.dtype)
    flat = image.reshape(image.shape[0] * image.shape[1], -1)
    for rows in blocks((*places.shape[:2], flat.shape[1])):
        values = _sample(flat, image.shape[:2], places[rows])
        if image.dtype == np.uint8:
            values = np.rint(values)
        result[rows] = values.reshape(result[rows].shape)
    return result


def blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yields the rows of an array in parts that take little memory."""
    rows = max(1, _BLOCK // max(1, int(np.prod(shape[1:]))))
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def _sample(flat: np.ndarray, size: tuple[int, int], places: np.ndarray) -> np.ndarray:
    height, width = size
    sums = np.zeros((*places.shape[:2], flat.shape[1]), np.float32)
    # One pixel beyond the border is as far as any other place outside.
    x = np.clip(np.nan_to_num(places[..., 0], nan=-1), -1, width)
    y = np.clip(np.nan_to_num(places[..., 1], nan=-1), -1, height)
    left, top = np.floor(x), np.floor(y)
    for row, vertical in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, horizontal in ((left, 1 - (x - left)), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = np.where(inside, row * width + column, 0).astype(np.intp)
            weight = np.where(inside, vertical * horizontal, 0).astype(np.float32)
            sums += flat[index] * weight[..., None]
    return sums


def _shrink(image: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Averages areas: the sum of whole pixels, and what an edge cuts off the pixel it lies in."""
    old = image.shape[axis]
    edges = np.arange(size + 1) * (old / size)
    whole = np.minimum(edges.astype(np.intp), old - 1)
    cut = edges - whole
    shape = [-1 if i == axis else 1 for i in range(3)]
    before, within = (each.astype(np.float32).reshape(shape) for each in (cut[:-1], cut[1:]))
    result = np.empty([size if i == axis else n for i, n in enumerate(image.shape)], np.uint8)
    # Rows of the result, or of what shrinks in width only.
    for rows in blocks((result.shape[0], image.size // result.shape[0])):
        if axis == 0:
            ends = whole[rows.start : rows.stop + 1]
            part, ends = image[ends[0] : ends[-1] + 1], ends - ends[0]
            shares = before[rows], within[rows]
        else:
            part, ends, shares = image[rows], whole, (before, within)
        sums = np.add.reduceat(part, ends[:-1], axis=axis, dtype=np.float32)
        # The last sum goes to the end of the part, whether or not the edge lies there.
        final = tuple(slice(-1, None) if i == axis else slice(None) for i in range(3))
        sums[final] -= np.take(part, ends[-1:], axis)
        sums += np.take(part, ends[1:], axis) * shares[1]
        sums -= np.take(part, ends[:-1], axis) * shares[0]
        result[rows] = np.rint(sums * np.float32(size / old))
    return result


def _enlarge(image: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Interpolates bytes between neighbours in the integers in which OpenCV does."""
    first, second, share = _neighbours(image.shape[axis], size)
    shape = [-1 if i == axis else 1 for i in range(3)]
    scale = 1 << _WEIGHT_BITS
    weights = [np.rint(each * scale).astype(np.int32).reshape(shape) for each in (1 - share, share)]
    pair = zip((first, second), weights, strict=True)
    if axis == 1:
        terms = [np.take(image, index, axis) * weight for index, weight in pair]
        return ((terms[0] + terms[1] + scale // 2) >> _WEIGHT_BITS).astype(np.uint8)
    # Two bits are kept of each term.
    terms = [(np.take(image, index, axis) * weight) >> (_WEIGHT_BITS - 2) for index, weight in pair]
    return ((terms[0] + terms[1] + 2) >> 2).astype(np.uint8)


def _neighbours(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns both neighbours of each new position and the weight of the second, [new] each."""
    place = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    place = np.clip(place, 0, old - 1)
    first = place.astype(np.intp)
    return first, np.minimum(first + 1, old - 1), place - first
