"""What JPEG loses, against OpenCV's encoder."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.data.compression import compress


def _image(height=64, width=48):
    generator = np.random.default_rng(0)
    coarse = generator.uniform(40, 215, [5, 4, 3]).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + generator.normal(0, 6, image.shape), 0, 255).round().astype(np.float32)


def _compressed(image, quality):
    planes = tf.transpose(tf.constant(image), [2, 0, 1])[None]
    return np.transpose(compress(planes, tf.constant([quality]))[0], [1, 2, 0])


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_losses_are_opencv_s(quality):
    image = _image()
    encoded = cv2.imencode(
        ".jpg", image[..., ::-1].astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )[1]
    expected = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)
    compressed = _compressed(image, float(quality))
    difference = np.abs(compressed - expected).mean()
    assert difference < 0.3 * np.abs(image - expected).mean()


def test_best_quality_loses_little_and_any_size_will_do():
    image = np.repeat(_image(37, 51)[..., :1], 3, axis=-1)
    compressed = _compressed(image, 100.0)
    assert compressed.shape == image.shape
    np.testing.assert_allclose(compressed, image, atol=2)
    np.testing.assert_array_equal(compressed, np.round(compressed))


def test_images_have_qualities_of_their_own():
    planes = tf.tile(tf.transpose(tf.constant(_image()), [2, 0, 1])[None], [2, 1, 1, 1])
    poor, good = compress(planes, tf.constant([10.0, 95.0])) - planes
    assert np.abs(poor).mean() > 2 * np.abs(good).mean()
