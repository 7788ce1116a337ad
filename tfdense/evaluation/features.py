"""Dense flows from single matches of features: what sparse matching is worth as a dense method.

The matches may be of any kind; SIFT's are found here.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
from scipy.spatial import cKDTree

from tfdense.evaluation.metrics import forward_backward_error
from tfdense.pixels import pixel_positions
from tfdense.two_view.estimation import Homography, Matches, Pose, fit_pose, map_points

# Of SIFT: of the distances to the nearest and the second nearest feature. Then in px; of RANSAC.
_RATIO = 0.85
_INLIER_THRESHOLD = 2.0
_EPIPOLAR_DISTANCE = 1.0
_ITERATIONS, _CERTAINTY = 10_000, 0.9999
# With fewer, chance decides.
_LEAST_INLIERS = 8
# Of affine fits: matches each; px from one to the next; px².
_NEIGHBOURS = 12
_STEP = 4
_RIDGE = 1.0

# Takes source and target, uint8 [height, width, 3], and returns single matches.
FindMatches = Callable[[np.ndarray, np.ndarray], Matches]
# Takes matches and the (height, width) of source and target, and returns the flow, as
# `homography_flow` does.
FitFlow = Callable[[Matches, tuple[int, int], tuple[int, int]], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureMatch:
    """What a method gives that fits a flow to single matches.

    Attributes:
        flow, confidence: as of `tfdense.evaluation.baselines.BaselineMatch`.
        found: the matches, to which the geometries are fitted, too.
    """

    flow: np.ndarray
    confidence: np.ndarray
    found: Matches

    def matches(self) -> Matches:
        """Returns the single matches, like `Match.matches`."""
        return self.found

    def homography(self) -> Homography | None:
        """Returns the homography from source to target, like `Match.homography`."""
        return find_homography(self.found)

    def pose(self, K_source: np.ndarray, K_target: np.ndarray) -> Pose | None:
        """Returns how the camera moved, like `Match.pose`."""
        return fit_pose(self.found, K_source, K_target, _EPIPOLAR_DISTANCE)


@dataclasses.dataclass(frozen=True)
class FeatureBaseline:
    """A method that finds single matches and fits a flow to them.

    Attributes:
        find: the matches.
        fit: the flow.
    """

    find: FindMatches
    fit: FitFlow

    def match(self, source: np.ndarray, target: np.ndarray) -> FeatureMatch:
        """Matches two images, uint8 [height, width, 3], of any sizes."""
        shapes = source.shape[:2], target.shape[:2]
        found = self.find(source, target)
        flow = self.fit(found, *shapes)
        error = forward_backward_error(flow, self.flow(target, source))
        return FeatureMatch(flow, 1 / (1 + error), found)

    def flow(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Returns the flow alone, float32 [height, width, 2]."""
        return self.fit(self.find(source, target), source.shape[:2], target.shape[:2])


def sift_matches(source: np.ndarray, target: np.ndarray) -> Matches:
    """Matches SIFT features, for each of the target its nearest in the source if it is distinct.

    Args:
        source, target: uint8 [height, width, 3].
    """
    source, target = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (source, target))
    detector = cv2.SIFT_create()
    source_points, source_features = detector.detectAndCompute(source, None)
    target_points, target_features = detector.detectAndCompute(target, None)
    if min(len(source_points), len(target_points)) < 2:
        return Matches(np.empty((0, 2)), np.empty((0, 2)), np.empty(0))
    candidates = cv2.BFMatcher().knnMatch(target_features, source_features, k=2)
    distinct = [best for best, second in candidates if best.distance < _RATIO * second.distance]
    return Matches(
        np.array([source_points[match.trainIdx].pt for match in distinct]).reshape(-1, 2),
        np.array([target_points[match.queryIdx].pt for match in distinct]).reshape(-1, 2),
        np.ones(len(distinct)),
    )


