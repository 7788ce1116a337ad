"""What `tfdense.ops` and `tfdense.layers` offer: in every dtype, size and kind of graph."""

import doctest
import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdense
from tfdense.evaluation import metrics
from tfdense.ops import all_pairs_correlation, forward_backward_error, local_correlation, warp

_OPS = {
    "local_correlation": (lambda a, b: local_correlation(a, b, 2), (2, 5, 7, 3), (2, 5, 7, 3)),
    "all_pairs_correlation": (all_pairs_correlation, (2, 5, 7, 3), (2, 4, 6, 3)),
    "warp": (warp, (2, 5, 7, 3), (2, 4, 6, 2)),
    "forward_backward_error": (forward_backward_error, (2, 5, 7, 2), (2, 4, 6, 2)),
}


def _values(shapes, dtype):
    generator = np.random.default_rng(0)
    return [tf.constant(generator.normal(0, 0.7, shape), dtype) for shape in shapes]


def _with_gradients(op):
    def run(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = op(*inputs)
            finite = tf.where(tf.math.is_finite(output), output, 0)
        return output, *tape.gradient(finite, inputs)

    return run


@pytest.mark.parametrize("name", _OPS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_any_floating_dtype_with_gradients(name, dtype):
    op, *shapes = _OPS[name]
    precise = _values(shapes, "float64")
    results = _with_gradients(op)(*(tf.cast(x, dtype) for x in precise))
    assert [x.dtype.name for x in results] == [dtype] * 3
    expected = _with_gradients(op)(*(tf.cast(tf.cast(x, dtype), "float64") for x in precise))
    tolerance = {"float16": 0.02, "bfloat16": 0.15, "float32": 1e-5, "float64": 1e-13}[dtype]
    # Of 16-bit flows a pixel at the border may count as outside.
    for result, reference in zip(results[: 1 if "16" in dtype else 3], expected, strict=False):
        result, reference = (tf.cast(x, "float64").numpy() for x in (result, reference))
        both = np.isfinite(result) & np.isfinite(reference)
        np.testing.assert_allclose(result[both], reference[both], atol=tolerance)
        assert both.mean() > 0.3


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", _OPS)
def test_graphs_of_unknown_size_and_xla(name, jit_compile):
    op, *shapes = _OPS[name]
    signature = None
    if not jit_compile:  # XLA compiles for the size at hand
        signature = [tf.TensorSpec([None, None, None, shape[-1]]) for shape in shapes]
    compiled = tf.function(_with_gradients(op), input_signature=signature, jit_compile=jit_compile)
    inputs = _values(shapes, "float32")
    for result, reference in zip(compiled(*inputs), _with_gradients(op)(*inputs), strict=True):
        np.testing.assert_allclose(result, reference, atol=1e-5)


def test_the_cycle_error_is_that_of_the_evaluation():
    generator = np.random.default_rng(2)
    forward = generator.normal(0, 2, (2, 9, 11, 2)).astype(np.float32)
    backward = generator.normal(0, 2, (2, 8, 13, 2)).astype(np.float32)
    forward[0, 3, 4] = np.inf
    error = forward_backward_error(forward, backward).numpy()
    for i in range(2):
        expected = metrics.forward_backward_error(forward[i], backward[i])
        np.testing.assert_allclose(error[i], expected, atol=1e-5)
    assert np.isinf(error).any() and np.isfinite(error).mean() > 0.4


def test_the_gradient_of_the_cycle_error_is_the_numeric_one():
    forward, backward = _values([(1, 4, 5, 2), (1, 4, 5, 2)], "float64")
    inside = tf.math.is_finite(forward_backward_error(forward, backward))

    def total(forward, backward):
        return tf.reduce_sum(tf.where(inside, forward_backward_error(forward, backward), 0))

    theoretical, numeric = tf.test.compute_gradient(total, [forward, backward], delta=1e-6)
    for one, other in zip(theoretical, numeric, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    # Where both agree exactly the distance has no gradient, which must not be NaN.
    with tf.GradientTape() as tape:
        tape.watch(forward)
        error = forward_backward_error(0 * forward, 0 * backward)
    assert not np.isnan(tape.gradient(error, forward)).any()


def test_layers_give_what_the_ops_give():
    a, b = _values([(2, 5, 7, 3), (2, 5, 7, 3)], "float32")
    (flow,) = _values([(2, 4, 6, 2)], "float32")
    layers = tfdense.layers
    for layer, op, inputs in (
        (layers.LocalCorrelation(2), lambda *x: local_correlation(*x, 2), (a, b)),
        (layers.AllPairsCorrelation(), all_pairs_correlation, (a, b)),
        (layers.Warp(), warp, (a, flow)),
        (layers.ForwardBackwardError(), forward_backward_error, (a[..., :2], b[..., :2])),
    ):
        np.testing.assert_array_equal(layer(*inputs), op(*inputs))
    with pytest.raises(ValueError, match=r"`radius` must be .* Received: radius=-1"):
        layers.LocalCorrelation(-1)


def test_every_public_layer_is_one_and_is_documented():
    for name in tfdense.layers.__all__:
        part = getattr(tfdense.layers, name)
        assert callable(part) and ">>>" in part.__doc__, name
        assert name == "efficientnet_lite0_pyramid" or issubclass(part, keras.layers.Layer)
    assert {*tfdense.layers.__all__} <= {*dir(tfdense.layers)}
    with pytest.raises(AttributeError, match="Convolve"):
        _ = tfdense.layers.Convolve


_DOCUMENTED = [
    *(f"ops.{name}" for name in ("correlation", "cycle", "warping")),
    *(f"layers.{name}" for name in ("efficientnet_lite", "gocor", "heads", "matching")),
    *(f"layers.{name}" for name in ("operations", "pwc", "uncertainty", "vgg")),
    *("addons", "losses", "metrics", "photometric"),
]


@pytest.mark.parametrize("module", _DOCUMENTED)
def test_the_examples_of_the_docstrings_run(module):
    module = importlib.import_module(f"tfdense.{module}")
    names = {"tf": tf, "np": np, "keras": keras, "tfdense": tfdense}
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted and not result.failed
