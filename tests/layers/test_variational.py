"""The variational stage on shifts that are known."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.layers.variational import VariationalStage, from_planes, normalised_grey, to_planes

SIZE = 48
# Log-weights of data, smoothness and attachment: without prior knowledge.
NEUTRAL = (0.0, -3.0, -9.0)


def shifted(texture, dx, dy, seed=0):
    """Returns target and source: what the target shows at p, the source shows at p + (dx, dy)."""
    target = texture(SIZE, SIZE, seed)
    matrix = np.float32([[1, 0, dx], [0, 1, dy]])
    source = cv2.warpAffine(
        target, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return target[None], source[None]


def refined(target, source, start=(0.0, 0.0), logs=NEUTRAL, stage=None):
    stage = stage or VariationalStage()
    flow = tf.tile(tf.constant(start, tf.float32)[:, None, None], [1, SIZE, SIZE])[None]
    planes = tf.tile(tf.constant(logs)[:, None, None], [1, SIZE, SIZE])[None]
    return stage(flow, flow, normalised_grey(target), normalised_grey(source), planes)


def test_planes_there_and_back():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    planes = to_planes(x)
    assert planes.shape == (2, 5, 3, 4)
    np.testing.assert_array_equal(planes[1, 2], x[1, ..., 2])
    np.testing.assert_array_equal(from_planes(planes), x)
    np.testing.assert_array_equal(to_planes(x[..., :1])[:, 0], x[..., 0])


def test_normalised_grey_does_not_change_with_the_light(texture):
    image = texture(SIZE, SIZE)[None]
    expected = normalised_grey(image)
    assert expected.shape == (1, 1, SIZE, SIZE)
    assert np.std(expected) == pytest.approx(1, abs=0.3)
    changed = normalised_grey(0.7 * image + 40.0)
    np.testing.assert_allclose(changed, expected, atol=0.1)


def test_normalised_grey_of_a_plain_image_is_zero():
    np.testing.assert_allclose(normalised_grey(tf.fill([1, 16, 16, 3], 250.0)), 0, atol=1e-3)


@pytest.mark.parametrize("shift", [(0.6, 0.0), (-0.4, 0.7)])
def test_a_shift_below_a_pixel_is_found(shift, texture):
    flow = refined(*shifted(texture, *shift))[0]
    error = np.linalg.norm(flow[0].numpy() - np.float32(shift)[:, None, None], axis=0)
    assert error[6:-6, 6:-6].mean() < 0.05


def test_what_is_left_of_the_data_falls_with_the_error(texture):
    target, source = shifted(texture, 0.5, 0.0)
    residual = np.abs(refined(target, source)[1][..., 6:-6, 6:-6])
    wrong = np.abs(refined(target, texture(SIZE, SIZE, 5)[None])[1][..., 6:-6, 6:-6])
    assert residual.mean() < 0.2 * wrong.mean()


def test_a_strong_attachment_keeps_the_flow(texture):
    flow = refined(*shifted(texture, 0.6, 0.0), logs=(0.0, 0.0, 9.0))[0]
    np.testing.assert_allclose(flow, np.zeros_like(flow), atol=0.01)


def test_where_nothing_is_seen_the_flow_stays(texture):
    target, source = shifted(texture, 0.6, 0.0)
    outside = refined(target, source, start=(3.0 * SIZE, 0.0))
    np.testing.assert_allclose(outside[0][:, 0], np.full((1, SIZE, SIZE), 3.0 * SIZE), rtol=1e-5)
    np.testing.assert_array_equal(outside[2], np.zeros((1, 1, SIZE, SIZE)))


def test_smoothness_is_what_spreads_the_flow(texture):
    """Three pixels hold on to a flow of 1 px; the others, which see nothing, follow."""
    plain = np.full((1, SIZE, SIZE, 3), 99.0, np.float32)
    prior = np.zeros((1, 2, SIZE, SIZE), np.float32)
    prior[..., 20:23] = 1.0
    logs = np.tile(np.float32([0, 0, -9])[:, None, None], [1, SIZE, SIZE])[None]
    logs[:, 2, :, 20:23] = 9.0
    image = normalised_grey(plain)
    near = VariationalStage()(prior, prior, image, image, logs)[0][0, 0, 24].numpy()
    assert near[23] > 0.5 and near[19] > 0.5 and abs(near[40]) < 0.05
    logs[:, 1] = -9.0
    alone = VariationalStage()(prior, prior, image, image, logs)[0][0, 0, 24].numpy()
    np.testing.assert_allclose(alone[[19, 23]], [0, 0], atol=0.05)


def test_a_uniform_region_takes_the_flow_around_it(texture):
    target, source = (np.array(image) for image in shifted(texture, 0.5, 0.0))
    for image in (target, source):
        image[:, 20:28, 20:28] = image.mean()
    flow = refined(target, source, logs=(0.0, -1.0, -9.0), stage=VariationalStage(4, 16))[0]
    inner = flow[0, 0, 22:26, 22:26].numpy()
    np.testing.assert_allclose(inner, np.full_like(inner, 0.5), atol=0.15)


def test_the_configuration_rebuilds_the_stage():
    config = VariationalStage(outer=3, inner=5).get_config()
    assert VariationalStage.from_config(config).get_config() == config
