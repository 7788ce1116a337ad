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
