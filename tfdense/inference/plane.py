"""What a homography tells of the flow, where the network is uncertain or everywhere."""

from typing import NamedTuple

import cv2
import numpy as np

from tfdense.inference.two_view import map_points

# A match this far from the homography, in x and in y, agrees with it, in px.
_AGREEMENT = 2.0
# Standard deviation of the surroundings that are asked, as share of the longer side.
_SURROUNDINGS = 1 / 16
# Pixels as certain as this much of the support keep their own flow: shallow relief stays.
_LEAST_GAIN = 0.9
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


def extend_homography(
    outputs: dict[str, np.ndarray], confidence: np.ndarray, homography: np.ndarray
) -> dict[str, np.ndarray]:
    """Gives uncertain pixels the flow of the homography that the certain ones around them follow.

    A pixel is changed if the share of the confidence around it that agrees with the homography is
    clearly larger than its own confidence. So a wall goes on where it is blank, but not into what
    moves or stands before it. The distribution stays that of the network: what it did not see for
    itself is not to be trusted more.

    Args:
        outputs: what `Backend.run` answers.
        confidence: the probability that the flow is right, [height, width].
        homography: from the source's pixels to the target's, [3, 3].

    Returns:
        The outputs with the flow extended.
    """
    support = homography_support(outputs["flow"], confidence, homography)
    extended = support.inside & (_LEAST_GAIN * support.share > confidence)
    return {**outputs, "flow": np.where(extended[..., None], support.flow, outputs["flow"])}


def follow_homography(
    outputs: dict[str, np.ndarray], confidence: np.ndarray, homography: np.ndarray
) -> dict[str, np.ndarray]:
    """Gives all pixels the flow of the homography, and the probability that their surroundings do.

    Within the source the first component of the mixture has the variance of the matches that agree,
    and their share as weight. Out of it the distribution stays: there is nothing to match.

    Args:
        outputs, confidence, homography: see `extend_homography`.

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
        confidence, homography: see `extend_homography`.

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
    """Returns the mean around each pixel."""
    return cv2.GaussianBlur(values, (0, 0), _SURROUNDINGS * max(values.shape))
