"""Geometry of two views whose cameras are not known: fundamental matrix, and one focal length.

With square pixels, no skew and the principal point in the middle of the images, two views by the
same camera tell its focal length (Stewénius et al. 2005, Hartley & Zisserman 2004, section 19.3).
They do not if the camera only turned or its axes meet in one point, and it is seen poorly where
that is nearly so.
"""

from typing import NamedTuple

import cv2
import numpy as np

from tfdense.inference.two_view import Matches, Pose, usac

_LEAST = 8
# Of the longer side; from some 150 to 7 degrees.
_FOCAL_LENGTHS = np.geomspace(0.25, 8, 200)


class Epipolar(NamedTuple):
    """The epipolar geometry of two images.

    Attributes:
        matrix: F of ``target.T @ F @ source == 0`` with places (x, y, 1) in px, float64 [3, 3].
        inliers: the matches that agree with it.
    """

    matrix: np.ndarray
    inliers: Matches


class SharedFocal(NamedTuple):
    """How the camera moved between two images, and its focal length.

    Attributes:
        focal: of both images, in px.
        pose: see `tfdense.inference.two_view.Pose`.
    """

    focal: float
    pose: Pose


def fit_fundamental(matches: Matches, distance: float) -> Epipolar | None:
    """Finds the fundamental matrix that most matches agree with.

    Args:
        matches: at least eight of them are needed.
        distance: the largest of an inlier from its epipolar line, in px.

    Returns:
        The matrix; None if there are too few matches or none is found.
    """
    if len(matches.source) < _LEAST:
        return None
    matrix, mask = cv2.findFundamentalMat(matches.source, matches.target, usac(distance))
    if matrix is None or matrix.shape != (3, 3) or np.count_nonzero(mask) < _LEAST:
        return None
    return Epipolar(matrix, matches.select(mask.ravel().astype(bool)))


def fit_shared_focal(matches, sizes, distance, start="f"):
    frames = [_Frame(size) for size in sizes]
    points = [frame.centred(values) for frame, values in zip(frames, matches[:2], strict=True)]
    scale = np.mean([frame.scale for frame in frames])
    if start == "f":
        found = fit_fundamental(
            Matches(*map(np.float32, points), matches.confidence), distance / scale
        )
        if found is None:
            return None
        agree = None
        costs = [
            _inequality(np.diag([f, f, 1]) @ found.matrix @ np.diag([f, f, 1]))
            for f in _FOCAL_LENGTHS
        ]
        focal = _FOCAL_LENGTHS[np.argmin(costs)]
    else:
        import poselib

        pair, info = poselib.estimate_shared_focal_relative_pose(
            points[0] * 1000,
            points[1] * 1000,
            np.zeros(2),
            {"max_epipolar_error": 1000 * distance / scale, "seed": 0, "max_iterations": 10000},
            {},
        )
        focal = pair.camera1.focal() / 1000
    return focal


def _inequality(essential):
    first, second, _ = np.linalg.svd(essential)[1]
    return 1 - second / first


class _Frame:
    def __init__(self, size):
        self.scale = max(size)
        self.centre = (np.array(size) - 1) / 2

    def centred(self, points):
        return (np.float64(points) - self.centre) / self.scale
