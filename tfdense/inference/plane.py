"""Mode "plane": the flow of the homography that most matches follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from tfdense.inference.refinement import Outputs, confidence_within, find_homography
from tfdense.inference.two_view import map_points
from tfdense.inference.wide_baseline import match_wide_baseline

if TYPE_CHECKING:  # The command line takes the modes' names before it loads TensorFlow.
    from tfdense.inference.backends import Backend

# A match this far from the homography, in x and in y, agrees with it, in px; so many must.
_AGREEMENT, _LEAST_MATCHES = 2.0, 200
# Standard deviation of the surroundings that are asked, as share of the longer side.
_SURROUNDINGS = 1 / 16
# What the whole image says counts as so much confidence in the surroundings, and so much confidence
# of the whole image speaks against any homography.
_WEIGHT_OF_ALL, _DOUBT = 0.05, 0.005


class Support(NamedTuple):
    """What a match says of a homography.

    Attributes:
        flow: of the homography, in px, float32 [height, width, 2]; 0 where it leads nowhere.
        leads: where it leads to any place, bool [height, width].
        inside: where it leads into the source, bool [height, width].
        share: of the confidence around each pixel, what agrees with it, [height, width].
        variance: of the matches that agree with it, in px².
    """

    flow: np.ndarray
    leads: np.ndarray
    inside: np.ndarray
    share: np.ndarray
    variance: float


def match_plane(
    backend: Backend, source: np.ndarray, target: np.ndarray, size: tuple[int, int]
) -> Outputs:
    """Does as `match_wide_baseline`, and follows the homography everywhere.

    Args:
        backend, source, target, size: see `match_direct`.

    Returns:
        What `Backend.run` does; that of a single run if no homography is found.
    """
    outputs = match_wide_baseline(backend, source, target, size)
    homography = main_homography(backend, outputs)
    if homography is None:
        return outputs
    return follow_homography(outputs, confidence_within(backend, outputs), homography)


def main_homography(backend: Backend, outputs: Outputs) -> np.ndarray | None:
    """Returns the homography that most confident matches follow to two pixels, if there is one."""
    found = find_homography(backend, outputs, _LEAST_MATCHES, _AGREEMENT)
    return None if found is None else found[0]


def follow_homography(outputs: Outputs, confidence: np.ndarray, homography: np.ndarray) -> Outputs:
    """Gives all pixels the flow of the homography, and the probability that their surroundings do.

    Within the source the first component of the mixture has the variance of the matches that agree,
    and their share as weight. Out of it the distribution stays: there is nothing to match.

    Args:
        outputs: what `Backend.run` answers.
        confidence: the probability that the flow is right, [height, width].
        homography: from the source's pixels to the target's, [3, 3].

    Returns:
        The outputs, changed wherever the homography leads to a place at all.
    """
    support = homography_support(outputs["flow"], confidence, homography)
    log_variance = np.maximum(outputs["log_variance"], np.log(support.variance))
    log_variance[..., 0] = np.log(support.variance)
    others = np.logaddexp.reduce(outputs["logits"][..., 1:], axis=-1)
    logits = outputs["logits"].copy()
    share = np.clip(support.share, 1e-6, 1 - 1e-6)
    logits[..., 0] = others + np.log(share) - np.log1p(-share)
    leads, inside = support.leads[..., None], support.inside[..., None]
    return {
        "flow": np.where(leads, support.flow, outputs["flow"]),
        "log_variance": np.where(inside, log_variance, outputs["log_variance"]),
        "logits": np.where(inside, logits, outputs["logits"]),
    }


def homography_support(flow: np.ndarray, confidence: np.ndarray, homography: np.ndarray) -> Support:
    """Compares a flow with that of a homography.

    Args:
        flow: in px, [height, width, 2].
        confidence, homography: see `follow_homography`.

    Returns:
        How far the flow supports the homography.
    """
    height, width = flow.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    inverse = np.linalg.inv(homography)
    places, denominator = map_points(inverse / inverse[2, 2], grid)
    leads = denominator > 0
    inside = ((places >= 0) & (places <= (width - 1, height - 1))).all(axis=-1)
    of_homography = np.where(leads[..., None], places - grid, 0.0).astype(np.float32)

    difference = of_homography - flow
    agrees = (np.abs(difference) <= _AGREEMENT).all(axis=-1)
    trust = np.where(inside, confidence, 0).astype(np.float32)
    agreed = trust * agrees
    share_of_all = agreed.mean() / (trust.mean() + _DOUBT)
    share = (_around(agreed) + _WEIGHT_OF_ALL * share_of_all) / (_around(trust) + _WEIGHT_OF_ALL)
    squares = (agreed[..., None] * np.where(leads[..., None], difference, 0) ** 2).mean()
    # Of matches that agree to the last digit there is still one pixel's rounding.
    variance = max(1 / 12, float(squares / max(agreed.mean(), np.finfo(np.float32).tiny)))
    return Support(of_homography, leads, inside, share, variance)


def _around(values: np.ndarray) -> np.ndarray:
    """Returns the mean around each pixel, computed at each fourth."""
    height, width = values.shape
    coarse = cv2.resize(values, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    mean = cv2.GaussianBlur(coarse, (0, 0), _SURROUNDINGS * max(coarse.shape))
    return cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)
