"""The step *complete* of a plane: all pixels follow the homography that most matches do."""

from typing import NamedTuple

import cv2
import numpy as np

from tfdense.inference.fitting import find_homography
from tfdense.inference.looks import Outputs, confidence_within
from tfdense.pixels import pixel_positions
from tfdense.results.answers import HasConfidence
from tfdense.two_view.estimation import map_points

# A match this far from the homography, in x and in y, agrees with it, in px.
_AGREEMENT = 2.0
# Standard deviation of the surroundings that are asked, as share of the longer side.
_SURROUNDINGS = 1 / 16
# What the whole image says counts as so much confidence in the surroundings, and so much confidence
# of the whole image speaks against any homography.
_WEIGHT_OF_ALL, _DOUBT_OF_ALL = 0.05, 0.005
# So much confidence around a pixel speaks against its following any homography, which is never more
# probable than that.
_DOUBT, _MOST_PROBABLE = 0.01, 0.99
# A pixel that is less certain than its surroundings is hidden there rather than hard to see: its
# odds fall with this power of the ratio.
_POWER = 1.5
# Errors of neighbouring matches are alike: they tell a homography as well as so many independent
# ones do.
_INDEPENDENT_MATCHES = 40


class Support(NamedTuple):
    """What a match says of a homography.

    Attributes:
        flow: of the homography, in px, float32 [height, width, 2]; 0 where it leads nowhere.
        leads: where it leads to any place, bool [height, width].
        inside: where it leads into the source, bool [height, width].
        share: of the confidence around each pixel, what agrees with it, [height, width].
        probability: that the pixel itself follows it, [height, width].
        variance: of the flow of a pixel that follows it, in px², [height, width].
    """

    flow: np.ndarray
    leads: np.ndarray
    inside: np.ndarray
    share: np.ndarray
    probability: np.ndarray
    variance: np.ndarray


def follow_plane(mixture: HasConfidence, outputs: Outputs) -> Outputs:
    """Gives all pixels the flow of the homography that most confident matches follow.

    Args:
        mixture: what the outputs' log-variances and logits are parameters of.
        outputs: what `Backend.run` answers.

    Returns:
        The outputs, changed if there is such a homography.
    """
    support = main_support(mixture, outputs, confidence_within(mixture, outputs))
    return outputs if support is None else follow_homography(outputs, support)


def main_support(
    mixture: HasConfidence, outputs: Outputs, confidence: np.ndarray
) -> Support | None:
    """Compares a match with the homography that most confident ones follow, if there is one.

    Args:
        mixture, outputs: see `follow_plane`.
        confidence: that its flow is right, of `confidence_within`, [height, width].
    """
    found = find_homography(mixture, outputs, distance=_AGREEMENT)
    if found is None:
        return None
    agreement = confidence_within(mixture, outputs, _AGREEMENT)
    return homography_support(outputs["flow"], confidence, agreement, found[0])


def follow_homography(outputs: Outputs, support: Support) -> Outputs:
    """Gives all pixels the flow of a homography, and the probability that they follow it.

    Within the source the first component of the mixture has the variance of the homography's flow,
    and that probability as weight. Out of it the distribution stays: there is nothing to match.

    Args:
        outputs: what `Backend.run` answers.
        support: of their flow for the homography.

    Returns:
        The outputs, changed wherever the homography leads to a place at all.
    """
    first = np.log(support.variance)[..., None]
    log_variance = np.maximum(outputs["log_variance"], first)
    log_variance[..., :1] = first
    others = np.logaddexp.reduce(outputs["logits"][..., 1:], axis=-1)
    logits = outputs["logits"].copy()
    probability = np.clip(support.probability, 1e-6, 1 - 1e-6)
    logits[..., 0] = others + np.log(probability) - np.log1p(-probability)
    leads, inside = support.leads[..., None], support.inside[..., None]
    return {
        "flow": np.where(leads, support.flow, outputs["flow"]),
        "log_variance": np.where(inside, log_variance, outputs["log_variance"]),
        "logits": np.where(inside, logits, outputs["logits"]),
    }


