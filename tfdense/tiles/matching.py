"""Matching a large image in parts, in little memory. Needs numpy alone.

A coarse match of the whole images tells where to look. For each tile of the target an affine map
from the tile to the source is fitted to it, the source is sampled by that map, so that what is left
of the change is small, and both are matched at the size that the network sees. The answer to a
pixel is the mean of those of the coarse match and of the tiles that see it, in which hardly any but
the one most likely right counts; towards its rim a tile counts less and less.
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np

from tfdense.images import Photo
from tfdense.masking import UNKNOWN_LOG_VARIANCE, is_masked
from tfdense.resampling import resize_image, sample
from tfdense.results.answers import HasConfidence
from tfdense.results.match import Match
from tfdense.tiles.spans import Span, cut
from tfdense.tiles.views import CoarseView, Outputs, TileView

Run = Callable[[np.ndarray, np.ndarray], Outputs]

# So many pixels are answered at a time.
_PART = 2**13
# Of how likely an answer is right, as its weight among others; one that is not gets some, too.
_POWER, _LEAST_RIGHTNESS = 8, 1e-3


def match_tiles(
    run: Run,
    coarse: Outputs,
    mixture: HasConfidence,
    source: Photo,
    target: Photo,
    shown: tuple[Photo, Photo],
    radius: float | None,
    tiles: tuple[int, int] | Literal[True],
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
        tiles: numbers of (rows, columns), or True for as many as show the target's own pixels.

    Returns:
        The match; its log_variance and logits are float16, for the sake of memory.
    """
    size = coarse["flow"].shape[:2]
    height, width = target.pixels.shape[:2]
    rows, columns = cut(target.pixels.shape, size, tiles)
    view = CoarseView(coarse, mixture, source.pixels.shape, target.pixels.shape)
    tile_scale = np.array([columns[0].length / size[1], rows[0].length / size[0]])
    if radius is None:
        ratio = view.source_scale / view.target_scale
        radius = max(1.0, float(np.sqrt((tile_scale * ratio).prod())))
    tallest = max(row.own.stop - row.own.start for row in rows)
    joined = _Joined(height, width, coarse["logits"].shape[-1], tallest)
    pyramid = _Pyramid(shown[0].pixels)
    for row in rows:
        fresh = joined.descend(row.own)
        for part in _parts(fresh, width):
            own = part, slice(0, width)
            joined.add(own, _answer(*view.look(own), mixture, radius, view.radius))
        for column in columns:
            affine = view.fit(row, column)
            if affine is None:
                continue
            warped = pyramid.sample(_places(row, column, size, affine), affine, tile_scale)
            seen = resize_image(shown[1].pixels[row.seen, column.seen], size)
            tile = TileView(run(warped, seen), row, column, affine, tile_scale)
            for part in _parts(row.own, len(column.window)):
                own = part, column.own
                window = row.window[part.start - row.own.start : part.stop - row.own.start]
                answer = _answer(*tile.look(own), mixture, radius, view.radius)
                joined.add(own, answer, window[:, None] * column.window)
    if source.mask is not None or target.mask is not None:
        masked = is_masked(joined.flow, source.mask, target.mask)
        joined.confidence[masked] = 0
        joined.log_variance[masked] = UNKNOWN_LOG_VARIANCE
    return Match(
        flow=joined.flow,
        confidence=joined.confidence,
        log_variance=joined.log_variance,
        logits=joined.logits,
        radius=radius,
        source=source.pixels,
        target=target.pixels,
        source_mask=source.mask,
        target_mask=target.mask,
    )


class _Answer(NamedTuple):
    """To some pixels of the target, in px of the source.

    Attributes:
        flow, confidence, log_variance, logits: see `Match`.
        rightness: the probability that the flow is right, plus that it is so to a pixel of the
            coarse match.
    """

    flow: np.ndarray
    confidence: np.ndarray
    log_variance: np.ndarray
    logits: np.ndarray
    rightness: np.ndarray


class _Joined:
    """The mean of all answers to a pixel, each weighed by how likely it is right.

    Attributes:
        flow, confidence, log_variance, logits: see `Match`; the latter two are float16.
    """

    def __init__(self, height: int, width: int, components: int, tallest: int):
        self.flow = np.zeros((height, width, 2), np.float32)
        self.confidence = np.zeros((height, width), np.float32)
        self.log_variance, self.logits = np.zeros((2, height, width, components), np.float16)
        # The root of the sum of weights, of the rows that a row of tiles answers. As a root it is
        # within float16's range.
        self._root = np.zeros((tallest, width), np.float16)
        self._rows = slice(0, 0)

    def descend(self, rows: slice) -> slice:
        """Goes on to the next row of tiles; returns which of its rows no other has answered."""
        fresh = slice(self._rows.stop, rows.stop)
        kept = self._rows.stop - rows.start
        self._root[:kept] = self._root[rows.start - self._rows.start :][:kept]
        self._root[kept:] = 0
        self._rows = rows
        return fresh

    def add(self, own: tuple[slice, slice], answer: _Answer, window=1.0) -> None:
        """Adds the answer to some rows and columns.

        Args:
            own: rows and columns, the former of those of `descend`.
            answer: to them.
            window: how much it counts, if as likely right as another, [rows, columns].
        """
        rows = slice(own[0].start - self._rows.start, own[0].stop - self._rows.start)
        weight = window * (answer.rightness + _LEAST_RIGHTNESS) ** _POWER
        total = self._root[rows, own[1]].astype(np.float32) ** _POWER + weight
        self._root[rows, own[1]] = total ** (1 / _POWER)
        share = (weight / total)[..., None]
        for name in ("flow", "log_variance", "logits"):
            values = getattr(self, name)[own]
            values += (share * (getattr(answer, name) - values)).astype(values.dtype)
        values = self.confidence[own]
        values += share[..., 0] * (answer.confidence - values)


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
    confidence = np.asarray(mixture.confidence(*distribution, radius / scale))
    # Right to a pixel is better than right to what the coarse match sees, which is better than not.
    rightness = confidence + np.asarray(mixture.confidence(*distribution, coarse_radius / scale))
    log_variance = distribution[0] + np.float32(np.log(scale).sum())
    return _Answer(flow, confidence, log_variance, distribution[1], rightness)


def _parts(rows: slice, columns: int) -> Iterator[slice]:
    """Yields the rows, of so many columns, in parts whose answers take little memory."""
    step = max(1, _PART // columns)
    for start in range(rows.start, rows.stop, step):
        yield slice(start, min(start + step, rows.stop))


def _places(row: Span, column: Span, size: tuple[int, int], affine: np.ndarray) -> np.ndarray:
    """Returns where in the source (x, y) what the network sees of a tile is, float32."""
    y, x = (
        span.start + (np.arange(count) + 0.5) * (span.length / count) - 0.5
        for span, count in zip((row, column), size, strict=True)
    )
    across, down = x[:, None] * affine[0] + affine[2], y[:, None] * affine[1]
    return across.astype(np.float32) + down.astype(np.float32)[:, None]
