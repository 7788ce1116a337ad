"""The U-Net."""

import numpy as np
import tensorflow as tf

from tfdense.layers.unet import UNet


def evidence(seed=0):
    """One part at stride 1, two at each of the others."""
    generator = np.random.default_rng(seed)
    return [
        [tf.constant(generator.normal(size=(1, size, 2 * size, 3)), tf.float32)] * count
        for size, count in ((32, 1), (16, 2), (8, 2), (4, 2))
    ]


def test_it_starts_with_the_initial_values():
    answer = UNet((4, 5, 6, 7), (6.0, 0.5))(evidence())
    assert answer.shape == (1, 32, 64, 2) and answer.dtype == tf.float32
    np.testing.assert_allclose(answer, np.broadcast_to([6.0, 0.5], answer.shape), atol=0.05)


def test_skips_and_evidence_reach_their_blocks():
    network = UNet((4, 5, 6, 7), (0.0, 0.0))
    network(evidence())
    # What came before, and the evidence of each stride.
    assert [c.kernel.shape[2] for c in network.encoder] == [3, 4 + 6, 5 + 6, 6 + 6]
    # What was resized, and the skip: the output of the encoder at that stride, then the images.
    assert [c.kernel.shape[2] for c in network.decoder] == [7 + 6, 6 + 5, 5 + 4, 4 + 3]
    assert [c.kernel.shape[3] for c in network.decoder] == [6, 5, 4, 4]


def test_a_pixel_counts_near_and_far():
    """Near through the skip connection, far through the coarse levels."""
    network = UNet((4, 4, 4, 4), (0.0, 0.0))
    image = tf.random.stateless_normal([1, 96, 96, 3], [1, 2])
    parts = [[image], *([tf.zeros([1, 96 >> i, 96 >> i, 3])] for i in (1, 2, 3))]
    with tf.GradientTape() as tape:
        tape.watch(image)
        centre = tf.reduce_sum(network(parts)[0, 48, 48])
    seen = np.abs(tape.gradient(centre, image)[0]).sum(-1)
    assert seen[48, 48] > 0
    rows = np.nonzero(seen.any(1))[0]
    assert rows[0] < 48 - 16 and rows[-1] > 48 + 16
