"""Cutting an image into tiles that see each other's rims."""

import itertools
import math
import numbers
from typing import Literal, NamedTuple

import numpy as np

from tfdense.errors import InputError, shown

Tiles = tuple[int, int] | bool | None

# Share of a tile that the next one sees too, and of it that within which one gives way to the next.
_OVERLAP, _CROSSING = 0.25, 0.125
# Of rows and of columns. 21 x 16 tiles of 256 px show twelve megapixels, pixel by pixel: more than
# this is no choice, but a slip that would seem to hang.
_MOST = 100


class Span(NamedTuple):
    """Along one axis of the target, in px: what a tile sees, and what of it it answers.

    Attributes:
        start, length: of what it sees.
        own: what it answers.
        window: how much its answer counts there, float32 [own]; of all tiles this adds up to 1.
    """

    start: int
    length: int
    own: slice
    window: np.ndarray

    @property
    def seen(self) -> slice:
        return slice(self.start, self.start + self.length)


def cut(
    shape: tuple[int, ...], seen: tuple[int, int], tiles: tuple[int, int] | Literal[True]
) -> tuple[list[Span], list[Span]]:
    """Cuts an image into tiles.

    Args:
        shape: begins with the image's height and width.
        seen: the (height, width) that the network sees.
        tiles: numbers of (rows, columns), or True for as many as show the image's own pixels.

    Returns:
        The spans of rows and of columns; each of the one with each of the other is a tile.
    """
    counts = (None, None) if tiles is True else tiles
    rows, columns = (spans(*each) for each in zip(shape[:2], seen, counts, strict=True))
    return rows, columns


def checked(tiles: Tiles) -> tuple[int, int] | bool:
    """Returns tiles as True, as numbers of (rows, columns), or as False for none.

    Raises:
        InputError: if they are neither.
    """
    if tiles is None or isinstance(tiles, bool):
        return bool(tiles)
    try:
        rows, columns = tiles
    except (TypeError, ValueError):
        rows = columns = None
    if not _is_count(rows) or not _is_count(columns):
        raise InputError(
            "Expected tiles to be True, False or the numbers of (rows, columns), two whole numbers "
            f"from 1 to {_MOST}. Received: {shown(tiles)}"
        )
    return int(rows), int(columns)


def _is_count(value) -> bool:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and value in range(1, _MOST + 1)


def read_tiles(text: str) -> Tiles:
    """Reads tiles of the command line: "auto" for True, "none" for False, or such as 2x3.

    Raises:
        InputError: if the text is none of these.
    """
    words = {"auto": True, "none": False}
    if text in words:
        return words[text]
    # Thousands of digits are no number to int().
    counts = [int(word) for word in text.split("x") if word.isdecimal() and len(word) < 9]
    if text.count("x") != 1 or len(counts) != 2 or not all(map(_is_count, counts)):
        raise InputError(
            f"Expected tiles of auto, none, or ROWSxCOLUMNS, each from 1 to {_MOST}. "
            f"Received: {shown(text)}"
        )
    return counts[0], counts[1]


def spans(length: int, seen: int, count: int | None) -> list[Span]:
    """Cuts an axis into spans that see each other's rims.

    Args:
        length: of the axis, in px.
        seen: by the network.
        count: how many; None takes as many as see single pixels.
    """
    if count is None:
        extent = min(seen, length)
        count = max(1, math.ceil((length / extent - _OVERLAP) / (1 - _OVERLAP)))
    else:
        extent = math.ceil(length / (count - (count - 1) * _OVERLAP))
    starts = np.rint(np.linspace(0, length - extent, count)).astype(int).tolist()
    # One gives way to the next around the middle of what both see.
    reach = int(extent * _CROSSING / 2)
    middles = [(a + b + extent) // 2 for a, b in itertools.pairwise(starts)]
    bounds = itertools.pairwise([-reach, *middles, length + reach])
    return [
        _span(start, extent, *borders, reach, length)
        for start, borders in zip(starts, bounds, strict=True)
    ]


def _span(start: int, extent: int, first: int, last: int, reach: int, length: int) -> Span:
    own = slice(max(0, first - reach), min(length, last + reach))
    centres = np.arange(own.start, own.stop) + 0.5
    width = 2 * max(reach, 0.25)  # at which no centre lies between 0 and 1
    inside = np.minimum(centres - first, last - centres)
    return Span(start, extent, own, np.clip(inside / width + 0.5, 0, 1).astype(np.float32))
