"""The closed-form fit of the normal and uniform mixture against SciPy and known parameters."""

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import tensorflow as tf

from tfdense.expectation_maximization import (
    Estimate,
    fit,
    log_likelihood,
    log_responsibilities,
    most_likely,
)
from tfdense.layers.pwc import prediction
from tfdense.mixture import GaussianUniformMixture

MIXTURE = GaussianUniformMixture(extent=40.0)


def draw(count, mean=(3.0, -2.0), deviation=0.7, weight=0.6, seed=0):
    """Samples of a mixture: of the normal component, or anywhere in the square."""
    generator = np.random.default_rng(seed)
    normal = generator.normal(mean, deviation, (count, 2))
    uniform = generator.uniform(-20, 20, (count, 2))
    chosen = generator.uniform(size=(count, 1)) < weight
    return np.where(chosen, normal, uniform).astype(np.float32)


def scipy_log_likelihood(samples, mean, variance, weight):
    """The mean log-likelihood, in float64, written anew."""
    normal = scipy.stats.multivariate_normal(mean, variance * np.eye(2)).pdf(samples)
    return np.mean(np.log(weight * normal + (1 - weight) / 40.0**2))


def parameters(estimate):
    """Returns mean, variance and weight of the normal component."""
    weights = np.exp(estimate.logits)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    return estimate.mean.numpy(), np.exp(estimate.log_variance[..., 0]), weights[..., 0]


def test_one_step_equals_the_sums_written_out():
    samples = draw(50)
    mean, variance, weight = np.array([1.0, 0.0]), 4.0, 0.3
    estimate = Estimate(
        tf.constant(mean, tf.float32),
        MIXTURE.with_uniform(tf.math.log([variance])),
        tf.constant(np.log([weight, 1 - weight]), tf.float32),
    )
    assert float(log_likelihood(MIXTURE, samples, estimate)) == pytest.approx(
        scipy_log_likelihood(samples, mean, variance, weight), rel=1e-5
    )

    responsibility = []
    for x, y in samples.astype(np.float64):
        squared = (x - mean[0]) ** 2 + (y - mean[1]) ** 2
        normal = weight * np.exp(-squared / (2 * variance)) / (2 * np.pi * variance)
        responsibility.append(normal / (normal + (1 - weight) / 40.0**2))
    responsibility = np.array(responsibility)
    logs = log_responsibilities(MIXTURE, samples, estimate)
    np.testing.assert_allclose(np.exp(logs[:, 0]), responsibility, atol=1e-5)

    new_mean, new_variance, new_weight = parameters(most_likely(MIXTURE, samples, logs))
    expected = np.average(samples, axis=0, weights=responsibility)
    np.testing.assert_allclose(new_mean, expected, rtol=1e-4)
    squared = np.sum((samples - expected) ** 2, axis=-1)
    assert new_variance == pytest.approx(np.average(squared, weights=responsibility) / 2, rel=1e-4)
    assert new_weight == pytest.approx(responsibility.mean(), rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_never_falls(seed):
    generator = np.random.default_rng(seed)
    samples = draw(200, weight=generator.uniform(0.1, 0.9), seed=seed)
    likelihoods = [log_likelihood(MIXTURE, samples, fit(MIXTURE, samples, n)) for n in range(15)]
    assert (np.diff(likelihoods) > -2e-6).all()
    assert likelihoods[-1] > likelihoods[0] + 0.05


def test_no_optimizer_finds_a_likelier_mixture():
    samples = draw(300)
    estimate = fit(MIXTURE, samples)

    def cost(values):
        mean, (log_variance, logit) = values[:2], values[2:]
        return -scipy_log_likelihood(
            samples, mean, np.exp(log_variance), scipy.special.expit(logit)
        )

    starts = [(3.0, -2.0, 0.0, 0.0), (0.0, 0.0, 4.0, 1.0), (2.0, -1.0, 2.0, -1.0)]
    best = min((scipy.optimize.minimize(cost, start) for start in starts), key=lambda r: r.fun)
    assert float(log_likelihood(MIXTURE, samples, estimate)) == pytest.approx(-best.fun, abs=1e-5)
    mean, variance, weight = parameters(estimate)
    np.testing.assert_allclose(mean, best.x[:2], atol=2e-3)
    assert variance == pytest.approx(np.exp(best.x[2]), rel=5e-3)
    assert weight == pytest.approx(scipy.special.expit(best.x[3]), abs=2e-3)


def test_known_parameters_are_recovered_of_several_sets_at_once():
    known = [((3.0, -2.0), 0.7, 0.6), ((-8.0, 5.0), 2.0, 0.8), ((0.0, 0.0), 0.3, 0.3)]
    samples = np.stack([draw(20000, *one, seed=seed) for seed, one in enumerate(known)])
    means, variances, weights = parameters(fit(MIXTURE, samples))
    for i, (mean, deviation, weight) in enumerate(known):
        np.testing.assert_allclose(means[i], mean, atol=0.05)
        assert np.sqrt(variances[i]) == pytest.approx(deviation, rel=0.03)
        assert weights[i] == pytest.approx(weight, abs=0.015)


@pytest.mark.parametrize(
    "samples", [np.full((10, 2), 7.0), np.zeros((1, 2)), np.full((3, 2), 1e4), [[5, 5], [5, -19]]]
)
def test_no_samples_make_it_degenerate(samples):
    samples = np.asarray(samples, np.float32)
    estimate = fit(MIXTURE, samples)
    for value in (*estimate, log_likelihood(MIXTURE, samples, estimate)):
        assert np.isfinite(value).all()
    variance = np.exp(estimate.log_variance[..., 0])
    assert 0.01 * (1 - 1e-5) <= variance <= 40.0**2 * (1 + 1e-5)


def test_the_variance_of_exact_matches_is_the_bound():
    samples = np.concatenate([np.full((30, 2), 7.0), draw(10, weight=0.0)])
    mean, variance, weight = parameters(fit(MIXTURE, samples))
    np.testing.assert_allclose(mean, 7.0, rtol=1e-5)
    assert variance == pytest.approx(0.01)
    assert weight == pytest.approx(0.75, abs=0.01)


def test_a_head_fitted_by_gradient_arrives_there():
    """The layer that predicts flow, raw variance and confidence of pwc-unet, on one pixel."""
    keras.utils.set_random_seed(0)
    samples = tf.constant(draw(400))
    head = prediction((0.0, 0.0, 4.0, 0.0), "head")
    pixel = tf.ones([1, 1, 1, 4])
    optimizer = keras.optimizers.Adam(0.05)
    head(pixel)

    def estimate():
        answer = head(pixel)[0, 0, 0]
        logit = answer[3:]
        return Estimate(
            answer[:2],
            MIXTURE.constrain(answer[2:3]),
            tf.nn.log_softmax(tf.concat([logit, tf.zeros_like(logit)], -1)),
        )

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            cost = -log_likelihood(MIXTURE, samples, estimate())
        gradients = tape.gradient(cost, [v.value for v in head.trainable_variables])
        optimizer.apply(gradients, head.trainable_variables)

    optimizer.build(head.trainable_variables)
    for _ in range(400):
        step()
    optimizer.learning_rate.assign(0.005)
    for _ in range(200):
        step()
    direct = fit(MIXTURE, samples)
    reached = estimate()
    assert float(log_likelihood(MIXTURE, samples, reached)) == pytest.approx(
        float(log_likelihood(MIXTURE, samples, direct)), abs=1e-4
    )
    for ours, theirs in zip(parameters(reached), parameters(direct), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.01)
