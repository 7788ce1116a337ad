"""How good a flow is, and how well its confidence ranks its errors: pure functions on arrays."""

from collections.abc import Callable

import numpy as np

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

    Both are divided by the largest value of the latter. 0 means that the uncertainty ranks the
    pixels as their errors do. Arguments as of `sparsification_curve`.
    """
    curve = sparsification_curve(errors, uncertainty, metric, perfect)
    oracle = sparsification_curve(errors, errors, metric, perfect)
    scale = oracle.max() + 1e-6
    share = np.linspace(0.0, 1.0, len(curve))
    return float(abs(np.trapezoid(curve / scale, share) - np.trapezoid(oracle / scale, share)))