def homography_support(
    flow: np.ndarray, confidence: np.ndarray, agreement: np.ndarray, homography: np.ndarray
) -> Support:
    """Compares a flow with that of a homography.

    How many of the matches around a pixel agree with the homography, compared with how many would
    if all of them followed it, is the probability that the pixel's surroundings do. Its own match
    changes that: a confident one that agrees raises it, and one that is less confident than its
    surroundings lowers it. How far the homography may be wrong there grows with the distance from
    the matches that tell it.

    Args:
        flow: in px, [height, width, 2].
        confidence: the probability that the flow is right, [height, width].
        agreement: the probability that it is so close to the true one as to agree with it, in x and
            in y, [height, width].
        homography: from the source's pixels to the target's, [3, 3].

    Returns:
        How far the flow supports the homography.
    """
    height, width = flow.shape[:2]
    grid = pixel_positions((height, width))
    inverse = np.linalg.inv(homography)
    places, denominator = map_points(inverse / inverse[2, 2], grid)
    leads = denominator > 0
    inside = leads & ((places >= 0) & (places <= (width - 1, height - 1))).all(axis=-1)
    of_homography = np.where(leads[..., None], places - grid, 0.0).astype(np.float32)

    difference = np.where(leads[..., None], of_homography - flow, 0)
    agrees = (np.abs(difference) <= _AGREEMENT).all(axis=-1)
    trust = np.where(inside, confidence, 0).astype(np.float32)
    agreed = trust * agrees
    return Support(
        of_homography,
        leads,
        inside,
        _share_around(agreed, trust),
        _probability(confidence, agrees, agreed, trust * agreement),
        _variance(difference, agreed, np.where(inside[..., None], places, 0)),
    )


def _probability(
    confidence: np.ndarray, agrees: np.ndarray, agreed: np.ndarray, expected: np.ndarray
) -> np.ndarray:
    """Returns the probability that each pixel follows a homography, [height, width].

    Args:
        confidence: see `homography_support`.
        agrees: whether the flow is near that of the homography.
        agreed, expected: the confidence that agrees, and that would if all followed it.
    """
    nearby = np.minimum(_share_around(agreed, expected, _DOUBT), _MOST_PROBABLE)
    certainty = (confidence + _DOUBT) / (_around(confidence.astype(np.float32)) + _DOUBT)
    odds = nearby / (1 - nearby) * np.minimum(certainty, 1) ** _POWER
    return np.maximum(odds / (1 + odds), np.where(agrees, confidence, 0))


def _variance(difference: np.ndarray, agreed: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns the variance of the flow of pixels that follow a homography, in px².

    It is that of a prediction by linear regression: the variance of the matches around, and what
    the homography itself may be wrong by.

    Args:
        difference: of the homography's flow and that of the matches, in px, [height, width, 2].
        agreed: the confidence of those that agree, [height, width].
        places: (x, y) in the source, [height, width, 2].
    """
    squares = agreed * (difference**2).mean(axis=-1)
    # Of matches that agree to the last digit there is still one pixel's rounding.
    of_all = max(1 / 12, float(squares.mean() / max(agreed.mean(), np.finfo(np.float32).tiny)))
    nearby = _around(squares) + _WEIGHT_OF_ALL * of_all
    nearby = np.maximum(nearby / (_around(agreed) + _WEIGHT_OF_ALL), 1 / 12)
    return nearby + of_all * _leverage(places, agreed)


def _share_around(part: np.ndarray, whole: np.ndarray, doubt: float = 0.0) -> np.ndarray:
    """Returns what the part around each pixel, and a little in the whole image, is of the whole."""
    share_of_all = part.mean() / (whole.mean() + _DOUBT_OF_ALL)
    around = _around(whole) + _WEIGHT_OF_ALL + doubt
    return (_around(part) + _WEIGHT_OF_ALL * share_of_all) / around


def _leverage(places: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Returns the variance of a homography's flow over that of the matches that it was fitted to.

    It grows with the distance from them, as that of any least-squares fit: φᵀ (Σ w φφᵀ)⁻¹ φ, with φ
    the derivatives of a place by a homography's eight parameters.

    Args:
        places: (x, y) in the source, [height, width, 2].
        weight: of the match of each, [height, width].
    """
    height, width = weight.shape
    size = -(-width // 4), -(-height // 4)
    coarse = cv2.resize(places.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA).ravel()
    x, y = (coarse.reshape(-1, 2) / max(height, width) - 0.5).T.astype(np.float64)
    one, zero = np.ones_like(x), np.zeros_like(x)
    derivatives = np.stack(
        [
            [one, x, y, zero, zero, zero, x * x, x * y],
            [zero, zero, zero, one, x, y, x * y, y * y],
        ]
    )
    weights = weight / max(weight.sum(), np.finfo(np.float32).tiny) * _INDEPENDENT_MATCHES
    information = np.einsum("cin,cjn,n->ij", derivatives, derivatives, weights, optimize=True)
    # Without a match nothing is known.
    covariance = np.linalg.inv(information + 1e-6 * np.eye(8))
    leverage = np.einsum("cin,ij,cjn->n", derivatives, covariance, derivatives, optimize=True) / 2
    leverage = leverage.reshape(size[::-1]).astype(np.float32)
    return cv2.resize(leverage, (width, height), interpolation=cv2.INTER_LINEAR)


def _around(values: np.ndarray) -> np.ndarray:
    """Returns the mean around each pixel, computed at each fourth."""
    height, width = values.shape[:2]
    coarse = cv2.resize(values, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    mean = cv2.GaussianBlur(coarse, (0, 0), _SURROUNDINGS * max(coarse.shape[:2]))
    return cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)
