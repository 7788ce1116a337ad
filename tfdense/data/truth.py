"""Pairs with ground truth of one's own or of public data sets: flows, homographies, matches.

They are read by the readers of `tfdense.evaluation`, in the layouts that these know. Of pairs with
a flow a square is cut out, at the same place in both images; the others are shown whole, padded to
a common size and stretched to a square, since a cut-out of theirs would hold few matches.
"""

import logging
from typing import NamedTuple

import cv2
import numpy as np

from tfdense.data.photos import hold_out
from tfdense.data.real_pairs import RealPairs, scatter
from tfdense.data_config import DataConfig
from tfdense.errors import InputError
from tfdense.evaluation.layouts import LAYOUTS, find_truth
from tfdense.evaluation.pairs import EvaluationPair, UnreadPair
from tfdense.evaluation.readers.protocols import pad_alike
from tfdense.two_view.estimation import map_points

_LOG = logging.getLogger(__name__)

# Where flows within 3x3 px differ by more than this, in px, none between them is one.
_EDGE = 1.0


def split_truth(pairs: list[UnreadPair], share: float) -> tuple[list, list]:
    """Splits pairs into those to train on and those held out: whole scenes, by their names."""
    scenes = [pair.scene or pair.name for pair in pairs]
    if len(set(scenes)) == 1:
        scenes = [pair.name for pair in pairs]
    if len(pairs) == 1:
        _LOG.warning("There is one pair with ground truth: validation takes it too.")
        return pairs, pairs
    chosen = hold_out(scenes, share)
    sides = ([], [])
    for scene, pair in zip(scenes, pairs, strict=True):
        sides[scene in chosen].append(pair)
    return sides


class View(NamedTuple):
    """How pairs are shown.

    Attributes:
        share: smallest and largest share of the short side that is cut out; None shows all.
        mirror: how often they are mirrored.
        visible: whether only matches that can be seen are ground truth.
    """

    share: tuple[float, float] | None
    mirror: float
    visible: bool


class TruePairs(RealPairs):
    """Pairs with ground truth, each epoch in a new order.

    Args:
        pairs: what is read.
        view: how they are shown.
        size: height and width of the images of a pair, in pixels.
        seed: of every random choice.
        shuffled: False keeps the order, for validation.

    Raises:
        InputError: if none can be read.
    """

    _name = "the ground truth"

    def __init__(
        self, pairs: list[UnreadPair], view: View, size: int, seed: int, shuffled: bool = True
    ):
        self._pairs = pairs
        self._view = view
        self._shuffled = shuffled
        super().__init__(len(pairs), size, seed)
        self.load(0)

    def _origin(self, number: int) -> str:
        return f"the ground truth, {self._pairs[number].name}"

    def _draw_epoch(self, draw: np.random.Generator) -> np.ndarray:
        return draw.permutation(len(self)) if self._shuffled else np.arange(len(self))

    def _load_pair(self, number: int, draw: np.random.Generator) -> dict[str, np.ndarray]:
        pair = self._pairs[number].read()
        if pair is None:
            raise InputError("it has no match in both images")
        if not len(pair.points):
            raise InputError("it has no point with ground truth")
        return make_pair(pair, self._view, self._size, draw)


def training_truth(group: str, config: DataConfig, seed: int) -> TruePairs:
    """Returns the pairs of a group of the configuration to train on.

    Raises:
        InputError: if the folder is of another layout, or none of its pairs can be read.
    """
    own = getattr(config, group)
    pairs, _ = split_truth(find_truth(group, own.folder, own.layout), config.validation_share)
    return TruePairs(pairs, _view(group, config), config.size, seed)


def validation_truth(config: DataConfig, seed: int) -> list[TruePairs]:
    """Returns the pairs to validate on, of each group that the configuration names.

    Raises:
        InputError: as `training_truth` does.
    """
    held_out = []
    for group in LAYOUTS:
        own = getattr(config, group)
        if own.folder is None:
            continue
        _, pairs = split_truth(find_truth(group, own.folder, own.layout), config.validation_share)
        view = _view(group, config)._replace(mirror=0.0)
        if view.share is not None:
            view = view._replace(share=(1.0, 1.0))
        held_out.append(TruePairs(pairs, view, config.size, seed, shuffled=False))
    return held_out


def _view(group: str, config: DataConfig) -> View:
    visible = config.mask == "visible"
    if group == "flow":
        return View(config.flow.view, config.flow.mirror, visible)
    return View(None, 0.0, visible)


