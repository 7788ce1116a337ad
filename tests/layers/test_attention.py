"""Attention between two feature maps, against its formula in NumPy."""

import numpy as np
import tensorflow as tf

from tfdense.layers.attention import ContextLayer


def _features(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _active_layer():
    layer = ContextLayer(8)
    layer(_features((1, 3, 4, 8)), _features((1, 3, 4, 8), 1))
    layer.scales.assign(_features((3, 8), 2))
    return layer


def _layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def _attention(layer, queries, keys):
    """Multi-head attention of rows of features, written out."""
    (wq, bq), (wk, bk), (wv, bv), (wo, bo) = (
        [value.numpy() for value in dense.weights]
        for dense in (
            layer.query_dense,
            layer.key_dense,
            layer.value_dense,
            layer.output_dense,
        )
    )
    result = bo
    for head in range(wq.shape[1]):
        query = queries @ wq[:, head] + bq[head]
        key, value = keys @ wk[:, head] + bk[head], keys @ wv[:, head] + bv[head]
        weights = np.exp(query @ key.T / np.sqrt(key.shape[-1]))
        result = result + weights / weights.sum(-1, keepdims=True) @ value @ wo[head]
    return result


def test_scales_of_zero_change_nothing():
    layer = _active_layer()
    layer.scales.assign(np.zeros((3, 8), np.float32))
    own = _features((2, 3, 4, 8))
    np.testing.assert_array_equal(layer(own, _features((2, 5, 2, 8), 1)), own)


def test_attention_is_that_of_the_formula():
    layer = _active_layer()
    scales = layer.scales.numpy()
    scales[2] = 0
    layer.scales.assign(scales)
    own, other = _features((1, 3, 4, 8), 3), _features((1, 5, 2, 8), 4)
    rows, others = own.reshape(12, 8), other.reshape(10, 8)
    rows = rows + scales[0] * _attention(layer.attentions[0], _layer_norm(rows), _layer_norm(rows))
    rows = rows + scales[1] * _attention(
        layer.attentions[1], _layer_norm(rows), _layer_norm(others)
    )
    np.testing.assert_allclose(layer(own, other).numpy().reshape(12, 8), rows, atol=1e-5)


def test_positions_matter_through_neighbours_only():
    """What attention gives is the same in any order; the network sees who is next to whom."""
    layer = _active_layer()
    own, other = _features((1, 4, 4, 8), 3), _features((1, 4, 4, 8), 4)
    np.testing.assert_allclose(layer(own, other[:, ::-1]), layer(own, other), atol=1e-5)
    flipped = layer(own[:, ::-1], other).numpy()[:, ::-1]
    assert np.abs(flipped - layer(own, other)).max() > 1e-3


def test_every_weight_is_trained():
    layer = _active_layer()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(_features((1, 3, 4, 8)), _features((1, 3, 4, 8), 1)) ** 2)
    names = [variable.path for variable in layer.trainable_variables]
    gradients = tape.gradient(loss, layer.trainable_variables)
    silent = [name for name, value in zip(names, gradients, strict=True) if value is None]
    assert not silent


def test_it_can_be_saved():
    config = ContextLayer(8, heads=4, expansion=3).get_config()
    assert ContextLayer.from_config(config).get_config() == config
