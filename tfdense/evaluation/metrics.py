"""How good a flow is, and how well its confidence ranks its errors: pure functions on arrays."""

from collections.abc import Callable

import numpy as np

from tfdense.pixels import pixel_positions

PCK_THRESHOLDS = (1.0, 3.0, 5.0)

# Shares of the most uncertain pixels that a sparsification curve leaves out, in percent.
_REMOVED = np.arange(0, 100, 2)


def endpoint_error(flow: np.ndarray, true_flow: np.ndarray) -> np.ndarray:
    """Returns the Euclidean distance between flows [..., 2] in px, [...]."""
    return np.linalg.norm(np.asarray(flow, np.float32) - true_flow, axis=-1)


def average_endpoint_error(errors: np.ndarray) -> float:
    """Returns the AEPE, the mean of endpoint errors, in px."""
    return float(np.mean(errors))


def percentage_of_correct_keypoints(errors: np.ndarray, threshold: float) -> float:
    """Returns PCK-T, the percentage of endpoint errors of at most `threshold` px."""
    return 100.0 * float(np.mean(errors <= threshold))


def outlier_percentage(errors: np.ndarray, true_flow: np.ndarray) -> float:
    """Returns Fl, the percentage of flows that KITTI counts as wrong.

    Wrong is an endpoint error of more than 3 px that is also more than 5 % of the true flow's
    length (Menze and Geiger, "Object scene flow for autonomous vehicles").

    Args:
        errors: [n], in px.
        true_flow: [n, 2], in px.
    """
    length = np.linalg.norm(true_flow, axis=-1)
    return 100.0 * float(np.mean((errors > 3.0) & (errors > 0.05 * length)))


def forward_backward_error(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Returns how far from each pixel one arrives by going to the source and back, in px.

    Args:
        forward: flow from target to source, [height, width, 2].
        backward: flow from source to target, [source height, source width, 2].

    Returns:
        float32 [height, width]; infinite where the forward flow leaves the source.
    """
    grid = pixel_positions(forward.shape[:2])
    places = (grid + forward).reshape(-1, 2)
    limit = np.array(backward.shape[1::-1]) - 1
    inside = ((places >= 0) & (places <= limit)).all(axis=-1)
    returned = places + sample(backward, places)
    error = np.linalg.norm(returned - grid.reshape(-1, 2), axis=-1)
    return np.where(inside, error, np.inf).astype(np.float32).reshape(forward.shape[:2])


def sample(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Reads an array between its pixels, bilinearly; beyond the border it stays constant.

    Args:
        values: [height, width] or [height, width, channels].
        positions: (x, y), [n, 2].

    Returns:
        float32 [n] or [n, channels].
    """
    limit = np.array(values.shape[1::-1]) - 1
    positions = np.clip(positions, 0, limit)
    x, y = np.minimum(positions.astype(int), np.maximum(limit - 1, 0)).T
    right, below = np.minimum(np.stack([x, y], axis=-1) + 1, limit).T
    share = positions - np.stack([x, y], axis=-1)
    across, down = (s.reshape(-1, *[1] * (values.ndim - 2)) for s in share.T)
    above_value = values[y, x] * (1 - across) + values[y, right] * across
    below_value = values[below, x] * (1 - across) + values[below, right] * across
    return (above_value * (1 - down) + below_value * down).astype(np.float32)


def sparsification_curve(
    errors: np.ndarray,
    uncertainty: np.ndarray,
    metric: Callable[[np.ndarray], float] = average_endpoint_error,
    perfect: float = 0.0,
) -> np.ndarray:
    """Returns the metric of what remains as the most uncertain pixels are left out.

    Args:
        errors: [n], in px.
        uncertainty: [n], higher is less certain; only the order counts.
        metric: of the remaining errors.
        perfect: the value once nothing remains: 0 of an AEPE, 100 of a PCK.

    Returns:
        [51], with 0, 2, ..., 98 and 100 percent left out (Ilg et al., "Uncertainty estimates and
        multi-hypotheses networks for optical flow"; PDC-Net, section 5.3).
    """
    certainty = -np.asarray(uncertainty, np.float64)
    thresholds = np.percentile(certainty, _REMOVED)
    curve = [metric(errors[certainty >= threshold]) for threshold in thresholds]
    return np.array([*curve, perfect])


def area_under_sparsification_error(
    errors: np.ndarray,
    uncertainty: np.ndarray,
    metric: Callable[[np.ndarray], float] = average_endpoint_error,
    perfect: float = 0.0,
) -> float:
    """Returns AUSE: the area between the sparsification curve and that of the true errors.

    Arguments as of `sparsification_curve`; the area as of `area_between_curves`.
    """
    curve = sparsification_curve(errors, uncertainty, metric, perfect)
    return area_between_curves(curve, sparsification_curve(errors, errors, metric, perfect))


def area_between_curves(curve: np.ndarray, oracle: np.ndarray) -> float:
    """Returns the area between a sparsification curve and that of the true errors.

    Both are divided by the largest value of the latter. 0 means that the uncertainty ranks the
    pixels as their errors do.
    """
    scale = oracle.max() + 1e-6
    share = np.linspace(0.0, 1.0, len(curve))
    return float(abs(np.trapezoid(curve / scale, share) - np.trapezoid(oracle / scale, share)))


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = 20) -> np.ndarray:
    """Counts what a reliability diagram shows; counts of several pairs may be added.

    Args:
        confidence: stated probability of being correct, [n], in [0, 1].
        correct: boolean [n].
        bins: number of equal intervals of the confidence.

    Returns:
        [bins, 3]: the number of pixels in each bin, the sum of their confidence, and how many
        are correct.
    """
    index = np.minimum((np.asarray(confidence) * bins).astype(int), bins - 1)
    sums = [np.bincount(index, weights, bins) for weights in (None, confidence, correct)]
    return np.stack(sums, axis=-1).astype(np.float64)


def within_square(flow: np.ndarray, true_flow: np.ndarray, radius: float) -> np.ndarray:
    """Returns where a flow is right in the sense of P_R: within `radius` px in x and in y."""
    return (np.abs(flow - true_flow) <= radius).all(axis=-1)


def expected_calibration_error(counts: np.ndarray) -> float:
    """Returns ECE: the mean distance of stated confidence and share of correct pixels.

    Args:
        counts: [bins, 3], of `reliability`.

    Returns:
        In 0..1: the mean over the bins, each weighted by its number of pixels (Guo et al., "On
        calibration of modern neural networks").
    """
    number, confidence, correct = counts.T
    return float(np.abs(confidence - correct).sum() / number.sum())