def make_pair(
    pair: EvaluationPair, view: View, size: int, draw: np.random.Generator
) -> dict[str, np.ndarray]:
    """Brings a pair and its ground truth to a square.

    Args:
        pair: as it was read.
        view: how it is shown.
        size: height and width of the result.
        draw: of where it is cut out, and whether it is mirrored.

    Returns:
        As `RealPairs.load`. A homography is exact at every pixel. A dense flow is interpolated, but
        not over its edges. Single matches are at the pixels next to them.
    """
    source, target = pad_alike(pair.source, pair.target)
    height, width = target.shape[:2]
    corner, sides = np.zeros(2, int), np.array([width, height])
    if view.share is not None:
        sides[:] = max(round(draw.uniform(*view.share) * min(height, width)), 1)
        corner = (draw.random(2) * (np.array([width, height]) - sides + 1)).astype(int)
    scale = size / sides
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1)
    # Where the pixels of the result lie in the target.
    places = (grid + 0.5) / scale - 0.5 + corner

    if pair.homography is not None:
        matches, _ = map_points(pair.homography, places)
        known = np.isfinite(matches).all(axis=-1) & _within(places, pair.target.shape)
        flow = np.where(known[..., None], (matches - places), 0.0) * scale
        hidden = ~_within(places + flow / scale, pair.source.shape)
    elif _is_dense(pair):
        flow, known = _resample(pair, places.astype(np.float32))
        flow, hidden = flow * scale, np.zeros([size, size], bool)
    else:
        inside = ((pair.points >= corner - 0.5) & (pair.points < corner + sides - 0.5)).all(axis=1)
        points = (pair.points[inside] - corner + 0.5) * scale - 0.5
        weights = 1.0 if pair.weights is None else pair.weights[inside]
        flow, known = scatter(points, pair.true_flow[inside] * scale, size, weights)
        hidden = np.zeros([size, size], bool)
    hidden = hidden | ~_within(grid + flow, (size, size))
    mask = np.where(hidden, 0.0, known) if view.visible else known.astype(np.float32)
    unmatched = (known > 0) & hidden & (mask == 0)
    box = np.s_[corner[1] : corner[1] + sides[1], corner[0] : corner[0] + sides[0]]
    images = [_resize(image[box], size) for image in (source, target)]
    made = [*images, np.where((known > 0)[..., None], flow, 0.0), mask, unmatched]
    if draw.random() < view.mirror:
        made = [array[:, ::-1] for array in made]
        made[2] = made[2] * [-1, 1]
    names = ("source", "target", "flow", "mask", "unmatched")
    return {
        name: np.ascontiguousarray(array, np.float32)
        for name, array in zip(names, made, strict=True)
    }


def _is_dense(pair: EvaluationPair) -> bool:
    """Whether the ground truth is that of whole pixels, and of more than one in a hundred."""
    area = np.prod(pair.target.shape[:2])
    return len(pair.points) > area / 100 and (pair.points == np.rint(pair.points)).all()


def _resample(pair: EvaluationPair, places) -> tuple[np.ndarray, np.ndarray]:
    """Samples a dense flow: bilinearly, at its edges and those of what is known the nearest."""
    x, y = pair.points.astype(int).T
    dense = np.zeros([*pair.target.shape[:2], 3], np.float32)
    dense[y, x, :2], dense[y, x, 2] = pair.true_flow, 1.0
    around = np.ones((3, 3), np.uint8)
    spread = (cv2.dilate(dense, around) - cv2.erode(dense, around)).max(axis=-1)
    nearest, smooth = (
        cv2.remap(dense, places, None, way) for way in (cv2.INTER_NEAREST, cv2.INTER_LINEAR)
    )
    edge = cv2.remap(np.float32(spread > _EDGE), places, None, cv2.INTER_NEAREST) > 0
    edge |= smooth[..., 2] < 1 - 1e-3  # next to what is not known
    return np.where(edge[..., None], nearest, smooth)[..., :2], nearest[..., 2] > 0


def _within(positions, shape) -> np.ndarray:
    limit = np.array([shape[1], shape[0]]) - 0.5
    return ((positions >= -0.5) & (positions <= limit)).all(axis=-1)


def _resize(image: np.ndarray, size: int) -> np.ndarray:
    shrinks = min(image.shape[:2]) > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image.astype(np.float32), (size, size), interpolation=interpolation)
