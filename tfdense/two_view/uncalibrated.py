"""Geometry of two views whose cameras are not known: fundamental matrix, and one focal length.

With square pixels, no skew and the principal point in the middle of the images, two views by the
same camera tell its focal length. They do not if the camera only turned, or did not turn, or if it
looks at one point from the same distance, and say little where that is nearly so (Hartley &
Zisserman 2004, section 19.3; Sturm 2001).
"""

from typing import NamedTuple

import cv2
import numpy as np
from scipy.optimize import least_squares

from tfdense.two_view.estimation import (
    Matches,
    Pose,
    epipolar_distance,
    fit_pose,
    perpendicular,
    usac,
)

_LEAST = 8
# Of the longer side: the image sees from 127 to 7 degrees.
_FOCAL_LENGTHS = np.geomspace(0.25, 8, 200)
_ROUNDS = 2


class Epipolar(NamedTuple):
    """The epipolar geometry of two images.

    Attributes:
        matrix: F of ``target.T @ F @ source == 0`` with places (x, y, 1) in px, float64 [3, 3].
        inliers: the matches that agree with it.
    """

    matrix: np.ndarray
    inliers: Matches


class SelfCalibration(NamedTuple):
    """How the camera moved between two images, and its focal length.

    Attributes:
        K_source, K_target: intrinsic matrices of the images' own pixels, float64 [3, 3]; for
            images of one size they are equal.
        pose: see `tfdense.two_view.estimation.Pose`.
    """

    K_source: np.ndarray
    K_target: np.ndarray
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


def fit_shared_focal(
    matches: Matches, sizes: tuple[tuple[int, int], tuple[int, int]], distance: float
) -> SelfCalibration | None:
    """Finds pose and focal length of two views by one camera.

    The focal length, relative to the image's longer side, is that of both: they may be of
    different sizes, and one turned by 90 degrees.

    The first focal length is the one with which the fundamental matrix is an essential matrix,
    whose two singular values are equal (Mendonça & Cipolla 1999). Then pose and focal length
    together minimise Sampson's distance of the inliers, each weighted by its confidence.

    Args:
        matches: at least eight of them are needed.
        sizes: (width, height) of source and target.
        distance: the largest of an inlier from its epipolar line, in px.

    Returns:
        The cameras and the pose; None if there are too few matches or none is found.
    """
    found = fit_fundamental(matches, distance)
    if found is None:
        return None
    unequal = [
        _inequality(_camera(sizes[1], focal).T @ found.matrix @ _camera(sizes[0], focal))
        for focal in _FOCAL_LENGTHS
    ]
    focal = _FOCAL_LENGTHS[np.argmin(unequal)]
    for _ in range(_ROUNDS):
        pose = fit_pose(matches, *(_camera(size, focal) for size in sizes), distance)
        if pose is None:
            return None
        focal = _refine(pose, sizes, focal, distance)
    cameras = [_camera(size, focal) for size in sizes]
    pose = fit_pose(matches, *cameras, distance)
    return None if pose is None else SelfCalibration(*cameras, pose)


def _camera(size: tuple[int, int], focal: float) -> np.ndarray:
    """Returns the intrinsic matrix of an image; the focal length is in its longer sides."""
    width, height = size
    length = focal * max(size)
    return np.array([[length, 0, (width - 1) / 2], [0, length, (height - 1) / 2], [0, 0, 1.0]])


def _inequality(essential: np.ndarray) -> float:
    """Returns how far a matrix is from an essential one, in 0..1."""
    first, second, _ = np.linalg.svd(essential, compute_uv=False)
    return 1 - second / first


def _refine(pose: Pose, sizes, focal: float, distance: float) -> float:
    """Returns the focal length, in longer sides, that with some pose fits the inliers best."""
    scaled = [
        (points - (np.array(size) - 1) / 2) / max(size)
        for points, size in zip(pose.inliers[:2], sizes, strict=True)
    ]
    weights = np.sqrt(pose.inliers.confidence)
    turn = perpendicular(pose.translation)
    ones = np.ones((len(weights), 1))

    def residuals(step):
        rotation = cv2.Rodrigues(step[:3])[0] @ pose.rotation
        translation = pose.translation + step[3:5] @ turn
        length = focal * np.exp(step[5])
        rays = (np.hstack([points / length, ones]) for points in scaled)
        return weights * length * epipolar_distance(rotation, translation, *rays)

    # Outliers that came along count less.
    unit = distance / max(map(max, sizes))
    fitted = least_squares(residuals, np.zeros(6), loss="soft_l1", f_scale=unit, max_nfev=50)
    return float(np.clip(focal * np.exp(fitted.x[5]), _FOCAL_LENGTHS[0], _FOCAL_LENGTHS[-1]))
