"""The parts of PWC-Net."""

import numpy as np
import pytest
import tensorflow as tf

from tfdense.layers.pwc import ContextNetwork, DenseDecoder, FeaturePyramid


def uniform(*shape):
    return tf.random.stateless_uniform(shape, [1, 2], -1, 1)


def test_the_pyramid_halves_at_each_level():
    pyramid = FeaturePyramid((4, 6, 8))
    levels = pyramid(uniform(2, 16, 32, 3))
    assert [tuple(x.shape) for x in levels] == [(2, 8, 16, 4), (2, 4, 8, 6), (2, 2, 4, 8)]
    assert len(pyramid.trainable_variables) == 3 * 2 * 2


def test_activations_leak():
    negative = FeaturePyramid((4,))(uniform(1, 8, 8, 3))[0].numpy()
    assert negative.min() < 0
    assert abs(negative.min()) < 0.5 * negative.max()


def test_each_convolution_of_a_decoder_sees_all_before_it():
    decoder = DenseDecoder((5, 4, 3), (0.0, 7.0))
    state, answer = decoder([uniform(1, 6, 6, 2), uniform(1, 6, 6, 1)])
    assert [c.kernel.shape[2] for c in decoder.convolutions] == [3, 8, 12]
    assert decoder.prediction.kernel.shape == (3, 3, 15, 2)
    assert state.shape == (1, 6, 6, 3)
    np.testing.assert_allclose(answer, np.broadcast_to([0.0, 7.0], (1, 6, 6, 2)), atol=0.05)


@pytest.mark.parametrize(("count", "reach"), [(1, 2), (3, 5), (5, 17)])
def test_the_context_network_sees_as_far_as_its_dilations_add_up_to(count, reach):
    """Dilations 1, 2, 4, ... and a last 1, and 1 for the prediction."""
    context = ContextNetwork((4,) * count)
    state, flow = uniform(1, 41, 41, 2), tf.zeros([1, 41, 41, 2])
    with tf.GradientTape() as tape:
        tape.watch(state)
        centre = context(state, flow)[0, 20, 20]
    seen = np.abs(tape.gradient(centre, state)[0]).sum(-1) > 0
    rows = np.nonzero(seen.any(1))[0]
    assert (rows[0], rows[-1]) == (20 - reach, 20 + reach)
