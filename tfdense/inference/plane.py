"""What a homography tells of the flow, where the network is uncertain or everywhere."""

import cv2
import numpy as np

from tfdense.inference.two_view import map_points

# A match this far from the homography, in x and in y, agrees with it, in px.
_AGREEMENT = 2.0
# Standard deviation of the surroundings that are asked, as share of the longer side.
_SURROUNDINGS = 1 / 16
# Pixels as certain as this much of the share keep their own flow: shallow relief stays.
_LEAST_GAIN = 0.9
# What the whole image says counts as so much confidence in the surroundings.
_WEIGHT_OF_ALL = 0.05


def extend_homography(
    outputs: dict[str, np.ndarray], confidence: np.ndarray, homography: np.ndarray
) -> dict[str, np.ndarray]:
    """Gives uncertain pixels the flow of the homography that the certain ones around them follow.

    A pixel is changed if the share of the confidence around it that agrees with the homography is
    clearly larger than its own confidence. So a wall goes on where it is blank, but not into what
    moves or stands before it. The distribution stays that of the network: what it did not see for
    itself is not to be trusted more.

    Args:
        outputs: "flow" [height, width, 2], in px, and others that stay as they are.
        confidence: the probability that the flow is right, [height, width].
        homography: from the source's pixels to the target's, [3, 3].

    Returns:
        The outputs with the flow extended.
    """
    flow = outputs["flow"]
    of_homography, inside, _ = _flow(homography, flow.shape[:2])
    agrees = (np.abs(of_homography - flow) <= _AGREEMENT).all(axis=-1)
    trust = np.where(inside, confidence, 0).astype(np.float32)
    share_of_all = (trust * agrees).sum() / max(trust.sum(), np.finfo(np.float32).tiny)
    share = (_around(trust * agrees) + _WEIGHT_OF_ALL * share_of_all) / (
        _around(trust) + _WEIGHT_OF_ALL
    )
    extended = inside & (_LEAST_GAIN * share > confidence)
    return {**outputs, "flow": np.where(extended[..., None], of_homography, flow)}


def follow_homography(
    outputs: dict[str, np.ndarray], homography: np.ndarray
) -> dict[str, np.ndarray]:
    """Gives all pixels the flow of the homography.

    Where the network found something else the match is less certain: the variances grow by the
    mean square of the distance, along x and y, of what it found from the homography.

    Args:
        outputs: "flow" [height, width, 2], in px, "log_variance" [height, width, components], in
            log px², and others that stay as they are.
        homography: from the source's pixels to the target's, [3, 3].

    Returns:
        The outputs, changed wherever the homography leads to a place at all.
    """
    flow, log_variance = outputs["flow"], outputs["log_variance"]
    of_homography, _, defined = _flow(homography, flow.shape[:2])
    distance = np.square(of_homography - flow).mean(axis=-1, keepdims=True)
    grown = np.logaddexp(log_variance, np.log(np.maximum(distance, 1e-9)))
    return {
        **outputs,
        "flow": np.where(defined[..., None], of_homography, flow),
        "log_variance": np.where(defined[..., None], grown, log_variance),
    }


def _flow(
    homography: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns a homography's flow, and where it leads into the source and to any place."""
    height, width = size
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    inverse = np.linalg.inv(homography)
    places, denominator = map_points(inverse / inverse[2, 2], grid)
    defined = denominator > 0
    inside = ((places >= 0) & (places <= (width - 1, height - 1))).all(axis=-1)
    flow = np.where(defined[..., None], places - grid, 0.0).astype(np.float32)
    return flow, inside, defined


def _around(values: np.ndarray) -> np.ndarray:
    """Returns the mean around each pixel."""
    return cv2.GaussianBlur(values, (0, 0), _SURROUNDINGS * max(values.shape))
