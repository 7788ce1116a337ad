"""The decoders of PDC-Net: shapes, residual structure, where they start from."""

import numpy as np
import pytest
import tensorflow as tf

from tfdense.layers.decoders import FlowDecoder, RefinementNetwork, Upsampling
from tfdense.layers.uncertainty import CorrelationUncertainty, UncertaintyDecoder


def trainable_count(layer):
    return sum(int(np.prod(variable.shape)) for variable in layer.trainable_variables)


@pytest.mark.parametrize(
    ("layer", "channels", "count"),
    [
        (FlowDecoder, 258, 646_530),
        (FlowDecoder, 87, 449_538),
        (FlowDecoder, 89, 451_842),
        (RefinementNetwork, 32, 520_706),
        (UncertaintyDecoder, 38, 16_131),
        (UncertaintyDecoder, 44, 17_859),
        (CorrelationUncertainty, 81, 15_222),
    ],
)
def test_parameters_are_as_many_as_published(layer, channels, count):
    layer = layer()
    layer.build((None, None, None, channels))
    assert trainable_count(layer) == count


def test_upsampling_starts_as_bilinear_interpolation():
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 2)).astype(np.float32)
    result = Upsampling()(x)
    expected = tf.image.resize(x, (10, 12))
    assert result.shape == expected.shape
    np.testing.assert_allclose(result[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-6)


def test_skip_connections_leave_before_the_activation():
    decoder = FlowDecoder()
    x = tf.random.stateless_normal([1, 6, 7, 20], [0, 1])
    decoder(x)
    # Without the other branch, the features are those that the skip connections carry.
    for block in (decoder.conv_2, decoder.conv_4):
        for variable in block.variables:
            variable.assign(tf.zeros_like(variable))
    features, _ = decoder(x)
    carried = decoder.skip_2(decoder.skip_0(decoder.conv_0(x)))
    np.testing.assert_allclose(features, tf.nn.leaky_relu(carried, 0.1), atol=1e-5)


@pytest.mark.parametrize(("side", "shape"), [(9, (2, 3, 4)), (16, (1, 3, 2))])
def test_each_pixel_is_judged_on_its_own(side, shape):
    layer = CorrelationUncertainty(side)
    x = np.random.default_rng(0).normal(size=(*shape, side**2)).astype(np.float32)
    judged = np.reshape(layer(x), [-1, 6])
    order = np.random.default_rng(1).permutation(len(judged))
    shuffled = np.reshape(x, [-1, side**2])[order].reshape(x.shape)
    np.testing.assert_allclose(np.reshape(layer(shuffled), [-1, 6]), judged[order], atol=1e-5)
    assert layer.compute_output_shape(x.shape) == (*shape, 6)
    assert np.std(judged, axis=0).min() > 0


def test_another_side_is_refused():
    with pytest.raises(ValueError, match="side=8"):
        CorrelationUncertainty(8)
