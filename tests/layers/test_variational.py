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


def refined(target, source, flow=None, logs=NEUTRAL):
    flow = np.zeros((1, 2, SIZE, SIZE), np.float32) if flow is None else flow
    planes = np.tile(np.float32(logs)[:, None, None], [1, SIZE, SIZE])[None]
    images = (normalised_grey(image) for image in (target, source))
    change, *terms = VariationalStage()(flow, flow, *images, planes)
    return flow + change, *terms


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
    """But for what interpolation between the pixels loses."""
    images = shifted(texture, *shift)
    first = refined(*images)[0]
    second = refined(*images, flow=first)[0]
    before, once, twice = (
        np.linalg.norm(flow - np.float32(shift)[:, None, None], axis=1)[:, 6:-6, 6:-6].mean()
        for flow in (np.zeros_like(first), first.numpy(), second.numpy())
    )
    assert once < 0.4 * before
    assert twice < 0.3 * before


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
    flow = np.full((1, 2, SIZE, SIZE), 3.0 * SIZE, np.float32)
    outside = refined(target, source, flow)
    np.testing.assert_allclose(outside[0], flow, rtol=1e-7)
    np.testing.assert_array_equal(outside[2], np.zeros((1, 1, SIZE, SIZE)))


def test_smoothness_carries_the_flow_to_neighbours():
    """Three columns hold on to a flow of 1 px, the others, which see nothing, to 0 px."""
    image = tf.zeros([1, 1, SIZE, SIZE])
    prior = np.zeros((1, 2, SIZE, SIZE), np.float32)
    prior[..., 20:23] = 1.0
    logs = np.zeros((1, 3, SIZE, SIZE), np.float32)
    logs[:, 2, :, 20:23] = 9.0

    def row(smoothness):
        logs[:, 1] = smoothness
        change = VariationalStage()(prior, prior, image, image, logs)[0]
        return (prior + change)[0, 0, 24].numpy()

    smooth = row(2.0)
    assert smooth[23] > 0.15 and np.all(np.diff(smooth[22:30]) < 0) and smooth[40] < 0.01
    np.testing.assert_allclose(smooth[19:16:-1], smooth[23:26], atol=1e-4)
    np.testing.assert_allclose(row(-9.0)[[19, 23]], [0, 0], atol=0.01)


def test_smoothness_ends_at_an_edge_of_the_image():
    prior = np.zeros((1, 2, SIZE, SIZE), np.float32)
    prior[..., 20:23] = 1.0
    logs = np.zeros((1, 3, SIZE, SIZE), np.float32)
    logs[:, 1], logs[:, 2, :, 20:23] = 2.0, 9.0
    image = np.zeros((1, 1, SIZE, SIZE), np.float32)
    image[..., 23:] = 4.0
    logs[:, 0] = -9.0  # the edge shall not count as something seen
    change = VariationalStage()(prior, prior, image, image, logs)[0]
    flow = (prior + change)[0, 0, 24].numpy()
    assert flow[19] > 0.15 and flow[23] < 0.6 * flow[19]


def test_the_configuration_rebuilds_the_stage():
    config = VariationalStage(outer=3, inner=5).get_config()
    assert VariationalStage.from_config(config).get_config() == config
