"""Following points through a film: where each is in every frame, and whether it can be seen.

Two ways lead from a point to its place in a frame: from frame to frame, along which small errors
add up and a point that is hidden is lost, and from the first frame at once, which a large change
makes hard. Of both the more probable is taken, point by point, as MFT does with more ways and a
variance (Neoral, Šerých and Matas, "MFT: Long-term tracking of every pixel", WACV 2024).
"""

from typing import NamedTuple

import cv2
import numpy as np

from tfdense.mixture import Mixture
from tfdense.results.match import Match

# A place counts as right to within so many px of what the network sees.
RADIUS = 5.0
_LEAST_PROBABILITY = 0.5


class TrackedPoints(NamedTuple):
    """Where points are in a frame.

    Attributes:
        index: number of the frame, from 0.
        positions: (x, y) in px, float32 [points, 2]; of a point that is not visible it is a guess.
        probability: that the place is right to five pixels of what the network sees, float32
            [points].
        visible: whether that is 0.5 or more and the place inside of the frame, bool [points].
    """

    index: int
    positions: np.ndarray
    probability: np.ndarray
    visible: np.ndarray


def start_tracks(points: np.ndarray, frame: np.ndarray) -> TrackedPoints:
    """Returns points (x, y), [points, 2], as they are in the first frame."""
    positions = np.asarray(points, np.float32)
    certain = np.ones(len(positions), np.float32)
    return TrackedPoints(0, positions, certain, _is_inside(positions, frame))


def advance(
    mixture: Mixture,
    first: TrackedPoints,
    former: TrackedPoints,
    step: Match,
    direct: Match,
    radius: float,
) -> TrackedPoints:
    """Returns where points are one frame later.

    Args:
        mixture: the network's.
        first, former: where they are in the first frame and in the one before.
        step, direct: the frame's match, as source, with the one before and with the first.
        radius: in px, what counts as right.
    """
    chained, probability = _follow(mixture, step, former.positions, radius)
    chained_probability = probability * former.probability
    at_once, direct_probability = _follow(mixture, direct, first.positions, radius)
    better = direct_probability >= chained_probability
    positions = np.where(better[:, None], at_once, chained)
    probability = np.maximum(direct_probability, chained_probability)
    visible = (probability >= _LEAST_PROBABILITY) & _is_inside(positions, step.source)
    return TrackedPoints(former.index + 1, positions, probability, visible)


def _follow(
    mixture: Mixture, match: Match, points: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places of a target's points, and the probability of each."""
    flow, log_variance, logits = (
        _sample(values, points) for values in (match.flow, match.log_variance, match.logits)
    )
    probability = np.asarray(mixture.confidence(log_variance, logits, radius))
    inside = _is_inside(points, match.target)
    return points + flow, np.where(inside, probability, np.float32(0))


def _sample(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns bilinear samples of [height, width, channels] at (x, y), [points, channels]."""
    if not len(points):
        return np.zeros((0, values.shape[-1]), np.float32)
    at = points[:, None].astype(np.float32)
    sampled = cv2.remap(values, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.reshape(len(points), -1)


def _is_inside(points: np.ndarray, image: np.ndarray) -> np.ndarray:
    return ((points >= 0) & (points <= np.array(image.shape[1::-1]) - 1)).all(axis=-1)