def find_homography(matches: Matches) -> Homography | None:
    """Fits a homography from source to target by MAGSAC++.

    Returns:
        The homography, its errors measured in the source, as those of flow are; None if less than
        8 matches agree with it.
    """
    if len(matches.source) < _LEAST_INLIERS:
        return None
    matrix, inliers = cv2.findHomography(
        matches.target,
        matches.source,
        cv2.USAC_MAGSAC,
        _INLIER_THRESHOLD,
        maxIters=_ITERATIONS,
        confidence=_CERTAINTY,
    )
    if matrix is None or np.count_nonzero(inliers) < _LEAST_INLIERS:
        return None
    return Homography(matrix, matches.select(inliers.ravel() > 0).swap()).swap()


def homography_flow(
    matches: Matches, source_shape: tuple[int, int], target_shape: tuple[int, int]
) -> np.ndarray:
    """Returns the flow of the homography of matches; where there is none, nothing moves.

    Args:
        matches: of which many may be wrong.
        source_shape, target_shape: (height, width).

    Returns:
        (dx, dy) in px, float32 [height, width, 2]; the place in the source stays within it, since
        a wrong homography has no limit.
    """
    homography = find_homography(matches)
    if homography is None:
        return np.zeros((*target_shape, 2), np.float32)
    grid = pixel_positions(target_shape, np.float32)
    places, _ = map_points(homography.swap().matrix, grid)
    return _within(places, source_shape) - grid


def local_affine_flow(
    matches: Matches, source_shape: tuple[int, int], target_shape: tuple[int, int]
) -> np.ndarray:
    """Returns the flow of affine maps, for each pixel that of the 12 nearest matches.

    Only matches count that agree with the epipolar geometry that most agree with; if these are less
    than 8, nothing moves. Arguments and result as of `homography_flow`.
    """
    inliers = _epipolar_inliers(matches)
    if len(inliers.source) < _LEAST_INLIERS:
        return np.zeros((*target_shape, 2), np.float32)
    grid = pixel_positions(target_shape, np.float32)
    # Each fourth pixel is fitted, some beyond the image, so that all others lie between four.
    height, width = (-(-size // _STEP) + 1 for size in target_shape)
    nodes = _STEP * pixel_positions((height, width), np.float32).reshape(-1, 2)
    places = _affine_places(inliers, nodes).reshape(height, width, 2)
    places = cv2.remap(places, grid / _STEP, None, cv2.INTER_LINEAR)
    return _within(places, source_shape) - grid


def _affine_places(matches: Matches, points: np.ndarray) -> np.ndarray:
    """Maps points (x, y) of the target, float32 [n, 2], by the affine fits of their neighbours."""
    tree = cKDTree(matches.target)
    _, nearest = tree.query(points, min(_NEIGHBOURS, len(matches.target)))
    around, aims = (side.astype(np.float32)[nearest] for side in (matches.target, matches.source))
    centre = around.mean(axis=1, keepdims=True)
    mean = aims.mean(axis=1)
    around, aims = around - centre, aims - mean[:, None]
    # Least squares; the ridge (px²) is for neighbours that lie on a line.
    across = around.transpose(0, 2, 1)
    slopes = np.linalg.solve(
        across @ around + _RIDGE * np.eye(2, dtype=np.float32), across @ (aims - around)
    )
    offsets = points[:, None] - centre
    return mean + (offsets + offsets @ slopes)[:, 0]


def _epipolar_inliers(matches: Matches) -> Matches:
    if len(matches.source) < _LEAST_INLIERS:
        return matches
    _, inliers = cv2.findFundamentalMat(
        matches.target,
        matches.source,
        cv2.USAC_MAGSAC,
        _INLIER_THRESHOLD,
        _CERTAINTY,
        _ITERATIONS,
    )
    agree = np.zeros(len(matches.source), bool) if inliers is None else inliers.ravel() > 0
    return matches.select(agree)


def _within(places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.clip(places, 0, np.array(shape[::-1]) - 1).astype(np.float32)
