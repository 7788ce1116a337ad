"""Cutting an image into tiles that see each other's rims."""

import itertools
import math
from typing import NamedTuple

import numpy as np

from tfdense.errors import InputError

Tiles = tuple[int, int] | bool | None

# Share of a tile that the next one sees too.
_OVERLAP = 0.25


class Span(NamedTuple):
    """Along one axis of the target, in px: what a tile sees, and what of it is its own."""

    start: int
    length: int
    own: slice

    @property
    def seen(self) -> slice:
        return slice(self.start, self.start + self.length)


def cut(
    shape: tuple[int, ...], seen: tuple[int, int], tiles: Tiles
) -> tuple[list[Span], list[Span]]:
    """Cuts an image into tiles.

    Args:
        shape: begins with the image's height and width.
        seen: the (height, width) that the network sees.
        tiles: see `tfdense.lite.LiteMatcher.match`.

    Returns:
        The spans of rows and of columns; each of the one with each of the other is a tile.

    Raises:
        InputError: if there are no such tiles.
    """
    rows, columns = (spans(*each) for each in zip(shape[:2], seen, _counts(tiles), strict=True))
    return rows, columns


def _counts(tiles: Tiles) -> tuple[int | None, int | None]:
    if tiles is True:
        return None, None
    try:
        rows, columns = (int(count) for count in tiles if count == int(count) and count >= 1)
    except (TypeError, ValueError):
        raise InputError(
            "Expected tiles to be True or the numbers of (rows, columns), at least 1. "
            f"Received: {tiles}"
        ) from None
    return rows, columns


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
    middles = [(a + b + extent) // 2 for a, b in itertools.pairwise(starts)]
    bounds = [0, *middles, length]
    return [Span(start, extent, slice(*bounds[i : i + 2])) for i, start in enumerate(starts)]
