"""Mixture distributions of the flow: constrained parameters, likelihood, confidence, variance.

A network predicts for each pixel the flow, which is the mean of every component, a raw number for
each free variance and one logit for each component's weight. A mixture turns the raw numbers
into log-variances within its bounds (`constrain`) and evaluates the rest from them. All functions
take tensors of any leading shape and compute in float32.
"""

import abc
import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from tfdense.errors import InputError, shown

# In px²; those outside are next to 0 or infinity in float32.
_LEAST_VARIANCE, _LARGEST_VARIANCE = 1e-37, 1e38


class Mixture(abc.ABC):
    """Components that share their mean, the flow.

    Throughout, `log_variance` is float32 [..., components] as `constrain` gives it, in log px²,
    and `logits` [..., components] are the component weights before the softmax.
    """

    @property
    def free_variances(self) -> int:
        """How many raw numbers `constrain` takes for each pixel."""
        return 1

    @abc.abstractmethod
    def constrain(self, raw) -> tf.Tensor:
        """Maps raw predictions h [..., free_variances] to float32 [..., components]."""

    @abc.abstractmethod
    def log_density(self, error, log_variance) -> tf.Tensor:
        """Returns each component's log-density at an error [..., 2]: [..., components], in nats."""

    @abc.abstractmethod
    def confidence(self, log_variance, logits, radius=1.0) -> tf.Tensor:
        """Returns P_R, the probability that the true match lies within `radius` px in x and in y.

        Args:
            log_variance, logits: [..., components].
            radius: R in px, or a pair (in x, in y) where the axes have different units; at least 0
                and finite.

        Returns:
            float32 [...], in [0, 1] (PDC-Net, equation 8).

        Raises:
            InputError: if the radius, where it is no tensor, is negative or not finite.
        """

    def negative_log_likelihood(self, error, log_variance, logits) -> tf.Tensor:
        """Returns -log of the mixture's density at an error, stable for any finite input.

        Args:
            error: [..., 2], estimated minus true flow, in px.
            log_variance, logits: [..., components].

        Returns:
            float32 [...], in nats (PDC-Net, supplementary: the log-sum-exp form).
        """
        error, log_variance, logits = _float32(error, log_variance, logits)
        return tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_logsumexp(
            logits + self.log_density(error, log_variance), axis=-1
        )

    @staticmethod
    def variance(log_variance, logits) -> tf.Tensor:
        """Returns the mixture's variance ``Σ_m α_m σ_m²``, [...], in px², the same in x and y."""
        log_variance, logits = _float32(log_variance, logits)
        return tf.reduce_sum(_softmax(logits) * tf.exp(log_variance), axis=-1)

    def get_config(self) -> dict:
        """Returns the arguments of the constructor, for Keras to save."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict) -> "Mixture":
        """Undoes `get_config`."""
        return cls(**config)


@keras.saving.register_keras_serializable("tfdense")
@dataclasses.dataclass(frozen=True)
class LaplaceMixture(Mixture):
    """Laplacians with a common mean: one of small variance, one of large variance.

    Each is a product of two one-dimensional Laplacians of variance σ². The first stands for
    accurate matches, the second for errors and outliers (PDC-Net, equations 4 to 7).

    The paper fixes σ₁² at 1 px², with which P_1 cannot exceed (1 - exp(-√2))² = 0.57 however
    accurate the flow is. With `least_first_variance` σ₁² is predicted too, and P_1 can reach 1.

    Attributes:
        first_variance: σ₁² or its upper bound, in px².
        minimum_variance, maximum_variance: bounds of σ₂², in px². The paper takes 2 and the
            squared size of the training images.
        least_first_variance: lower bound of σ₁², in px²; None fixes σ₁².
    """

    maximum_variance: float
    minimum_variance: float = 2.0
    first_variance: float = 1.0
    least_first_variance: float | None = None

    def __post_init__(self):
        if not 0 < self.first_variance <= self.minimum_variance < self.maximum_variance:
            raise InputError(
                "Expected 0 < first_variance <= minimum_variance < maximum_variance. "
                f"Received: {self.first_variance}, {self.minimum_variance}, "
                f"{self.maximum_variance}"
            )
        if self.first_variance < _LEAST_VARIANCE or self.maximum_variance > _LARGEST_VARIANCE:
            raise InputError(
                f"Expected variances from {_LEAST_VARIANCE} to {_LARGEST_VARIANCE}. "
                f"Received: {self.first_variance}, {self.maximum_variance}"
            )
        least = self.least_first_variance
        if least is not None and not _LEAST_VARIANCE <= least < self.first_variance:
            raise InputError(
                "Expected 0 < least_first_variance < first_variance. "
                f"Received: {least}, {self.first_variance}"
            )

    @property
    def free_variances(self) -> int:
        return 1 if self.least_first_variance is None else 2

    def constrain(self, raw) -> tf.Tensor:
        """Maps raw predictions h to log-variances.

        ``log σ² = log(minimum + (maximum - minimum) sigmoid(h - log maximum))``: h is about the
        log-variance itself in the middle of the range (PDC-Net, equation 7 and supplementary).

        Args:
            raw: [..., free_variances]: that of σ₂² last.

        Returns:
            float32 [..., 2]: log σ₁² and log σ₂², in log px².
        """
        raw = tf.cast(raw, tf.float32)
        second = _bounded_log_variance(raw[..., -1:], self.minimum_variance, self.maximum_variance)
        if self.least_first_variance is None:
            first = tf.fill(tf.shape(second), math.log(self.first_variance))
        else:
            first = _bounded_log_variance(
                raw[..., :1], self.least_first_variance, self.first_variance
            )
        return tf.concat([first, second], axis=-1)

    def log_density(self, error, log_variance) -> tf.Tensor:
        """``-log(2 σ²) - √2 |error|₁ / σ`` (PDC-Net, equation 3)."""
        absolute = tf.reduce_sum(tf.abs(error), axis=-1, keepdims=True)
        return -math.log(2.0) - log_variance - _laplace_decay(log_variance) * absolute

    def confidence(self, log_variance, logits, radius=1.0) -> tf.Tensor:
        """``P_R = Σ_m α_m (1 - exp(-√2 R / σ_m))²`` (PDC-Net, equation 8)."""
        log_variance, logits = _float32(log_variance, logits)
        decay = _laplace_decay(log_variance)
        radius_x, radius_y = _pair(radius)
        within = tf.math.expm1(-radius_x * decay) * tf.math.expm1(-radius_y * decay)
        first, second = within[..., :1], within[..., 1:]
        # Of two components the softmax is a sigmoid, and devices take a tenth of the time for it.
        share = tf.sigmoid(logits[..., :1] - logits[..., 1:])
        return tf.squeeze(second + share * (first - second), axis=-1)


@keras.saving.register_keras_serializable("tfdense")
@dataclasses.dataclass(frozen=True)
class GaussianUniformMixture(Mixture):
    """A normal distribution around the flow, and a uniform one over the whole image.

    The uniform component stands for matches that the network cannot find; it covers a square of
    side `extent` around the mean. The variance is bounded below, without which the likelihood
    would grow without end where a pixel is fitted exactly, and above by the squared extent.

    Attributes:
        extent: side of the square that the uniform component covers, in px.
        minimum_variance: lower bound of the normal's σ², in px².
    """

    extent: float
    minimum_variance: float = 0.01

    def __post_init__(self):
        # The square of a huge extent would raise an OverflowError.
        largest = math.sqrt(_LARGEST_VARIANCE)
        if (
            not 0 < self.extent <= largest
            or not _LEAST_VARIANCE <= self.minimum_variance < self.extent**2
        ):
            raise InputError(
                f"Expected 0 < minimum_variance < extent², 0 < extent <= {largest:g}. "
                f"Received: {self.extent}, {self.minimum_variance}"
            )

    def constrain(self, raw) -> tf.Tensor:
        """Maps a raw prediction h to log-variances.

        Args:
            raw: [..., 1].

        Returns:
            float32 [..., 2]: the normal's, bounded as `LaplaceMixture.constrain` does it with
            extent² as maximum, and the constant ``log(extent² / 12)`` of the uniform component.
        """
        return self.with_uniform(_bounded_log_variance(raw, self.minimum_variance, self.extent**2))

    def with_uniform(self, normal) -> tf.Tensor:
        """Appends to the normal's log-variance [..., 1] that of the uniform: [..., 2]."""
        uniform = tf.fill(tf.shape(normal), 2.0 * math.log(self.extent) - math.log(12.0))
        return tf.concat([normal, uniform], axis=-1)

    def log_density(self, error, log_variance) -> tf.Tensor:
        """The normal's, and ``-log(extent²)`` everywhere: a large error has a finite cost.

        The extent is the one that `log_variance` tells, which is in the units of the error: of
        images that the network saw resized, say.
        """
        normal_variance = log_variance[..., 0]
        squared = tf.reduce_sum(tf.square(error), axis=-1)
        normal = (
            -math.log(2.0 * math.pi) - normal_variance - 0.5 * squared * tf.exp(-normal_variance)
        )
        uniform = -math.log(12.0) - log_variance[..., 1]
        return tf.stack([normal, uniform + tf.zeros_like(normal)], axis=-1)

    def confidence(self, log_variance, logits, radius=1.0) -> tf.Tensor:
        """``P_R = α₁ erf(R / (σ √2))² + α₂ min(1, 2R / extent)²``, the extent from log_variance."""
        log_variance, logits = _float32(log_variance, logits)
        weights = _softmax(logits)
        radius_x, radius_y = _pair(radius)
        scale = tf.exp(-0.5 * log_variance[..., 0]) * math.sqrt(0.5)
        normal = _erf(radius_x * scale) * _erf(radius_y * scale)
        share = tf.exp(-0.5 * log_variance[..., 1]) * (2.0 / math.sqrt(12.0))
        uniform = tf.minimum(1.0, radius_x * share) * tf.minimum(1.0, radius_y * share)
        return weights[..., 0] * normal + weights[..., 1] * uniform


