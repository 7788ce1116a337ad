"""Where the source lies in the photo."""

import numpy as np
import tensorflow as tf

from tfdense.data.cameras import View, random_view
from tfdense.data_config import WarpConfig

_SIZE, _SIDE = 64, 96


def _views(flow, count):
    seeds = tf.constant([[0, i] for i in range(count)])
    return random_view(seeds, tf.fill([count, _SIZE, _SIZE, 2], flow), _SIDE, WarpConfig())


def test_view_keeps_both_images_in_the_photo_where_possible():
    origin, scale = _views(8.0, 40)
    share = np.abs(scale) * (_SIZE - 1) / (_SIDE - 1)
    assert 0.55 - 1e-4 <= share.min() < 0.6 and 0.75 < share.max() <= 0.85 + 1e-4
    for corner in (0.0, _SIZE - 1 + 8.0):
        position = origin + scale * corner
        assert position.numpy().min() >= -1e-3
        assert position.numpy().max() <= _SIDE - 1 + 1e-3


def test_source_stays_in_the_photo_whatever_the_target_does():
    for flow in (-200.0, 70.0, 1e6):
        origin, scale = _views(flow, 20)
        for corner in (0.0, _SIZE - 1.0):
            position = (origin + scale * corner).numpy()
            assert position.min() >= -1e-3 and position.max() <= _SIDE - 1 + 1e-3


def test_views_are_mirrored_as_often_as_asked():
    scale = _views(0.0, 80).scale.numpy()
    assert 0.3 < np.mean(scale[:, 0] < 0) < 0.7
    assert (scale[:, 1] > 0).all()


def test_positions_in_the_photo():
    view = View(tf.constant([[10.0, 20.0]]), tf.constant([[-2.0, 0.5]]))
    x, y = view.position(tf.constant([[[3.0]]]), tf.constant([[[4.0]]]))
    assert (x[0, 0, 0], y[0, 0, 0]) == (4.0, 22.0)
