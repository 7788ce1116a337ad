"""Classical methods to compare a network with, called like a `tfdense.matcher.Matcher`.

They have no confidence of their own. What they give as such orders the pixels by the error of going
to the source and back; it is no probability.
"""

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.features import (
    FeatureBaseline,
    homography_flow,
    local_affine_flow,
    sift_matches,
)
from tfdense.evaluation.metrics import forward_backward_error
from tfdense.evaluation.pairs import resize, scale_points
from tfdense.pixels import pixel_positions

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


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A classical method that estimates a flow.

    Attributes:
        estimate: its flow.
    """

    estimate: FlowFunction

    def match(self, source: np.ndarray, target: np.ndarray) -> BaselineMatch:
        """Matches two images, uint8 [height, width, 3], of any sizes."""
        flow = self.flow(source, target)
        error = forward_backward_error(flow, self.flow(target, source))
        return BaselineMatch(flow, 1 / (1 + error))

    def flow(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Returns the flow alone, float32 [height, width, 2]."""
        return self.estimate(*(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in (source, target)))


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


def _deep_flow(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    method = cv2.optflow.createOptFlow_DeepFlow()
    return _at_one_size(lambda source, target: method.calc(target, source, None), source, target)


def _at_one_size(estimate: FlowFunction, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Lets a method that needs images of one size see the source at the target's."""
    if source.shape == target.shape:
        return estimate(source, target)
    grid = pixel_positions(target.shape, np.float32)
    flow = estimate(resize(source, target.shape), target)
    positions = scale_points(grid + flow, target.shape, source.shape)
    return (positions - grid).astype(np.float32)


BASELINES = {
    "identity": Baseline(_identity),
    "DIS": Baseline(_inverse_search),
    "Farneback": Baseline(_farneback),
    "DeepFlow": Baseline(_deep_flow),
    "SIFT + homography": FeatureBaseline(sift_matches, homography_flow),
    "SIFT + local affine": FeatureBaseline(sift_matches, local_affine_flow),
}
USUAL = tuple(name for name in BASELINES if name != "DeepFlow")
"""Names of those that run wherever tfdense does."""


def choose(names: Sequence[str]) -> dict[str, Baseline | FeatureBaseline]:
    """Returns methods by name.

    Args:
        names: keys of `BASELINES`.

    Raises:
        InputError: if OpenCV was installed without what DeepFlow is part of.
    """
    extra = getattr(cv2, "optflow", None)
    if "DeepFlow" in names and not hasattr(extra, "createOptFlow_DeepFlow"):
        raise InputError(
            "DeepFlow needs OpenCV with its contributed modules: pip install 'tfdense[peers]', and "
            "where that is installed, pip install --force-reinstall --no-deps "
            "opencv-contrib-python-headless"
        )
    return {name: BASELINES[name] for name in names}