def _bounded_log_variance(raw, minimum: float, maximum: float) -> tf.Tensor:
    # Divided by the maximum, which may be more than float16 holds, as GPUs compute on devices.
    log_maximum, least = math.log(maximum), minimum / maximum
    fraction = tf.sigmoid(tf.cast(raw, tf.float32) - log_maximum)
    return log_maximum + tf.math.log(least + (1.0 - least) * fraction)


def _softmax(logits) -> tf.Tensor:
    # Of tf.nn.softmax oneDNN keeps 36 kB for each new shape, up to a thousand times a thread.
    exponents = tf.exp(logits - tf.reduce_max(logits, axis=-1, keepdims=True))
    return exponents / tf.reduce_sum(exponents, axis=-1, keepdims=True)


def _laplace_decay(log_variance) -> tf.Tensor:
    """√2 / σ, by how much the log-density falls for each px."""
    return math.sqrt(2.0) * tf.exp(-0.5 * log_variance)


def _erf(x) -> tf.Tensor:
    """The error function of x >= 0 to 1e-6, of operations that TFLite has (it lacks erf).

    Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
    """
    t = 1.0 / (1.0 + 0.3275911 * x)
    polynomial = 0.0
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        polynomial = (polynomial + coefficient) * t
    return 1.0 - polynomial * tf.exp(-tf.square(x))


def _float32(*tensors) -> list[tf.Tensor]:
    return [tf.cast(tensor, tf.float32) for tensor in tensors]


def _pair(radius) -> tuple[tf.Tensor, tf.Tensor]:
    # What a tensor holds need not be known yet.
    if not any(tf.is_tensor(each) for each in tf.nest.flatten(radius)):
        radii = np.asarray(radius, np.float64)
        if not (np.isfinite(radii) & (radii >= 0)).all():
            raise InputError(f"Expected a radius of at least 0, finite. Received: {shown(radius)}")
    values = tf.cast(tf.broadcast_to(radius, [2]), tf.float32)
    return values[0], values[1]
