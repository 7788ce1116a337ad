"""Key points that a detector found in each of two images, matched through the flow."""

from typing import NamedTuple

import numpy as np

from tfdense.optional import needed_for


class KeypointMatches(NamedTuple):
    """Which key points of two images belong together, the most confident first.

    Attributes:
        source: numbers of the source's key points, int [count].
        target: numbers of the target's, each of which is there at most once, int [count].
        confidence: at the target's pixel, float32 [count].
    """

    source: np.ndarray
    target: np.ndarray
    confidence: np.ndarray


def match_keypoints(
    flow: np.ndarray,
    confidence: np.ndarray,
    accepted: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    distance: float,
) -> KeypointMatches:
    """Matches key points as PDC-Net's authors do.

    Args:
        flow: (dx, dy) in px, [height, width, 2].
        confidence: [height, width].
        accepted: which of the target's pixels may be used, bool [height, width].
        source, target: the key points' (x, y), in px, [count, 2] each.
        distance: see `Match.keypoints`.
    """
    height, width = confidence.shape
    columns, rows = np.rint(target).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    chosen = np.flatnonzero(inside)
    columns, rows = columns[chosen].astype(int), rows[chosen].astype(int)
    nearest, away = _nearest(target[chosen] + flow[rows, columns], source)
    found = accepted[rows, columns] & (away <= distance)
    order = np.argsort(-confidence[rows, columns], kind="stable")
    order = order[found[order]]
    return KeypointMatches(nearest[order], chosen[order], confidence[rows, columns][order])


def _nearest(places: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the point next to each place.

    Args:
        places: (x, y), [count, 2].
        points: (x, y), [others, 2].

    Returns:
        The number of the point, int [count], and its distance, float32 [count]; that is infinite
        where there are no points.
    """
    if not len(places) or not len(points):
        return np.zeros(len(places), int), np.full(len(places), np.inf, np.float32)
    with needed_for("Matching key points"):
        import cv2
    away, nearest = cv2.batchDistance(
        np.float32(places), np.float32(points), cv2.CV_32F, normType=cv2.NORM_L2, K=1
    )
    return nearest[:, 0].astype(int), away[:, 0]
