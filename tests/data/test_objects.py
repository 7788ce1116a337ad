"""Moving objects: how many there are, where, and how they move."""

import numpy as np
import pytest
import tensorflow as tf

from tfdense.data import matrices
from tfdense.data.canvases import MARGIN
from tfdense.data.objects import object_motion, random_objects
from tfdense.data_config import ObjectConfig

_SIZE, _SIDE = 100, 64
_SEEDS = tf.constant([[0, i] for i in range(300)])


def _apply(matrix, point):
    x, y, _ = matrices.transform(matrix, *(tf.constant([[float(p)]]) for p in point))
    return np.stack([x[..., 0, 0], y[..., 0, 0]], axis=-1)


def test_number_of_objects():
    config = ObjectConfig(probability=0.6, count=(2, 3))
    present = random_objects(_SEEDS, config, _SIDE, _SIZE).present.numpy()
    assert set(present.sum(axis=1)) == {0, 2, 3}
    assert abs(np.mean(present.any(axis=1)) - 0.6) < 0.1
    assert (np.diff(present.astype(int)) <= 0).all()  # the present ones come first


def test_objects_have_their_size_and_stand_anywhere():
    objects = random_objects(_SEEDS, ObjectConfig(size=(0.2, 0.4)), _SIDE, _SIZE)
    to_target = matrices.inverse(objects.to_cutout)
    first, last = (_apply(to_target, [end] * 2) for end in (MARGIN - 0.5, _SIDE - MARGIN - 0.5))
    length = (last - first)[..., 0]
    assert 20 - 1e-3 <= length.min() < 22 and 39 < length.max() <= 40 + 1e-3
    centre = (first + last) / 2
    assert centre.min() > -1e-3 and centre.max() < _SIZE
    assert np.abs(centre.mean(axis=(0, 1)) - _SIZE / 2).max() < 5


def test_objects_are_nudged_or_move_anywhere():
    config = ObjectConfig(rotation=0.0, log_scale=0.0, nudge=4.0, nudge_probability=0.7)
    shift = random_objects(_SEEDS, config, _SIDE, _SIZE).motion[..., :2, 2].numpy()
    near = np.abs(shift).max(axis=-1) <= 4
    assert abs(near.mean() - 0.7) < 0.06
    assert np.abs(shift).max() > 60


def test_a_quarter_turn_is_counter_clockwise_about_the_centre():
    motion = object_motion(tf.constant([0.0, 0.0]), np.float32(np.pi / 2), 0.0, _SIZE, _SIZE)
    # To the right of the centre before, above it afterwards.
    np.testing.assert_allclose(_apply(motion, (70, 50)), [50, 30], atol=1e-4)


@pytest.mark.reference
def test_motion_of_the_original(reference):
    data = np.load(reference / "ops" / "object_affine.npz")
    height, width = (int(side) for side in data["image_hw"])
    motions = object_motion(
        tf.constant(np.stack([data["tx"], data["ty"]], axis=-1), tf.float32),
        tf.constant(np.radians(data["theta_deg"]), tf.float32),
        tf.constant(np.log(data["scale"]), tf.float32),
        height,
        width,
    )
    np.testing.assert_allclose(motions, data["matrix"], atol=1e-4)
