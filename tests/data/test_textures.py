"""Sampling of textures against OpenCV and the general bilinear sampling."""

import cv2
import numpy as np
import tensorflow as tf

from tfdense.data.textures import mirrored, sample, texture
from tfdense.ops import warping


def _image(seed=0, side=32, channels=4):
    noise = np.random.default_rng(seed).uniform(0, 255, [side, side, channels])
    return cv2.GaussianBlur(noise.astype(np.float32), (0, 0), 1).astype(np.uint8)


def _sampled(images, x, y, area=1.0):
    area = tf.fill([1, 1, 1], area)
    result = sample(texture(tf.constant(np.stack(images))), tf.constant(x), tf.constant(y), area)
    return np.transpose(result, [0, 2, 3, 1])


def test_sampling_is_the_general_one_s():
    images = [_image(0), _image(1)]
    x, y = np.random.default_rng(2).uniform(0, 31, [2, 2, 20, 24]).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(24), np.arange(20)), axis=-1)
    flow = (np.stack([x, y], axis=-1) - grid).astype(np.float32)
    expected = warping.bilinear(tf.constant(np.stack(images), tf.float32), tf.constant(flow))
    np.testing.assert_allclose(_sampled(images, x, y), expected, atol=1e-2)


def test_images_without_alpha_are_opaque():
    image = _image(channels=3)
    x = y = np.full([1, 1, 1], 7.0, np.float32)
    np.testing.assert_array_equal(_sampled([image], x, y)[0, 0, 0], [*image[7, 7], 255])


def test_textures_are_taken_in_turn():
    images = [_image(0), _image(1)]
    x = y = np.full([4, 1, 1], 5.0, np.float32)
    sampled = _sampled(images, x, y)[:, 0, 0]
    np.testing.assert_array_equal(sampled, [image[5, 5] for image in images] * 2)


def test_smaller_images_are_averages_of_boxes():
    """A pixel that covers four, or sixteen, shows their mean, as OpenCV's INTER_AREA does."""
    image = _image()
    for factor in (2, 4):
        side = 32 // factor
        place = (np.arange(side, dtype=np.float32) + 0.5) * factor - 0.5
        x, y = (np.ascontiguousarray(p[None], np.float32) for p in np.meshgrid(place, place))
        expected = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(int)
        sampled = _sampled([image], x, y, float(factor**2))[0]
        np.testing.assert_allclose(sampled, expected, atol=1.01)


def test_beyond_the_border_it_goes_on():
    image = _image()
    x, y = (np.array(p, np.float32).reshape(1, 1, -1) for p in ([-9, 99, 7], [3, 40, -2]))
    for area in (1.0, 16.0):
        inside = _sampled([image], x.clip(0, 31), y.clip(0, 31), area)
        np.testing.assert_allclose(_sampled([image], x, y, area), inside, atol=1e-3)


def test_mirrored_sampling_is_opencv_s_reflection():
    image = _image()
    position = np.random.default_rng(1).uniform(-15, 45, [2, 25, 35]).astype(np.float32)
    padded = cv2.copyMakeBorder(image, 28, 28, 28, 28, cv2.BORDER_REFLECT_101)
    expected = cv2.remap(padded, *(position + 28), cv2.INTER_LINEAR)
    x, y = mirrored(position, 32).numpy()
    np.testing.assert_allclose(_sampled([image], x[None], y[None])[0], expected, atol=4)
    inverted = _sampled([255 - image], x[None], y[None])
    np.testing.assert_allclose(_sampled([image], x[None], y[None]) + inverted, 255, atol=1e-2)
