"""The confidence of `tfdense.mixture`'s distributions in NumPy, for devices."""

import numpy as np

from tfdense.resampling import blocks

# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26, as in `tfdense.mixture`.
_SLOPE = 0.3275911
_COEFFICIENTS = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


class NumpyMixture:
    """A mixture by the name of its class in `tfdense.mixture`.

    Args:
        name: of the class.

    Raises:
        KeyError: if there is none of that name here.
    """

    def __init__(self, name: str):
        self._weigh = {
            "LaplaceMixture": _within_laplace,
            "GaussianUniformMixture": _within_gaussian_and_uniform,
        }[name]

    def confidence(self, log_variance: np.ndarray, logits: np.ndarray, radius) -> np.ndarray:
        """Returns P_R, see `tfdense.mixture.Mixture.confidence`.

        Args:
            log_variance, logits: float32 [height, width, components].
            radius: R in px, or a pair (in x, in y).

        Returns:
            float32 [height, width].
        """
        radii = np.broadcast_to(np.float32(radius), 2)
        result = np.empty(logits.shape[:2], np.float32)
        for rows in blocks(logits.shape):
            exponents = np.exp(logits[rows] - logits[rows].max(axis=-1, keepdims=True))
            within = self._weigh(log_variance[rows], radii)
            result[rows] = (exponents * within).sum(axis=-1) / exponents.sum(axis=-1)
        return result


def _within_laplace(log_variance: np.ndarray, radii: np.ndarray) -> np.ndarray:
    decay = np.float32(np.sqrt(2)) * np.exp(-0.5 * log_variance)
    return np.expm1(-radii[0] * decay) * np.expm1(-radii[1] * decay)


def _within_gaussian_and_uniform(log_variance: np.ndarray, radii: np.ndarray) -> np.ndarray:
    scale = np.exp(-0.5 * log_variance)
    normal, share = scale[..., 0] * np.sqrt(np.float32(0.5)), scale[..., 1] / np.float32(np.sqrt(3))
    return np.stack(
        [
            _erf(radii[0] * normal) * _erf(radii[1] * normal),
            np.minimum(1, radii[0] * share) * np.minimum(1, radii[1] * share),
        ],
        axis=-1,
    )


def _erf(x: np.ndarray) -> np.ndarray:
    """The error function of x >= 0, to 1e-6."""
    t = 1 / (1 + np.float32(_SLOPE) * x)
    polynomial = np.zeros_like(x)
    for coefficient in _COEFFICIENTS:
        polynomial = (polynomial + np.float32(coefficient)) * t
    return 1 - polynomial * np.exp(-(x**2))
