"""The operations against TensorFlow Addons, an implementation by other hands."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_addons as tfa

from tfdense.ops import correlation, warping

# With several threads the gradient of CorrelationCost loses additions now and then.
tf.config.threading.set_intra_op_parallelism_threads(1)


def value_and_gradients(function, first, second):
    """Returns the value, and the gradients of its product with fixed random numbers."""
    first, second = tf.constant(first), tf.constant(second)
    with tf.GradientTape() as tape:
        tape.watch([first, second])
        value = function(first, second)
        upstream = np.random.default_rng(9).normal(size=value.shape).astype(np.float32)
        total = tf.reduce_sum(value * upstream)
    return [value, *tape.gradient(total, [first, second])]


def assert_close(ours, theirs):
    for index in range(3):
        np.testing.assert_allclose(ours[index], theirs[index], atol=2e-5)


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("shape", [(2, 7, 9, 5), (1, 12, 6, 16)])
def test_local_correlation_equals_correlation_cost(shape, radius):
    generator = np.random.default_rng(0)
    target, source = (generator.normal(size=shape).astype(np.float32) for _ in range(2))
    layer = tfa.layers.CorrelationCost(
        kernel_size=1,
        max_displacement=radius,
        stride_1=1,
        stride_2=1,
        pad=radius,
        data_format="channels_last",
    )
    ours = value_and_gradients(
        lambda target, source: correlation.local(target, source, radius), target, source
    )
    theirs = value_and_gradients(lambda target, source: layer([target, source]), target, source)
    assert_close(ours, theirs)


@pytest.mark.parametrize("size", [(8, 11), (13, 6)])
def test_bilinear_warp_equals_dense_image_warp_inside(size):
    generator = np.random.default_rng(0)
    height, width = size
    image = generator.normal(size=(2, height, width, 3)).astype(np.float32)
    # Positions inside, where padding by zeros and clamping at the border do not differ, and away
    # from whole pixels, where the gradient of the flow jumps.
    corner = np.stack(
        [
            generator.integers(0, width - 1, size=(2, height, width)),
            generator.integers(0, height - 1, size=(2, height, width)),
        ],
        axis=-1,
    )
    position = corner + generator.uniform(0.05, 0.95, size=corner.shape)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    flow = (position - np.stack([x, y], axis=-1)).astype(np.float32)

    def addons_warp(image, flow):
        # Addons subtracts its flow, whose channels are (dy, dx).
        return tfa.image.dense_image_warp(image, -flow[..., ::-1])

    ours = value_and_gradients(warping.bilinear, image, flow)
    theirs = value_and_gradients(addons_warp, image, flow)
    assert_close(ours, theirs)
