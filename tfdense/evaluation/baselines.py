"""Classical methods to compare a network with, called like a `tfdense.inference.matcher.Matcher`.

They have no confidence of their own. What they give as such orders the pixels by the error of going
to the source and back; it is no probability.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

from tfdense.evaluation.metrics import forward_backward_error
from tfdense.evaluation.pairs import resize, scale_points
from tfdense.inference.two_view import Homography, Matches, Pose, fit_pose, map_points

# Of SIFT: of the distances to the nearest and the second nearest feature; in px; of RANSAC.
_RATIO = 0.85
_INLIER_THRESHOLD = 2.0
_EPIPOLAR_DISTANCE = 1.0
_ITERATIONS, _CERTAINTY = 10_000, 0.9999

# Takes source and target, uint8 [height, width], and returns the flow [height, width, 2].
FlowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class BaselineMatch:
    """What a classical method gives.

    Attributes:
        flow: (dx, dy) in px, float32 [height, width, 2] at the target's size, into the source.
        confidence: 1 / (1 + forward-backward error in px), 0 where the flow leaves the source,
            float32 [height, width].
    """

    flow: np.ndarray
    confidence: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureMatch(BaselineMatch):
    """What a method gives that fits a geometry to single matches.

    Attributes:
        found: the matches, from which both geometries are found.
        fitted: the homography, if one was found.
    """

    found: Matches
    fitted: Homography | None

    def matches(self) -> Matches:
        """Returns the single matches, like `Match.matches`."""
        return self.found

    def homography(self) -> Homography | None:
        """Returns the homography from source to target, like `Match.homography`."""
        return self.fitted

    def pose(self, K_source: np.ndarray, K_target: np.ndarray) -> Pose | None:
        """Returns how the camera moved, like `Match.pose`."""
        return fit_pose(self.found, K_source, K_target, _EPIPOLAR_DISTANCE)


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A classical method that estimates a flow.

    Attributes:
        estimate: its flow.
    """

    estimate: FlowFunction

    def match(self, source: np.ndarray, target: np.ndarray) -> BaselineMatch:
        """Matches two images, uint8 [height, width, 3], of any sizes."""
        source, target = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (source, target))
        flow = self.estimate(source, target)
        error = forward_backward_error(flow, self.estimate(target, source))
        return BaselineMatch(flow, 1 / (1 + error))


def _identity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.zeros((*target.shape, 2), np.float32)


def _inverse_search(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return _at_one_size(lambda source, target: method.calc(target, source, None), source, target)


def _farneback(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    def estimate(source, target):
        return cv2.calcOpticalFlowFarneback(
            target,
            source,
            None,
            pyr_scale=0.5,
            levels=6,
            winsize=15,
            iterations=5,
            poly_n=7,
            poly_sigma=1.5,
            flags=0,
        )

    return _at_one_size(estimate, source, target)


def _at_one_size(estimate: FlowFunction, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Lets a method that needs images of one size see the source at the target's."""
    if source.shape == target.shape:
        return estimate(source, target)
    grid = _grid(target)
    flow = estimate(resize(source, target.shape), target)
    positions = scale_points(grid + flow, target.shape, source.shape)
    return (positions - grid).astype(np.float32)


class FeatureBaseline:
    """One homography, fitted to SIFT matches; without one, nothing moves."""

    def match(self, source: np.ndarray, target: np.ndarray) -> FeatureMatch:
        """Matches two images, uint8 [height, width, 3], of any sizes."""
        source, target = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (source, target))
        matches = _feature_matches(source, target)
        found, inverse = (
            _fit_homography(found) for found in (matches, _feature_matches(target, source))
        )
        flow = _homography_flow(found, source, target)
        error = forward_backward_error(flow, _homography_flow(inverse, target, source))
        return FeatureMatch(flow, 1 / (1 + error), matches, found)


def _feature_matches(source: np.ndarray, target: np.ndarray) -> Matches:
    """Matches SIFT features, for each of the target its nearest in the source if it is distinct."""
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


def _fit_homography(matches: Matches) -> Homography | None:
    """Fits by MAGSAC++; the errors are measured in the source, as those of flow are."""
    if len(matches.source) < 4:
        return None
    matrix, inliers = cv2.findHomography(
        matches.target,
        matches.source,
        cv2.USAC_MAGSAC,
        _INLIER_THRESHOLD,
        maxIters=_ITERATIONS,
        confidence=_CERTAINTY,
    )
    if matrix is None:
        return None
    return Homography(matrix, matches.select(inliers.ravel() > 0).swap()).swap()


def _homography_flow(
    homography: Homography | None, source: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """Keeps the matched place within the source: a wrong homography has no limit."""
    if homography is None:
        return _identity(source, target)
    grid = _grid(target)
    mapped, _ = map_points(homography.swap().matrix, grid)
    return (np.clip(mapped, 0, np.array(source.shape[::-1]) - 1) - grid).astype(np.float32)


def _grid(image: np.ndarray) -> np.ndarray:
    height, width = image.shape
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)


BASELINES = {
    "identity": Baseline(_identity),
    "DIS": Baseline(_inverse_search),
    "Farneback": Baseline(_farneback),
    "SIFT + homography": FeatureBaseline(),
}
