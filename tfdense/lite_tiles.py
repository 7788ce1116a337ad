"""Matching a large image in parts, in little memory. Needs numpy alone.

A coarse match of the whole images tells where to look. For each tile of the target an affine map
from the tile to the source is fitted to it, the source is sampled by that map, so that what is left
of the change is small, and both are matched at the size that the network sees. Each pixel of the
target belongs to one tile, which sees some more around it, and takes the answer of the tile or of
the coarse match, whichever is more likely to be right.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from tfdense.images import Photo
from tfdense.inference.answers import HasConfidence
from tfdense.inference.match import Match
from tfdense.lite_spans import Span, Tiles, cut
from tfdense.masking import UNKNOWN_LOG_VARIANCE, is_masked
from tfdense.resampling import resize_image, resize_smooth, sample

Outputs = Mapping[str, np.ndarray]
Run = Callable[[np.ndarray, np.ndarray], Outputs]

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
# So many pixels are answered at a time.
_PART = 2**15


def match_tiles(
    run: Run,
    coarse: Outputs,
    mixture: HasConfidence,
    source: Photo,
    target: Photo,
    shown: tuple[Photo, Photo],
    radius: float | None,
    tiles: Tiles,
) -> Match:
    """Matches the target in tiles.

    Args:
        run: the network, of source and target of the size of the coarse match.
        coarse: what it answers for the whole images.
        mixture: what its log-variances and logits are parameters of.
        source, target: the images.
        shown: both, with noise in the place of what is masked.
        radius: R of the confidence, in px of the source; None takes one pixel of the source as the
            network sees it in a tile, but at least 1.
        tiles: see `tfdense.lite.LiteMatcher.match`.

    Returns:
        The match; its log_variance and logits are float16, for the sake of memory.

    Raises:
        InputError: if there are no such tiles.
    """
    size = coarse["flow"].shape[:2]
    height, width = target.pixels.shape[:2]
    rows, columns = cut(target.pixels.shape, size, tiles)
    view = _CoarseView(coarse, mixture, source.pixels.shape, target.pixels.shape)
    tile_scale = np.array([columns[0].length / size[1], rows[0].length / size[0]])
    if radius is None:
        ratio = view.source_scale / view.target_scale
        radius = max(1.0, float(np.sqrt((tile_scale * ratio).prod())))
    components = coarse["logits"].shape[-1]
    flow = np.empty((height, width, 2), np.float32)
    confidence = np.empty((height, width), np.float32)
    log_variance, logits = np.empty((2, height, width, components), np.float16)
    pyramid = _Pyramid(shown[0].pixels)
    for row in rows:
        for column in columns:
            views = [view]
            affine = view.fit(row, column)
            if affine is not None:
                places = _grid(row, column, size) @ affine[:2] + affine[2]
                warped = pyramid.sample(places.astype(np.float32), affine, tile_scale)
                seen = resize_image(shown[1].pixels[row.seen, column.seen], size)
                views.append(_TileView(run(warped, seen), row, column, affine, tile_scale))
            for part in _parts(row.own, column.own):
                own = part, column.own
                answers = (_answer(*each.look(own), mixture, radius, view.radius) for each in views)
                best = _more_likely(*answers)
                flow[own] = best.flow
                confidence[own] = best.confidence
                log_variance[own], logits[own] = best.log_variance, best.logits
    if source.mask is not None or target.mask is not None:
        masked = is_masked(flow, source.mask, target.mask)
        confidence[masked] = 0
        log_variance[masked] = UNKNOWN_LOG_VARIANCE
    return Match(
        flow=flow,
        confidence=confidence,
        log_variance=log_variance,
        logits=logits,
        radius=radius,
        source=source.pixels,
        target=target.pixels,
        source_mask=source.mask,
        target_mask=target.mask,
    )


class _Answer(NamedTuple):
    """Of some pixels of the target, in px of the source; `rightness` is compared."""

    flow: np.ndarray
    confidence: np.ndarray
    log_variance: np.ndarray
    logits: np.ndarray
    rightness: np.ndarray


class _Pyramid:
    """The source at several scales, made as they are needed."""

    def __init__(self, image: np.ndarray):
        self._levels = {0: image}

    def sample(self, places: np.ndarray, affine: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Samples at places in px of the source, from the level as fine as the samples are."""
        step = math.sqrt(abs(np.linalg.det(affine[:2])) * scale.prod())
        wanted = max(0, round(math.log2(step)))
        image = self._levels[0]
        if wanted not in self._levels:
            size = tuple(-(-side // 2**wanted) for side in image.shape[:2])
            self._levels[wanted] = resize_image(image, size)
        level = self._levels[wanted]
        ratio = np.float32(level.shape[1::-1]) / np.float32(image.shape[1::-1])
        return sample(level, (places + np.float32(0.5)) * ratio - np.float32(0.5))


class _CoarseView:
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
        pixels = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), axis=-1)
        self._pixels = (pixels + 0.5) * self.target_scale - 0.5
        self._places = (pixels + outputs["flow"] + 0.5) * self.source_scale - 0.5
        distribution = outputs["log_variance"], outputs["logits"]
        self._weights = mixture.confidence(*distribution, _CERTAIN_RADIUS)

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


