"""The mixtures against SciPy, numeric integration and the original network."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.mixture import GaussianUniformMixture, LaplaceMixture

LAPLACE = LaplaceMixture(maximum_variance=256.0**2)
SHARP = LaplaceMixture(maximum_variance=256.0**2, least_first_variance=0.01)
NORMAL = GaussianUniformMixture(extent=40.0)
MIXTURES = [LAPLACE, SHARP, NORMAL]
each_mixture = pytest.mark.parametrize("mixture", MIXTURES, ids=["laplace", "sharp", "normal"])


def density(mixture, x, y, log_variance, logits):
    """The mixture's density at the points of a grid."""
    error = tf.constant(np.stack(np.broadcast_arrays(x, y), axis=-1), tf.float32)
    return np.exp(-mixture.negative_log_likelihood(error, log_variance, logits).numpy())


def symmetric_integral(mixture, log_variance, logits, limit_x, limit_y, weight=None):
    """Integrates over [-limit_x, limit_x] x [-limit_y, limit_y] a density symmetric in both."""
    # Finer towards 0, where the densities peak.
    share = np.linspace(0, 1, 1501) ** 3
    x, y = limit_x * share, limit_y * share
    values = density(mixture, x[None, :], y[:, None], log_variance, logits).astype(np.float64)
    if weight is not None:
        values *= weight(x[None, :], y[:, None])
    return 4 * scipy.integrate.simpson(scipy.integrate.simpson(values, x=x), x=y)


def test_laplace_likelihood_equals_scipy():
    generator = np.random.default_rng(0)
    error = generator.normal(scale=20, size=(50, 2)).astype(np.float32)
    log_variance = LAPLACE.constrain(generator.normal(scale=4, size=(50, 1)) + 4).numpy()
    logits = generator.normal(size=(50, 2)).astype(np.float32)

    scale = np.sqrt(np.exp(log_variance.astype(np.float64)) / 2)
    components = np.prod(scipy.stats.laplace.pdf(error[..., None], scale=scale[:, None]), axis=1)
    weights = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    expected = -np.log(np.sum(weights * components, axis=-1))
    result = LAPLACE.negative_log_likelihood(error, log_variance, logits)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_normal_and_uniform_likelihood_equals_scipy():
    generator = np.random.default_rng(0)
    error = generator.normal(scale=5, size=(50, 2)).astype(np.float32)
    log_variance = NORMAL.constrain(generator.normal(scale=2, size=(50, 1))).numpy()
    logits = generator.normal(size=(50, 2)).astype(np.float32)

    deviation = np.sqrt(np.exp(log_variance[:, :1].astype(np.float64)))
    normal = np.prod(scipy.stats.norm.pdf(error, scale=deviation), axis=-1)
    weights = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    expected = -np.log(weights[:, 0] * normal + weights[:, 1] / 40.0**2)
    result = NORMAL.negative_log_likelihood(error, log_variance, logits)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


PARAMETERS = [(2.0, (0.5, -0.5)), (4.0, (-1.0, 1.0)), (-3.0, (0.0, 0.0))]


@pytest.mark.parametrize(("raw", "logits"), PARAMETERS)
def test_laplace_confidence_and_variance_equal_integrals_of_the_density(raw, logits):
    log_variance, logits = LAPLACE.constrain([raw]), tf.constant(logits)
    far = 40 * float(np.exp(0.5 * log_variance[1]))
    assert symmetric_integral(LAPLACE, log_variance, logits, far, far) == pytest.approx(1, abs=1e-4)
    for radius in (0.5, 1.0, 3.0, 20.0, (1.0, 4.0)):
        expected = symmetric_integral(
            LAPLACE, log_variance, logits, *np.broadcast_to(radius, [2]).tolist()
        )
        confidence = LAPLACE.confidence(log_variance, logits, radius)
        assert float(confidence) == pytest.approx(expected, abs=1e-5)
    second_moment = symmetric_integral(
        LAPLACE, log_variance, logits, far, far, weight=lambda x, y: x**2
    )
    assert float(LAPLACE.variance(log_variance, logits)) == pytest.approx(second_moment, rel=1e-3)


@pytest.mark.parametrize(("raw", "logits"), [(1.0, (0.5, -0.5)), (-2.0, (-1.0, 1.0))])
def test_normal_confidence_and_variance_equal_integrals_of_the_density(raw, logits):
    log_variance, logits = NORMAL.constrain([raw]), tf.constant(logits)
    # The uniform component covers a square of side 40 and has this density outside too, by design.
    half = 20.0
    mass = symmetric_integral(NORMAL, log_variance, logits, half, half)
    assert mass == pytest.approx(1, abs=1e-4)
    for radius in (0.5, 1.0, 3.0, half, (1.0, 4.0)):
        expected = symmetric_integral(
            NORMAL, log_variance, logits, *np.broadcast_to(radius, [2]).tolist()
        )
        assert float(NORMAL.confidence(log_variance, logits, radius)) == pytest.approx(
            expected, abs=1e-5
        )
    assert float(NORMAL.confidence(log_variance, logits, 1e3)) == pytest.approx(1)
    second_moment = symmetric_integral(
        NORMAL, log_variance, logits, half, half, weight=lambda x, y: x**2
    )
    assert float(NORMAL.variance(log_variance, logits)) == pytest.approx(second_moment, rel=1e-3)


