"""Changes of colour and sharpness against OpenCV and by their meaning."""

import cv2
import numpy as np
import tensorflow as tf

from tfdense.data.appearance import blur, colour_matrix, random_appearance
from tfdense.data_config import PhotometryConfig

_OFF = dict.fromkeys(
    ("brightness", "contrast", "saturation", "hue", "gamma", "shading", "grey", "blur", "noise",
     "jpeg"), 0.0)  # fmt: skip


def _image(size=32):
    noise = np.random.default_rng(0).uniform(0, 255, [size, size, 3]).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 1)


def _changed(seed=0, **options):
    config = PhotometryConfig(**_OFF | {"probability": 1.0} | options)
    return _random(config, [seed, 1])


def _random(config, seed):
    changed = random_appearance(_planes(_image()), tf.constant([seed]), config)
    return np.transpose(changed[0], [1, 2, 0])


def _planes(image):
    return tf.transpose(tf.constant(image), [2, 0, 1])[None]


def test_nothing_asked_changes_nothing():
    np.testing.assert_allclose(_changed(), _image(), atol=1e-2)
    np.testing.assert_array_equal(_changed(probability=0.0, noise=1.0, hue=90.0), _image())


def test_blur_is_opencv_s():
    expected = cv2.GaussianBlur(_image(), (11, 11), 1.3, borderType=cv2.BORDER_REFLECT_101)
    blurred = blur(_planes(_image()), tf.constant([1.3]), 1.5)[0]
    np.testing.assert_allclose(np.transpose(blurred, [1, 2, 0]), expected, atol=0.01)


def test_colour_matrix_turns_the_hue_and_keeps_grey():
    turn = colour_matrix(1.0, np.float32(2 * np.pi / 3)).numpy()
    np.testing.assert_allclose(turn @ [1, 0, 0], [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(turn @ [0, 1, 0], [0, 0, 1], atol=1e-6)
    for matrix in (turn, colour_matrix(0.3, 0.2), colour_matrix(1.7, -0.4)):
        np.testing.assert_allclose(np.sum(matrix, axis=1), 1, atol=1e-5)
    luma = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(luma @ colour_matrix(0.4, 0.0).numpy(), luma, atol=1e-6)


def test_grey_images_have_equal_channels():
    image = _changed(grey=1.0)
    np.testing.assert_allclose(image, np.repeat(image[..., :1], 3, axis=-1), atol=1e-3)
    expected = cv2.cvtColor(_image(), cv2.COLOR_RGB2GRAY)
    np.testing.assert_allclose(image[..., 0], expected, atol=0.1)


def test_brightness_is_a_shift_and_shading_a_gradient():
    shift = np.median(_changed(brightness=0.2) - _image())
    assert 1 < abs(shift) <= 0.2 * 255
    ratio = _changed(shading=0.5) / _image()
    corners = ratio[[0, 0, -1, -1], [0, -1, 0, -1]].mean(axis=-1)
    assert np.ptp(corners) > 0.02
    assert abs(corners[0] + corners[3] - corners[1] - corners[2]) < 0.01
    np.testing.assert_allclose(ratio[15:17, 15:17].mean(), 1, atol=0.01)


def test_gamma_and_contrast_stay_within_their_ranges():
    for seed in range(5):
        exponent = np.log(_changed(seed, gamma=0.5) / 255) / np.log(_image() / 255)
        assert np.ptp(exponent) < 0.01 and abs(np.log(exponent.mean())) <= 0.5
        factor = np.std(_changed(seed, contrast=0.3)) / np.std(_image())
        assert 0.69 < factor < 1.31


def test_noise_and_compression_are_small():
    noise = _changed(noise=1.0, noise_deviation=10.0) - _image()
    assert 0.1 < noise.std() < 10.5
    compressed = _changed(jpeg=1.0, jpeg_quality=(80, 90)) - _image()
    assert 0.5 < compressed.std() < 15


def test_images_of_a_pair_are_changed_on_their_own_and_repeatably():
    config = PhotometryConfig(probability=1.0)
    first, second = (_random(config, [0, i]) for i in (1, 2))
    assert np.abs(first - second).mean() > 3
    np.testing.assert_array_equal(first, _random(config, [0, 1]))
    for i in range(10):
        changed = _random(config, [1, i])
        assert changed.min() >= 0 and changed.max() <= 255


def test_images_do_not_depend_on_their_batch():
    config = PhotometryConfig(blur=0.5, noise=0.5, jpeg=0.5)
    seeds = tf.constant([[2, i] for i in range(8)])
    images = tf.repeat(_planes(_image()), 8, axis=0)
    together = random_appearance(images, seeds, config).numpy()
    for image, seed, expected in zip(images, seeds, together, strict=True):
        alone = random_appearance(image[None], seed[None], config)[0]
        # A rounding error can decide which way the compression rounds.
        assert np.mean(np.abs(alone - expected) > 0.01) < 0.01
