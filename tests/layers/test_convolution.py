"""Convolution with folded batch normalisation against the layers of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense.layers.convolution import ConvolutionBlock


def random_block(**options):
    """A block whose every weight is random, and an input for it."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 7, 9, 3)).astype(np.float32)
    block = ConvolutionBlock(5, **options)
    block.build(x.shape)
    for variable in block.variables:
        value = generator.normal(size=variable.shape)
        variable.assign(np.abs(value) + 0.5 if variable.name == "moving_variance" else value)
    return block, tf.constant(x)


def as_keras(block, x, training):
    """The same by a convolution and a batch normalisation of Keras."""
    convolution = keras.layers.Conv2D(
        block.filters,
        block.kernel_size,
        padding=block.padding,
        dilation_rate=block.dilation,
        use_bias=block.use_bias,
    )
    normalisation = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    convolution.build(x.shape)
    convolution.set_weights([w for w in (block.kernel, block.bias) if w is not None])
    y = convolution(x)
    normalisation.build(y.shape)
    normalisation.set_weights([block.gamma, block.beta, block.moving_mean, block.moving_variance])
    z = normalisation(y, training=training)
    return y, np.where(z > 0, z, 0.1 * z) if block.activate else z.numpy()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dilation": 2},
        {"padding": "valid"},
        {"kernel_size": 1, "use_bias": False, "activate": False},
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_equals_convolution_and_normalisation(options, training):
    block, x = random_block(**options)
    _, expected = as_keras(block, x, training)
    result = block(x, training=training)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    assert block.compute_output_shape(x.shape) == result.shape


def test_moving_variance_follows_the_unbiased_one():
    block, x = random_block()
    former = block.moving_mean.numpy(), block.moving_variance.numpy()
    y, _ = as_keras(block, x, True)
    block(x, training=True)
    positions = np.reshape(y, [-1, 5])
    mean, variance = positions.mean(axis=0), positions.var(axis=0, ddof=1)
    np.testing.assert_allclose(block.moving_mean, 0.9 * former[0] + 0.1 * mean, atol=1e-4)
    np.testing.assert_allclose(block.moving_variance, 0.9 * former[1] + 0.1 * variance, rtol=1e-4)


def test_a_frozen_block_keeps_its_statistics():
    block, x = random_block()
    expected, former = block(x), block.moving_mean.numpy()
    block.trainable = False
    np.testing.assert_array_equal(block(x, training=True), expected)
    np.testing.assert_array_equal(block.moving_mean, former)


def test_configuration_round_trip():
    block, _ = random_block(dilation=2, padding="valid")
    assert ConvolutionBlock.from_config(block.get_config()).get_config() == block.get_config()