@each_mixture
def test_other_units_change_nothing(mixture):
    """Of images seen at half their size, all lengths double; so does what is said of them."""
    error, logits = tf.constant([[3.0, -1.0]]), tf.constant([[0.4, -0.3]])
    small = mixture.constrain([[1.0]])
    large = small + 2 * np.log(2.0)
    density = mixture.negative_log_likelihood(error, small, logits)
    doubled = mixture.negative_log_likelihood(2 * error, large, logits)
    np.testing.assert_allclose(doubled, density + 2 * np.log(2.0), rtol=1e-5)
    np.testing.assert_allclose(
        mixture.confidence(large, logits, 2.0), mixture.confidence(small, logits, 1.0), rtol=1e-5
    )


def test_laplace_variance_stays_within_its_bounds():
    log_variance = LAPLACE.constrain(np.linspace(-1e4, 1e4, 2001)[:, None]).numpy()
    assert log_variance.dtype == np.float32
    np.testing.assert_array_equal(log_variance[:, 0], 0)
    np.testing.assert_allclose(log_variance[0, 1], np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(log_variance[-1, 1], np.log(256.0**2), rtol=1e-6)
    assert (np.diff(log_variance[:, 1]) >= 0).all()
    # In the middle of the range the raw number is about the log-variance.
    assert LAPLACE.constrain([[6.0]])[0, 1].numpy() == pytest.approx(6.0, abs=0.01)


def test_first_variance_stays_within_its_bounds_where_it_is_free():
    raw = np.linspace(-1e4, 1e4, 2001)
    log_variance = SHARP.constrain(np.stack([raw, -raw], axis=-1)).numpy()
    np.testing.assert_allclose(log_variance[0], np.log([0.01, 256.0**2]), rtol=1e-6)
    np.testing.assert_allclose(log_variance[-1], [0, np.log(2.0)], atol=1e-6)
    assert (np.diff(log_variance[:, 0]) >= 0).all()


def test_confidence_can_reach_one_where_the_first_variance_is_free():
    logits = tf.constant([[50.0, 0.0]])
    fixed = LAPLACE.confidence(LAPLACE.constrain([[-50.0]]), logits)
    free = SHARP.confidence(SHARP.constrain([[-50.0, -50.0]]), logits)
    assert float(fixed[0]) == pytest.approx((1 - np.exp(-np.sqrt(2))) ** 2, rel=1e-5)
    assert float(free[0]) > 0.999


def test_normal_variance_stays_within_its_bounds():
    log_variance = NORMAL.constrain(np.linspace(-1e4, 1e4, 2001)[:, None]).numpy()
    np.testing.assert_allclose(log_variance[0, 0], np.log(0.01), rtol=1e-6)
    np.testing.assert_allclose(log_variance[-1, 0], np.log(40.0**2), rtol=1e-6)
    assert (np.diff(log_variance[:, 0]) >= 0).all()
    np.testing.assert_allclose(log_variance[:, 1], np.log(40.0**2 / 12), rtol=1e-6)
    # Far from the upper bound it is log(minimum + exp(h)).
    for raw in (-8.0, -4.0, 0.0, 2.0):
        expected = np.log(0.01 + np.exp(raw))
        assert NORMAL.constrain([[raw]])[0, 0].numpy() == pytest.approx(expected, abs=0.01)


@each_mixture
@pytest.mark.parametrize("dtype", [tf.float32, tf.float16, tf.bfloat16])
def test_extremes_are_finite_in_value_and_gradient(mixture, dtype):
    grid = np.meshgrid(
        [0, 1e-3, 1, 30, 1e4], [-1e4, -30, 0, 30, 1e4], [-1e4, 0, 1e4], [-1e4, 0, 1e4]
    )
    error, raw, *logits = (x.reshape(-1, 1) for x in grid)
    error, raw, logits = (
        tf.constant(x, dtype) for x in (np.concatenate([error, -error], -1), raw, np.hstack(logits))
    )
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([error, raw, logits])
        log_variance = mixture.constrain(raw)
        results = {
            "likelihood": mixture.negative_log_likelihood(error, log_variance, logits),
            "confidence": mixture.confidence(log_variance, logits),
            "variance": mixture.variance(log_variance, logits),
            "log_variance": log_variance,
        }
    for name, value in results.items():
        assert value.dtype == tf.float32, name
        assert np.isfinite(value).all(), name
        gradients = tape.gradient(value, [error, raw, logits])
        for gradient in gradients:
            if gradient is not None:
                assert np.isfinite(tf.cast(gradient, tf.float32)).all(), name
    assert (results["confidence"] >= 0).numpy().all()
    assert (results["confidence"] <= 1).numpy().all()


@each_mixture
def test_likelihood_gradient_equals_finite_differences(mixture):
    generator = np.random.default_rng(0)
    arguments = [
        tf.constant(generator.uniform(1, 5, size=(6, 2)).astype(np.float32)),
        tf.constant(generator.uniform(0, 3, size=(6, 1)).astype(np.float32)),
        tf.constant(generator.normal(size=(6, 2)).astype(np.float32)),
    ]
    analytic, numeric = tf.test.compute_gradient(
        lambda error, raw, logits: mixture.negative_log_likelihood(
            error, mixture.constrain(raw), logits
        ),
        arguments,
        delta=1e-2,
    )
    for ours, theirs in zip(analytic, numeric, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("bounds", [(2.0, 2.0, 1.0), (100.0, 0.5, 1.0), (100.0, 2.0, 0.0)])
def test_laplace_refuses_bounds_out_of_order(bounds):
    with pytest.raises(InputError, match="first_variance <= minimum_variance"):
        LaplaceMixture(*bounds)


@pytest.mark.parametrize("least", [0.0, 1.0])
def test_laplace_refuses_a_least_variance_out_of_order(least):
    with pytest.raises(InputError, match="0 < least_first_variance < first_variance"):
        LaplaceMixture(100.0, least_first_variance=least)


@pytest.mark.parametrize("parameters", [(0.0, 0.01), (10.0, 0.0), (1.0, 2.0)])
def test_normal_refuses_bounds_out_of_order(parameters):
    with pytest.raises(InputError, match="0 < minimum_variance < extent"):
        GaussianUniformMixture(*parameters)


@pytest.mark.parametrize(
    "construct",
    [
        lambda: LaplaceMixture(np.inf),
        lambda: LaplaceMixture(1e300),
        lambda: LaplaceMixture(np.nan),
        lambda: LaplaceMixture(100.0, first_variance=1e-60),
        lambda: LaplaceMixture(100.0, least_first_variance=1e-60),
        lambda: GaussianUniformMixture(np.inf),
        lambda: GaussianUniformMixture(1e200),
        lambda: GaussianUniformMixture(-5.0),
        lambda: GaussianUniformMixture(5.0, 1e-60),
    ],
)
def test_variances_that_float32_does_not_hold_are_refused(construct):
    with pytest.raises(InputError, match=r"Expected .*Received: "):
        construct()


@each_mixture
@pytest.mark.parametrize("radius", [-1, np.nan, np.inf, (1.0, -1.0)])
def test_a_radius_that_is_none_is_refused(mixture, radius):
    values = np.zeros((1, 2), np.float32)
    with pytest.raises(InputError, match=r"radius of at least 0, finite\. Received: "):
        mixture.confidence(values, values, radius)
    traced = tf.function(lambda x: mixture.confidence(values, values, (x, 2.0 * x)))
    assert 0 < float(traced(tf.constant(1.0))[0]) < 1


@pytest.mark.reference
@pytest.mark.parametrize("size", [256, 520])
def test_laplace_bounds_equal_the_original(reference, size):
    vectors = np.load(reference / "ops" / "variance_constraint.npz")
    raw, expected = (vectors[name].reshape(-1, 1) for name in ("raw", f"logvar_{size}"))
    result = LaplaceMixture(maximum_variance=float(size) ** 2).constrain(raw)
    np.testing.assert_allclose(result[:, 1:], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.reference
def test_laplace_confidence_and_variance_equal_the_original(reference):
    vectors = np.load(reference / "ops" / "p_r.npz")
    vectors = {name: vectors[name].transpose(0, 2, 3, 1) for name in vectors.files}
    log_variance, logits = vectors["log_var_map"], vectors["weight_map"]
    for radius in (1, 3, 5):
        np.testing.assert_allclose(
            LAPLACE.confidence(log_variance, logits, radius),
            vectors[f"p_r_R{radius}"][..., 0],
            atol=1e-6,
        )
    np.testing.assert_allclose(
        LAPLACE.variance(log_variance, logits), vectors["avg_var"][..., 0], rtol=1e-5
    )


@pytest.mark.reference
def test_laplace_likelihood_equals_the_original(reference):
    vectors = np.load(reference / "ops" / "nll.npz")
    estimate, truth, log_variance, logits, expected = (
        vectors[name].transpose(0, 2, 3, 1)
        for name in ("est", "gt", "log_var", "weight", "per_pixel")
    )
    np.testing.assert_allclose(
        LAPLACE.negative_log_likelihood(estimate - truth, log_variance, logits),
        expected[..., 0],
        rtol=1e-5,
        atol=1e-5,
    )
