"""Matching a large image in parts, in little memory. Needs numpy alone.

A coarse match of the whole images tells where to look. For each tile of the target an affine map
from the tile to the source is fitted to it, the source is sampled by that map, so that what is left
of the change is small, and both are matched at the size that the network sees. Each pixel of the
target belongs to one tile, which sees some more around it, and takes the answer of the tile or of
the coarse match, whichever is more likely to be right.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from tfdense.errors import InputError
from tfdense.images import Photo
from tfdense.inference.answers import HasConfidence
from tfdense.inference.match import Match
from tfdense.masking import UNKNOWN_LOG_VARIANCE, is_masked
from tfdense.resampling import resize_image, resize_smooth, sample

Tiles = tuple[int, int] | bool | None
Outputs = Mapping[str, np.ndarray]
Run = Callable[[np.ndarray, np.ndarray], Outputs]

# Share of a tile that the next one sees too.
_OVERLAP = 0.25
# A map is fitted to the coarse match of a tile, but at least to so many of its pixels a side.
_LEAST_SIDE = 12
_REFITS = 5
# Pixels of the coarse match by which one that follows the map may miss it.
_MISS = 1.5
# The least that these must be confident of, in pixels that are certain.
_LEAST_SUPPORT = 6.0
# By how much a map may enlarge or shrink, in length.
_LARGEST_SCALE = 6.0


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
    rows, columns = (
        _spans(length, seen, count)
        for length, seen, count in zip((height, width), size, _counts(tiles), strict=True)
    )
    view = _CoarseView(coarse, source.pixels.shape, target.pixels.shape)
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
            own = row.own, column.own
            answers = [view.answer(mixture, radius, own)]
            affine = view.fit(row, column)
            if affine is not None:
                places = _grid(row, column, size) @ affine[:2] + affine[2]
                tile = shown[1].pixels[row.seen, column.seen]
                outputs = run(
                    pyramid.sample(places.astype(np.float32), affine, tile_scale),
                    resize_image(tile, size),
                )
                answers.append(
                    _tile_answer(outputs, mixture, radius, view, row, column, affine, tile_scale)
                )
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


class _Span(NamedTuple):
    """Along one axis of the target, in px: what a tile sees, and what of it is its own."""

    start: int
    length: int
    own: slice

    @property
    def seen(self) -> slice:
        return slice(self.start, self.start + self.length)

    @property
    def own_of_seen(self) -> slice:
        return slice(self.own.start - self.start, self.own.stop - self.start)


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
        self._levels = [image]

    def sample(self, places: np.ndarray, affine: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Samples at places in px of the source, from the level as fine as the samples are."""
        step = math.sqrt(abs(np.linalg.det(affine[:2])) * scale.prod())
        wanted = max(0, round(math.log2(step)))
        while len(self._levels) <= wanted:
            height, width = self._levels[-1].shape[:2]
            self._levels.append(resize_image(self._levels[-1], (-(-height // 2), -(-width // 2))))
        level = self._levels[wanted]
        ratio = np.float32(level.shape[1::-1]) / np.float32(self._levels[0].shape[1::-1])
        return sample(level, (places + np.float32(0.5)) * ratio - np.float32(0.5))


class _CoarseView:
    """The coarse match, as seen from parts of the target.

    Attributes:
        source_scale, target_scale: pixels of each image per pixel of it, (x, y).
        radius: its pixel in px of the source.
    """

    def __init__(self, outputs: Outputs, source: tuple[int, ...], target: tuple[int, ...]):
        self._outputs, self._shape = outputs, target
        size = outputs["flow"].shape[:2]
        self.source_scale = np.array(source[1::-1]) / size[::-1]
        self.target_scale = np.array(target[1::-1]) / size[::-1]
        self.radius = float(np.sqrt(self.source_scale.prod()))
        pixels = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), axis=-1)
        self._pixels = (pixels + 0.5) * self.target_scale - 0.5
        self._places = (pixels + outputs["flow"] + 0.5) * self.source_scale - 0.5
        self._weights = None

    def answer(self, mixture: HasConfidence, radius: float, own: tuple[slice, slice]) -> "_Answer":
        """Returns the answer for some rows and columns of the target."""
        if self._weights is None:
            self._weights = mixture.confidence(
                self._outputs["log_variance"], self._outputs["logits"], 2.0
            )
        large = {
            name: resize_smooth(self._outputs[name], self._shape, *own)
            for name in ("flow", "log_variance", "logits")
        }
        pixels = _positions(own)
        seen = (pixels + 0.5) / self.target_scale + large["flow"]
        flow = seen * self.source_scale - 0.5 - pixels
        return _answer(large, flow, mixture, self.source_scale, radius, self.radius)

    def fit(self, row: _Span, column: _Span) -> np.ndarray | None:
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


def _tile_answer(
    outputs: Outputs,
    mixture: HasConfidence,
    radius: float,
    view: _CoarseView,
    row: _Span,
    column: _Span,
    affine: np.ndarray,
    scale: np.ndarray,
) -> _Answer:
    shape = row.length, column.length
    large = {
        name: resize_smooth(outputs[name], shape, row.own_of_seen, column.own_of_seen)
        for name in ("flow", "log_variance", "logits")
    }
    pixels = _positions((row.own, column.own))
    flow = (pixels + large["flow"] * scale) @ affine[:2] + affine[2] - pixels
    stretch = math.sqrt(abs(np.linalg.det(affine[:2])))
    return _answer(large, flow, mixture, scale * stretch, radius, view.radius)


def _answer(
    outputs: Outputs,
    flow: np.ndarray,
    mixture: HasConfidence,
    scale: np.ndarray,
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


def _spans(length: int, seen: int, count: int | None) -> list[_Span]:
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
    return [_Span(start, extent, slice(*bounds[i : i + 2])) for i, start in enumerate(starts)]


def _around(span: _Span, scale: float, count: int) -> slice:
    """Returns the coarse pixels of a span, along an axis of so many."""
    first, last = span.start / scale, (span.start + span.length) / scale
    more = max(0.0, _LEAST_SIDE - (last - first)) / 2
    return slice(max(0, int(first - more)), min(count, math.ceil(last + more)))


def _positions(own: tuple[slice, slice]) -> np.ndarray:
    """Returns the position (x, y) of the target's pixels in some rows and columns."""
    y, x = (np.arange(each.start, each.stop, dtype=np.float32) for each in own)
    return np.stack(np.meshgrid(x, y), axis=-1)


def _grid(row: _Span, column: _Span, size: tuple[int, int]) -> np.ndarray:
    """Returns the position (x, y) in the target of each pixel that the network sees of a tile."""
    y, x = (
        span.start + (np.arange(count) + 0.5) * (span.length / count) - 0.5
        for span, count in zip((row, column), size, strict=True)
    )
    return np.stack(np.meshgrid(x, y), axis=-1)
