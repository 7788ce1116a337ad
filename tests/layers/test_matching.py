"""Matching finds known displacements."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense.layers.matching import GlobalMatching, UnitMeanSquare, WarpedCorrelation


def random_features(shape, seed=0):
    features = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return UnitMeanSquare()(features)


def test_unit_mean_square():
    features = random_features((2, 3, 4, 16)) * 1.0
    np.testing.assert_allclose(np.mean(np.square(features), axis=-1), 1, atol=1e-5)
    low = UnitMeanSquare(dtype="mixed_float16")(
        tf.fill([1, 1, 1, 4], tf.constant(300.0, tf.float16))
    )
    assert low.dtype == tf.float16
    # 300² overflows float16: the square is taken in float32.
    np.testing.assert_allclose(low, np.ones((1, 1, 1, 4)), atol=1e-3)


def test_global_matching_finds_a_permutation():
    """Sources of another size than the target, in another order for each of the batch."""
    generator = np.random.default_rng(0)
    source = random_features((2, 4, 6, 64)).numpy()
    order = np.stack([generator.permutation(24)[:15] for _ in range(2)])
    target = np.take_along_axis(source.reshape(2, 24, 64), order[..., None], axis=1)
    matching = GlobalMatching(window=0.3)
    flow, certainty, _ = matching(target.reshape(2, 3, 5, 64), source)

    y, x = np.divmod(order.reshape(2, 3, 5), 6)
    grid_x, grid_y = np.meshgrid(np.arange(5), np.arange(3))
    expected = np.stack([x - grid_x, y - grid_y], axis=-1)
    np.testing.assert_allclose(flow, expected, atol=0.02)
    peak, within, entropy, mutual = np.moveaxis(certainty.numpy(), -1, 0)
    assert (peak > 0.9).all()
    assert (mutual > 0.8).all()
    assert (within >= peak - 1e-6).all()
    assert (entropy < 0.2).all()


def test_global_matching_of_equal_features_is_uncertain():
    features = tf.ones([1, 4, 6, 8])
    _, certainty, _ = GlobalMatching()(features, features)
    np.testing.assert_allclose(certainty[..., 0], np.full((1, 4, 6), 1 / 24), rtol=1e-4)
    np.testing.assert_allclose(certainty[..., 2], np.ones((1, 4, 6)), rtol=1e-4)


def test_mutual_probability_is_low_where_two_targets_share_a_source():
    features = random_features((1, 1, 4, 64)).numpy()
    target = features[:, :, [0, 0, 2, 3]]
    _, certainty, _ = GlobalMatching()(target, features)
    np.testing.assert_allclose(certainty[0, 0, :, 0], np.ones(4), atol=0.1)
    np.testing.assert_allclose(certainty[0, 0, :, 3], [0.5, 0.5, 1, 1], atol=0.1)


def test_global_matching_is_precise_to_a_fraction_of_a_cell():
    """A maximum half way between two cells, and a distant one that must not be mixed in."""
    source = np.full((1, 1, 12, 2), -1.0, np.float32)
    source[0, 0, 3] = source[0, 0, 4] = 1.0
    source[0, 0, 11] = 0.98
    flow, _, _ = GlobalMatching(window=1.0)(np.ones((1, 1, 1, 2), np.float32), source)
    # Cell 3 is the maximum; cell 4, a standard deviation away, is as likely.
    weight = np.exp(-0.5)
    np.testing.assert_allclose(flow[0, 0, 0], [3 + weight / (1 + weight), 0], atol=1e-3)


def test_global_matching_learns_its_temperature():
    source, target = random_features((1, 3, 4, 8)), random_features((1, 3, 4, 8), seed=1)
    matching = GlobalMatching()
    with tf.GradientTape() as tape:
        flow, _, _ = matching(target, source)
        loss = tf.reduce_sum(flow**2)
    (gradient,) = tape.gradient(loss, matching.trainable_variables)
    assert np.isfinite(gradient)
    assert gradient != 0


def test_global_matching_computes_in_float32_under_mixed_precision():
    features = random_features((1, 3, 4, 8))
    flow, certainty, _ = GlobalMatching(dtype="mixed_float16")(features, features)
    assert flow.dtype == certainty.dtype == tf.float32


def test_warped_correlation_peaks_in_the_centre_for_the_right_flow():
    source = random_features((1, 10, 12, 32))
    target = tf.roll(source, shift=[2, -3], axis=[1, 2])  # target(x, y) = source(x + 3, y - 2)
    flow = tf.broadcast_to(tf.constant([3.0, -2.0]), [1, 10, 12, 2])
    correlation = WarpedCorrelation(radius=2)(target, source, flow).numpy()
    assert correlation.shape == (1, 10, 12, 25)
    inside = correlation[:, 2:, :-3]
    np.testing.assert_array_equal(inside.argmax(axis=-1), np.full(inside.shape[:-1], 12))
    np.testing.assert_allclose(inside[..., 12], np.ones(inside.shape[:-1]), atol=1e-4)


def test_warped_correlation_shows_the_rest_of_the_displacement():
    source = random_features((1, 10, 12, 32))
    target = tf.roll(source, shift=[2, -3], axis=[1, 2])
    flow = tf.broadcast_to(tf.constant([2.0, 0.0]), [1, 10, 12, 2])
    correlation = WarpedCorrelation(radius=2)(target, source, flow).numpy()[:, 2:-2, 2:-5]
    # Left over is (1, -2): dy = -2 is the first row of the window, dx = 1 its fourth column.
    np.testing.assert_array_equal(correlation.argmax(axis=-1), np.full(correlation.shape[:-1], 3))


@pytest.mark.parametrize(
    "layer", [GlobalMatching(window=2.5), WarpedCorrelation(radius=3), UnitMeanSquare()]
)
def test_layers_are_rebuilt_from_their_configuration(layer):
    config = layer.get_config()
    rebuilt = type(layer).from_config(config)
    assert isinstance(rebuilt, keras.layers.Layer)
    assert rebuilt.get_config() == config
