"""Attention of features and of flow, against their formulas in NumPy."""

import keras
import numpy as np
import tensorflow as tf

from tfdense.layers.attention import ContextLayer, FlowPropagation


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
    for layer in (ContextLayer(8, heads=4, expansion=3), FlowPropagation(6)):
        config = layer.get_config()
        assert type(layer).from_config(config).get_config() == config


def _propagation(**values):
    """Returns a layer whose weights are random but for those given."""
    layer = FlowPropagation(8)
    layer(_features((1, 3, 4, 8)), _features((1, 3, 4, 2)), _features((1, 3, 4, 4)))
    for i, variable in enumerate(layer.variables):
        variable.assign(values.get(variable.name, _features(variable.shape, i)))
    return layer


def test_propagation_is_that_of_the_formula():
    layer = _propagation()
    features, flow, certainty = (_features((1, 3, 4, n), n) for n in (8, 2, 4))
    dense = {x.name: [y.numpy() for y in x.weights] for x in (layer.query, layer.key, layer.trust)}
    (wq, bq), (wk, bk), (wt, bt) = (dense[name] for name in ("query", "key", "trust"))
    wg, bg = (x.numpy() for x in layer.keep.weights)
    narrowness = np.exp(layer.log_narrowness.numpy())
    rows, flows, certainties = (
        features.reshape(12, 8),
        flow.reshape(12, 2),
        certainty.reshape(12, 4),
    )
    expected = np.empty((12, 2))
    for i in range(12):
        weights = np.empty(12)
        for j in range(12):
            distance = (i // 4 - j // 4) ** 2 + (i % 4 - j % 4) ** 2
            score = (rows[i] @ wq + bq) @ (rows[j] @ wk + bk) / np.sqrt(8)
            score += (certainties[j] @ wt + bt).item()
            weights[j] = np.exp(score - narrowness * distance)
        kept = 1 / (1 + np.exp(-(certainties[i] @ wg + bg)))
        expected[i] = kept * flows[i] + (1 - kept) * (weights @ flows / weights.sum())
    result = layer(features, flow, certainty).numpy().reshape(12, 2)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_untrained_propagation_keeps_nearly_all_flow():
    flow = _features((1, 6, 5, 2))
    result = FlowPropagation(8)(_features((1, 6, 5, 8)), flow, _features((1, 6, 5, 4)))
    assert 0 < np.abs(result - flow).max() < 0.06 * np.ptp(flow)


def test_propagation_learns_to_mend_what_is_uncertain():
    """Half of the positions have a wrong flow and say so; the others' is the answer."""
    random = np.random.default_rng(0)
    certainty = (random.random((1, 8, 8, 1)) > 0.5).astype(np.float32)
    true = np.ones((1, 8, 8, 2), np.float32)
    flow = np.where(certainty > 0, true, 9 * random.normal(size=true.shape)).astype(np.float32)
    keras.utils.set_random_seed(0)
    features, layer = _features((1, 8, 8, 8)), FlowPropagation(8)

    def loss():
        return tf.reduce_mean(tf.square(layer(features, flow, certainty) - true))

    before, optimizer = loss(), keras.optimizers.Adam(0.1)
    for _ in range(60):
        with tf.GradientTape() as tape:
            value = loss()
        gradients = tape.gradient(value, layer.trainable_variables)
        optimizer.apply(gradients, layer.trainable_variables)
    assert loss() < 0.25 * before