class _TileView:
    """The match of a tile, as seen from parts of the target."""

    def __init__(
        self, outputs: Outputs, row: Span, column: Span, affine: np.ndarray, scale: np.ndarray
    ):
        self._outputs, self._row, self._column = outputs, row, column
        self._affine, self._scale = affine.astype(np.float32), scale.astype(np.float32)
        # Pixels of the source per pixel that the network sees, (x, y).
        self._source_scale = scale * math.sqrt(abs(np.linalg.det(affine[:2])))

    def look(self, own: tuple[slice, slice]) -> tuple[Outputs, np.ndarray, np.ndarray]:
        """As `_CoarseView.look`, for what is the tile's own."""
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


def _answer(
    outputs: Outputs,
    flow: np.ndarray,
    scale: np.ndarray,
    mixture: HasConfidence,
    radius: float,
    coarse_radius: float,
) -> _Answer:
    """Returns an answer whose distribution is in pixels of so many of the source, (x, y)."""
    distribution = outputs["log_variance"], outputs["logits"]
    confidence = mixture.confidence(*distribution, radius / scale)
    # Right to a pixel is better than right to what the coarse match sees, which is better than not.
    rightness = confidence + mixture.confidence(*distribution, coarse_radius / scale)
    log_variance = distribution[0] + np.float32(np.log(scale).sum())
    return _Answer(flow, confidence, log_variance, distribution[1], rightness)


def _parts(rows: slice, columns: slice) -> Iterator[slice]:
    """Yields the rows in parts whose answers take little memory."""
    step = max(1, _PART // (columns.stop - columns.start))
    for start in range(rows.start, rows.stop, step):
        yield slice(start, min(start + step, rows.stop))


def _more_likely(coarse: _Answer, tile: _Answer | None = None) -> _Answer:
    if tile is None:
        return coarse
    chosen = tile.rightness >= coarse.rightness
    return _Answer(
        *(
            np.where(chosen.reshape(chosen.shape + (1,) * (new.ndim - 2)), new, old)
            for new, old in zip(tile, coarse, strict=True)
        )
    )


def _around(span: Span, scale: float, count: int) -> slice:
    """Returns the coarse pixels of a span, along an axis of so many."""
    first, last = span.start / scale, (span.start + span.length) / scale
    more = max(0.0, _LEAST_SIDE - (last - first)) / 2
    return slice(max(0, int(first - more)), min(count, math.ceil(last + more)))


def _positions(own: tuple[slice, slice]) -> np.ndarray:
    """Returns the position (x, y) of the target's pixels in some rows and columns."""
    y, x = (np.arange(each.start, each.stop, dtype=np.float32) for each in own)
    return np.stack(np.meshgrid(x, y), axis=-1)


def _grid(row: Span, column: Span, size: tuple[int, int]) -> np.ndarray:
    """Returns the position (x, y) in the target of each pixel that the network sees of a tile."""
    y, x = (
        span.start + (np.arange(count) + 0.5) * (span.length / count) - 0.5
        for span, count in zip((row, column), size, strict=True)
    )
    return np.stack(np.meshgrid(x, y), axis=-1)
