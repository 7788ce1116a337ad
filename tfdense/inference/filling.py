"""The step *complete* of any scene: uncertain pixels get the flow of the certain ones around them.

Most of the error is made where nothing can be matched - out of the source, behind something, in
uniform areas - and there the network says so.
"""

import cv2
import numpy as np
import scipy.sparse
from scipy.sparse.linalg import spsolve

from tfdense.inference.looks import Outputs, confidence_within
from tfdense.inference.plane import Support, follow_homography, main_support
from tfdense.inference.resizing import resize_image
from tfdense.pixels import pixel_positions
from tfdense.results.answers import HasConfidence

# Less certain pixels get a new flow.
_CERTAIN = 0.8
# Weight of a pixel of some confidence: its fourth power, so that many vague ones do not outvote a
# certain one, and this, as some flow is better than none.
_POWER, _LEAST_WEIGHT = 4, 1e-6
# Pixels follow the homography if this much of the confidence around them does, and more clearly so
# than they are certain themselves: shallow relief stays.
_LEAST_SHARE, _LEAST_GAIN = 0.3, 0.9
# Nor does it lead further out of the source than this share of its size: near its horizon a
# homography that few pixels tell has no bounds.
_FARTHEST = 0.25
# The new flow is computed at each fourth pixel, as that of the network is.
_STRIDE = 4
# Neighbours whose colours (8-bit CIE L*a*b*) are this far apart are bound e times less, but never
# less than a thousandth of the most.
_COLOUR_DISTANCE, _LEAST_BOND = 10.0, 1e-3


def fill_uncertain(mixture: HasConfidence, outputs: Outputs, target: np.ndarray) -> Outputs:
    """Gives uncertain pixels the flow of the certain ones around them.

    Those that get the flow of a homography get the probability that they follow it. Elsewhere the
    distribution stays that of the network, which is right there about as often as it says.

    Args:
        mixture: what the outputs' log-variances and logits are parameters of.
        outputs: what `Backend.run` answers.
        target: uint8 [height, width, 3], of any size.

    Returns:
        The outputs with another flow where P_5 is not near 1.
    """
    confidence = confidence_within(mixture, outputs)
    support = main_support(mixture, outputs, confidence)
    filled = {**outputs, "flow": filled_flow(outputs["flow"], confidence, support, target)}
    if support is not None:
        follows = _follows(support, confidence)[..., None]
        followed = follow_homography(outputs, support)
        for name in ("log_variance", "logits"):
            filled[name] = np.where(follows, followed[name], outputs[name])
    return filled


def filled_flow(
    flow: np.ndarray, confidence: np.ndarray, support: Support | None, target: np.ndarray
) -> np.ndarray:
    """Returns the flow with that of uncertain pixels replaced.

    A pixel around which much of the confidence agrees with the homography gets the flow of this.
    The others get the flow v of the homography plus the u that minimises the sum over pixels of
    w |v + u - flow|² and over neighbours of b |u - u'|²: w grows with the confidence, b falls with
    the difference of colours. So the flow goes on from the certain pixels up to the next edge.

    Args:
        flow: in px, float32 [height, width, 2].
        confidence: the probability that the flow is right, [height, width].
        support: of the flow for a homography; None where there is none.
        target: uint8 [height, width, 3], of any size.
    """
    if support is None:
        base, leads, follows = np.zeros_like(flow), True, np.False_
        weight = confidence
    else:
        base = _bounded(support.flow)
        leads = support.leads
        follows = _follows(support, confidence)
        weight = np.where(follows, support.share, confidence)
    difference = np.where(follows[..., None], 0, flow - base)
    smooth = base + _spread(difference, weight**_POWER + _LEAST_WEIGHT, target)
    uncertain = leads & (confidence < _CERTAIN)
    filled = np.where(uncertain[..., None], smooth, flow)
    return np.where(follows[..., None], base, filled).astype(np.float32)


def _follows(support: Support, confidence: np.ndarray) -> np.ndarray:
    """Returns which pixels get the flow of the homography, bool [height, width]."""
    follows = support.inside & (support.share > _LEAST_SHARE)
    return follows & (_LEAST_GAIN * support.share > confidence)


def _bounded(flow: np.ndarray) -> np.ndarray:
    """Returns a flow, in px, that leads no further than `_FARTHEST` out of the source."""
    height, width = flow.shape[:2]
    grid = pixel_positions((height, width))
    size = np.float32([width, height])
    places = np.clip(grid + flow, -_FARTHEST * size, (1 + _FARTHEST) * size - 1)
    return (places - grid).astype(np.float32)


def _spread(values: np.ndarray, weight: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Spreads values from pixels with much weight to those with little, up to edges of colour.

    Args:
        values: [height, width, 2].
        weight: [height, width], positive.
        target: see `filled_flow`.
    """
    height, width = weight.shape
    size = -(-height // _STRIDE), -(-width // _STRIDE)
    weighted = np.dstack([weight, values * weight[..., None]]).astype(np.float32)
    coarse = cv2.resize(weighted, size[::-1], interpolation=cv2.INTER_AREA).reshape(-1, 3)
    coarse = coarse.astype(np.float64)
    system = scipy.sparse.diags_array(coarse[:, 0]) + _bonds(resize_image(target, size))
    spread = spsolve(system.tocsc(), coarse[:, 1:], permc_spec="MMD_AT_PLUS_A")
    spread = spread.reshape(*size, 2).astype(np.float32)
    return cv2.resize(spread, (width, height), interpolation=cv2.INTER_LINEAR)


def _bonds(image: np.ndarray) -> scipy.sparse.sparray:
    """Returns the Laplacian matrix of the grid of pixels, their bonds being alike in colour."""
    colour = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float64)
    index = np.arange(image[..., 0].size).reshape(image.shape[:2])
    first, second = (
        np.concatenate([ends[0].ravel(), ends[1].ravel()])
        for ends in ((index[:, :-1], index[:-1]), (index[:, 1:], index[1:]))
    )
    colour = colour.reshape(-1, 3)
    distance = np.abs(colour[first] - colour[second]).sum(axis=-1)
    bond = np.exp(-distance / _COLOUR_DISTANCE) + _LEAST_BOND
    bonds = scipy.sparse.coo_array((bond, (first, second)), (index.size, index.size))
    bonds = bonds + bonds.T
    return scipy.sparse.diags_array(bonds.sum(axis=0)) - bonds
