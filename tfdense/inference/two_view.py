"""The geometry of two views from single matches, which may be wrong: homography and relative pose.

Both are found by OpenCV's USAC: samples are drawn in the order of the confidence (PROSAC), scored
and polished without a hard bound between inliers and outliers (MAGSAC).
"""

from typing import NamedTuple

import cv2
import numpy as np

# As many as the authors draw to find a homography.
_MAXIMUM_ITERATIONS = 3000
_REFINEMENTS = 3
# Of points behind which the depth is not checked, in baselines: distant scenes count too.
_LARGEST_DEPTH = 1e9


class Homography(NamedTuple):
    """A homography between two images.

    Attributes:
        matrix: maps the source's (x, y, 1) to the target's, float64 [3, 3], 1 at the lower right:
            ``cv2.warpPerspective(source, matrix, size)`` looks like the target.
        inliers: which matches agree with it, bool [count].
    """

    matrix: np.ndarray
    inliers: np.ndarray


class Pose(NamedTuple):
    """How the camera of the target stands to that of the source.

    A point X in the source camera's coordinates is at ``rotation @ X + translation`` in the
    target camera's; two images do not tell the unit of length.

    Attributes:
        rotation: float64 [3, 3].
        translation: of length 1, float64 [3].
        inliers: which matches agree with it and lie before both cameras, bool [count].
    """

    rotation: np.ndarray
    translation: np.ndarray
    inliers: np.ndarray


def fit_homography(
    source: np.ndarray, target: np.ndarray, confidence: np.ndarray, threshold: float
) -> Homography | None:
    """Finds the homography that most matches agree with.

    Its inliers are then fitted by least squares, each weighted by its confidence.

    Args:
        source, target: (x, y) of the matches, the most confident first, float32 [count, 2].
        confidence: [count].
        threshold: largest distance of an inlier in the target, in px.

    Returns:
        The homography; None for fewer than four matches, or if no homography is found.
    """
    if len(source) < 4:
        return None
    matrix, mask = cv2.findHomography(source, target, _usac(threshold))
    if matrix is None or np.count_nonzero(mask) < 4:
        return None
    inliers = mask.ravel().astype(bool)
    matrix = _refine(matrix, source[inliers], target[inliers], confidence[inliers])
    return Homography(matrix / matrix[2, 2], inliers)


def fit_pose(
    source: np.ndarray,
    target: np.ndarray,
    camera_source: np.ndarray,
    camera_target: np.ndarray,
    threshold: float,
) -> Pose | None:
    """Finds the relative pose that most matches agree with, from the essential matrix.

    Args:
        source, target: (x, y) of the matches, the most confident first, float32 [count, 2].
        camera_source, camera_target: the intrinsic matrices, [3, 3].
        threshold: largest distance of an inlier from its epipolar line, in px.

    Returns:
        The pose; None for fewer than five matches, or if no pose is found.
    """
    if len(source) < 5:
        return None
    undistorted = np.zeros(4)
    essential, mask = cv2.findEssentialMat(
        source,
        target,
        camera_source,
        camera_target,
        undistorted,
        undistorted,
        _usac(threshold),
    )
    if essential is None or essential.shape != (3, 3):
        return None
    rays = [
        cv2.undistortPoints(points[:, None], camera, None)
        for points, camera in ((source, camera_source), (target, camera_target))
    ]
    count, rotation, translation, mask = cv2.recoverPose(
        essential, *rays, np.eye(3), _LARGEST_DEPTH, mask=mask
    )[:4]
    if count < 5:
        return None
    return Pose(rotation, translation[:, 0], mask.ravel().astype(bool))


def map_points(homography: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps points by a homography.

    Args:
        homography: [3, 3].
        points: (x, y), [..., 2].

    Returns:
        The places (x, y), [..., 2], and their denominators [...]; where these are not positive
        the point lies behind the camera and the place is infinite.
    """
    mapped = points @ homography[:, :2].T + homography[:, 2]
    denominator = mapped[..., 2]
    before = denominator > 0
    places = np.full(points.shape, np.inf)
    places[before] = mapped[before, :2] / denominator[before, None]
    return places, denominator


def _usac(threshold: float) -> cv2.UsacParams:
    params = cv2.UsacParams()
    params.threshold = threshold
    params.confidence = 0.99999
    params.maxIterations = _MAXIMUM_ITERATIONS
    params.sampler = cv2.SAMPLING_PROSAC
    params.score = cv2.SCORE_METHOD_MAGSAC
    params.loMethod = cv2.LOCAL_OPTIM_SIGMA
    params.loIterations = 10
    params.loSampleSize = 50
    params.final_polisher = cv2.MAGSAC
    params.final_polisher_iterations = 3
    return params


def _refine(matrix, source, target, weights) -> np.ndarray:
    """Minimises the weighted squared distance in the target, from a first homography on.

    Each step solves the linear equations of the homography, divided by the former denominators:
    their residuals are then distances. Both images are normalised (Hartley 1997).
    """
    normalise_source, normalise_target = _normalisation(source), _normalisation(target)
    points, _ = map_points(normalise_source, source)
    aims, _ = map_points(normalise_target, target)
    matrix = normalise_target @ matrix @ np.linalg.inv(normalise_source)
    homogeneous = np.column_stack([points, np.ones(len(points))])
    zeros = np.zeros_like(homogeneous)
    equations = np.concatenate(
        [
            np.hstack([homogeneous, zeros, -aims[:, :1] * points]),
            np.hstack([zeros, homogeneous, -aims[:, 1:] * points]),
        ]
    )
    for _ in range(_REFINEMENTS):
        scale = np.tile(np.sqrt(weights) / (homogeneous @ matrix[2] / matrix[2, 2]), 2)
        solution, *_ = np.linalg.lstsq(
            equations * scale[:, None], aims.T.ravel() * scale, rcond=None
        )
        matrix = np.append(solution, 1.0).reshape(3, 3)
    return np.linalg.inv(normalise_target) @ matrix @ normalise_source


def _normalisation(points: np.ndarray) -> np.ndarray:
    """Returns the matrix that moves points to the origin and scales them to a spread of 1."""
    centre = points.mean(axis=0, dtype=np.float64)
    scale = 1 / max(float((points - centre).std()), 1e-6)
    return np.array([[scale, 0, -scale * centre[0]], [0, scale, -scale * centre[1]], [0, 0, 1.0]])
