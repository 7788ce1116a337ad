"""The most likely mixture of a normal and a uniform component, by closed-form steps.

What the networks learn by gradient, one mixture for each pixel from one match each, has a direct
solution where many samples share one mixture: the errors of a flow over an image, say. It gives the
variance and weight that fit a finished flow, and what a head trained by gradient has to arrive at.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from tfdense.mixture import GaussianUniformMixture


class Estimate(NamedTuple):
    """Parameters of mixtures, float32.

    Attributes:
        mean: of the normal component, [..., 2], in px.
        log_variance: of both components, [..., 2], in log px², as `constrain` bounds them.
        logits: log-weights of both components, [..., 2].
    """

    mean: tf.Tensor
    log_variance: tf.Tensor
    logits: tf.Tensor


def log_likelihood(mixture: GaussianUniformMixture, samples, estimate: Estimate) -> tf.Tensor:
    """Returns the mean log-likelihood of samples [..., n, 2]: [...], in nats."""
    mean, log_variance, logits = (value[..., None, :] for value in estimate)
    return -tf.reduce_mean(
        mixture.negative_log_likelihood(samples - mean, log_variance, logits), axis=-1
    )


def log_responsibilities(mixture: GaussianUniformMixture, samples, estimate: Estimate) -> tf.Tensor:
    """Returns the log-probability that each component made a sample: the expectation step.

    ``r_k = α_k p_k(x) / Σ_m α_m p_m(x)`` (Dempster, Laird and Rubin, 1977).

    Args:
        mixture: the components.
        samples: [..., n, 2], in px.
        estimate: the parameters so far.

    Returns:
        float32 [..., n, 2].
    """
    mean, log_variance, logits = (value[..., None, :] for value in estimate)
    return tf.nn.log_softmax(logits + mixture.log_density(samples - mean, log_variance))


def most_likely(mixture: GaussianUniformMixture, samples, log_responsibility) -> Estimate:
    """Returns the most likely parameters for given responsibilities: the maximization step.

    ``μ = Σ r x / Σ r``, ``σ² = Σ r |x - μ|² / (2 Σ r)``, ``α = Σ r / n``, with r that of the normal
    component. The variance is kept within the mixture's bounds, which is the exact solution under
    them: so the likelihood has no infinite maximum where the normal closes in on one sample.

    Args:
        mixture: the components.
        samples: [..., n, 2], in px.
        log_responsibility: [..., n, 2].
    """
    # Relative to their sum, that no sample is the normal component's does not divide by zero.
    share = tf.nn.softmax(log_responsibility[..., 0], axis=-1)[..., None]
    mean = tf.reduce_sum(share * samples, axis=-2)
    squared = tf.reduce_sum(share * tf.square(samples - mean[..., None, :]), axis=[-2, -1])
    variance = tf.clip_by_value(squared / 2.0, mixture.minimum_variance, mixture.extent**2)
    log_variance = mixture.with_uniform(tf.math.log(variance)[..., None])
    count = tf.cast(tf.shape(samples)[-2], tf.float32)
    logits = tf.reduce_logsumexp(log_responsibility, axis=-2) - tf.math.log(count)
    return Estimate(mean, log_variance, logits)


def fit(mixture: GaussianUniformMixture, samples, steps: int = 100) -> Estimate:
    """Fits mixtures to samples, from a normal component over all of them with weight one half.

    Args:
        mixture: the components.
        samples: [..., n, 2], in px.
        steps: each of which raises the likelihood, or leaves it where it is.
    """
    samples = tf.convert_to_tensor(samples, tf.float32)
    even = tf.fill(tf.shape(samples), -math.log(2.0))
    estimate = most_likely(mixture, samples, even)
    for _ in range(steps):
        responsibility = log_responsibilities(mixture, samples, estimate)
        estimate = most_likely(mixture, samples, responsibility)
    return estimate
