"""What is known of parts of a target: by the match of the whole, and by that of a tile."""

import math
from collections.abc import Mapping

import numpy as np

from tfdense.pixels import pixel_positions
from tfdense.resampling import resize_smooth
from tfdense.results.answers import HasConfidence
from tfdense.tiles.spans import Span

Outputs = Mapping[str, np.ndarray]

# A map is fitted to the coarse match of a tile, but at least to so many of its pixels a side.
_LEAST_SIDE = 12
_REFITS = 5
# Pixels of the coarse match by which one that follows the map may miss it.
_MISS = 1.5
# The least that these must be confident of, in pixels that are certain.
_LEAST_SUPPORT = 6.0
# By how much a map may enlarge or shrink, in length.
_LARGEST_SCALE = 6.0
# R, in pixels of the coarse match, of the confidence that says which are certain.
_CERTAIN_RADIUS = 2.0


class CoarseView:
    """The coarse match, as seen from parts of the target.

    Attributes:
        source_scale, target_scale: pixels of each image per pixel of it, (x, y).
        radius: its pixel in px of the source.
    """

    def __init__(self, outputs: Outputs, mixture: HasConfidence, source: tuple, target: tuple):
        self._outputs, self._shape = outputs, target
        size = outputs["flow"].shape[:2]
        self.source_scale = np.array(source[1::-1]) / size[::-1]
        self.target_scale = np.array(target[1::-1]) / size[::-1]
        self.radius = float(np.sqrt(self.source_scale.prod()))
        pixels = pixel_positions(size)
        self._pixels = ((pixels + 0.5) * self.target_scale - 0.5).astype(np.float32)
        self._places = ((pixels + outputs["flow"] + 0.5) * self.source_scale - 0.5).astype(
            np.float32
        )
        distribution = outputs["log_variance"], outputs["logits"]
        self._weights = np.asarray(mixture.confidence(*distribution, _CERTAIN_RADIUS))

    def look(self, own: tuple[slice, slice]) -> tuple[Outputs, np.ndarray, np.ndarray]:
        """Looks at some rows and columns of the target.

        Returns:
            The outputs there, the flow in px of the source, and how many of these one pixel is that
            the network saw, (x, y).
        """
        large = {
            name: resize_smooth(self._outputs[name], self._shape, *own)
            for name in ("flow", "log_variance", "logits")
        }
        pixels = _positions(own)
        seen = (pixels + np.float32(0.5)) / np.float32(self.target_scale) + large["flow"]
        flow = seen * np.float32(self.source_scale) - np.float32(0.5) - pixels
        return large, flow, self.source_scale

    def fit(self, row: Span, column: Span) -> np.ndarray | None:
        """Fits an affine map to the part that a tile sees.

        Returns:
            [3, 2]: ``(x, y, 1) @ affine`` of the target's pixel is its place in the source. None if
            too little is known, or the map folds or changes the scale too much.
        """
        part = tuple(
            _around(span, scale, count)
            for span, scale, count in zip(
                (row, column), self.target_scale[::-1], self._pixels.shape, strict=False
            )
        )
        pixels, places = self._pixels[part].reshape(-1, 2), self._places[part].reshape(-1, 2)
        certain = self._weights[part].ravel()
        centre = pixels.mean(axis=0)
        terms = np.column_stack([pixels - centre, np.ones(len(pixels))])
        weights = certain**2
        for _ in range(_REFITS):
            if weights.sum() < _LEAST_SUPPORT:
                return None
            scaled = np.sqrt(weights)[:, None]
            affine, *_ = np.linalg.lstsq(terms * scaled, places * scaled, rcond=None)
            misses = (terms @ affine - places) / (_MISS * self.source_scale)
            weights = certain**2 / (1 + (misses**2).sum(axis=-1)) ** 2
        stretch = np.linalg.det(affine[:2]) / (self.source_scale / self.target_scale).prod()
        if not _LARGEST_SCALE**-2 < stretch < _LARGEST_SCALE**2:
            return None
        affine[2] -= centre @ affine[:2]
        return affine


class TileView:
    """The match of a tile, as seen from parts of the target."""

    def __init__(
        self, outputs: Outputs, row: Span, column: Span, affine: np.ndarray, scale: np.ndarray
    ):
        self._outputs, self._row, self._column = outputs, row, column
        self._affine, self._scale = affine.astype(np.float32), scale.astype(np.float32)
        # Pixels of the source per pixel that the network sees, (x, y).
        self._source_scale = scale * math.sqrt(abs(np.linalg.det(affine[:2])))

    def look(self, own: tuple[slice, slice]) -> tuple[Outputs, np.ndarray, np.ndarray]:
        """As `CoarseView.look`, for what is the tile's own."""
        rows, columns = (
            slice(each.start - span.start, each.stop - span.start)
            for each, span in zip(own, (self._row, self._column), strict=True)
        )
        shape = self._row.length, self._column.length
        large = {
            name: resize_smooth(self._outputs[name], shape, rows, columns)
            for name in ("flow", "log_variance", "logits")
        }
        pixels = _positions(own)
        ends = pixels + large["flow"] * self._scale
        flow = ends @ self._affine[:2] + self._affine[2] - pixels
        return large, flow, self._source_scale


def _around(span: Span, scale: float, count: int) -> slice:
    """Returns the coarse pixels of a span, along an axis of so many."""
    first, last = span.start / scale, (span.start + span.length) / scale
    more = max(0.0, _LEAST_SIDE - (last - first)) / 2
    return slice(max(0, int(first - more)), min(count, math.ceil(last + more)))


def _positions(own: tuple[slice, slice]) -> np.ndarray:
    """Returns the position (x, y) of the target's pixels in some rows and columns."""
    y, x = (np.arange(each.start, each.stop, dtype=np.float32) for each in own)
    return np.stack(np.meshgrid(x, y), axis=-1)
