"""The drop-ins against what they replace: the same numbers and gradients for the same arguments."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_addons as tfa

from tfdense import addons

# With several threads the gradient of CorrelationCost loses additions now and then.
tf.config.threading.set_intra_op_parallelism_threads(1)


def _value_and_gradients(function, *inputs):
    """Returns the value, and the gradients of its product with fixed random numbers."""
    inputs = [tf.constant(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = function(*inputs)
        upstream = np.random.default_rng(9).normal(size=value.shape).astype(value.dtype.name)
        total = tf.reduce_sum(value * upstream)
    return [value, *tape.gradient(total, inputs)]


def _assert_same(ours, theirs, *inputs, tolerance=2e-5):
    ours, theirs = (_value_and_gradients(f, *inputs) for f in (ours, theirs))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_allclose(
            tf.convert_to_tensor(mine), tf.convert_to_tensor(other), rtol=1e-5, atol=tolerance
        )


def _normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# kernel_size, max_displacement, stride_1, stride_2, pad: all that leave something of 10x13 px.
_GRID = [
    arguments
    for arguments in itertools.product((1, 3, 5), (0, 2, 3, 4), (1, 2, 3), (1, 2, 3), (0, 2, 4))
    if 10 + 2 * (arguments[4] - arguments[1] - (arguments[0] - 1) // 2) >= 1
]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("arguments", _GRID, ids=str)
def test_correlation_cost(arguments, data_format):
    shape = (2, 10, 13, 3) if data_format == "channels_last" else (2, 3, 10, 13)
    a, b = _normal(*shape), _normal(*shape, seed=1)
    ours, theirs = (
        module.CorrelationCost(*arguments, data_format=data_format)
        for module in (addons, tfa.layers)
    )
    _assert_same(lambda a, b: ours([a, b]), lambda a, b: theirs([a, b]), a, b)
    assert ours.get_config().keys() == theirs.get_config().keys()


def test_correlation_cost_of_flownet():
    a, b = (_normal(1, 12, 16, 32, seed=seed) for seed in range(2))
    ours, theirs = (
        module.CorrelationCost(1, 20, 1, 2, 20, "channels_last") for module in (addons, tfa.layers)
    )
    _assert_same(lambda a, b: ours([a, b]), lambda a, b: theirs([a, b]), a, b)


def _positions(kind, count, dtype):
    """Rows and columns, for an image of 6x9 px."""
    generator = np.random.default_rng(3)
    positions = generator.uniform((-4, -4), (10, 13), (2, count, 2))
    if kind == "whole":
        positions = np.round(positions)
    if kind == "inside":
        positions = generator.uniform(0, (5, 8), (2, count, 2))
    return positions.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["anywhere", "whole", "inside"])
@pytest.mark.parametrize("indexing", ["ij", "xy"])
def test_interpolate_bilinear(indexing, kind, dtype):
    image, positions = _normal(2, 6, 9, 4, dtype=dtype), _positions(kind, 50, dtype)
    if indexing == "xy":
        positions = positions[..., ::-1].copy()
    functions = (
        lambda image, positions, module=module: module.interpolate_bilinear(
            image, positions, indexing
        )
        for module in (addons, tfa.image)
    )
    _assert_same(*functions, image, positions)


@pytest.mark.parametrize("scale", [0.0, 0.7, 5.0])
@pytest.mark.parametrize("whole", [False, True])
def test_dense_image_warp(scale, whole):
    image, flow = _normal(2, 7, 5, 3), scale * _normal(2, 7, 5, 2, seed=1)
    flow = np.round(flow) if whole else flow
    _assert_same(addons.dense_image_warp, tfa.image.dense_image_warp, image, flow)


def test_dense_image_warp_of_half_precision():
    image = _normal(1, 7, 5, 3, dtype=np.float16)
    flow = _normal(1, 7, 5, 2, seed=1)
    ours, theirs = (m.dense_image_warp(image, flow) for m in (addons, tfa.image))
    assert ours.dtype == theirs.dtype == tf.float16
    np.testing.assert_allclose(ours, theirs, atol=4e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["anywhere", "whole", "inside"])
@pytest.mark.parametrize("shape", [(60,), (5, 12), (3, 4, 5)])
def test_resampler(shape, kind, dtype):
    image, positions = _normal(2, 6, 9, 4, dtype=dtype), _positions(kind, 60, dtype)
    warp = positions[..., ::-1].reshape(2, *shape, 2)
    _assert_same(addons.resampler, tfa.image.resampler, image, warp)
