import cv2
import numpy as np
import pytest

from tfdense import resampling
from tfdense.inference import resizing

_SIZES = [(480, 640), (90, 120), (75, 80), (478, 640), (33, 47), (200, 150)]


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("new", [(256, 256), (96, 128), (16, 300)])
def test_images_are_resized_as_by_opencv(size, new, monkeypatch):
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    expected = resizing.resize_image(image, new)
    for block in (2**18, 1000):
        monkeypatch.setattr(resampling, "_BLOCK", block)
        answer = resampling.resize_image(image, new)
        # Only what lies halfway between two integers may be rounded otherwise.
        assert answer.dtype == np.uint8 and np.mean(answer != expected) < 0.01
        assert np.abs(answer.astype(int) - expected).max() <= 1


def test_common_ratios_are_resized_to_the_bit():
    image = np.random.default_rng(4).integers(0, 256, (480, 640, 3), np.uint8)
    for new in ((256, 256), (384, 512), (240, 320), (960, 1280)):
        expected = resizing.resize_image(image, new)
        np.testing.assert_array_equal(resampling.resize_image(image, new), expected)


@pytest.mark.parametrize("size", _SIZES)
def test_floats_are_resized_as_by_opencv(size, monkeypatch):
    values = np.random.default_rng(5).normal(size=(64, 100, 2)).astype(np.float32)
    expected = resizing.resize_smooth(values, size)
    for block in (2**18, 1000):
        monkeypatch.setattr(resampling, "_BLOCK", block)
        answer = resampling.resize_smooth(values, size)
        np.testing.assert_allclose(answer, expected, atol=1e-4)
        part = resampling.resize_smooth(values, size, slice(7, 19), slice(11, 40))
        np.testing.assert_array_equal(part, answer[7:19, 11:40])


@pytest.mark.skipif(cv2.__version__ < "5", reason="OpenCV 4 rounds places to 1/32 px")
def test_samples_as_opencv_does():
    random = np.random.default_rng(6)
    image = random.integers(0, 256, (40, 50, 3), np.uint8)
    places = random.uniform(-9, 60, (30, 70, 2)).astype(np.float32)
    expected = cv2.remap(image, places, None, cv2.INTER_LINEAR)
    assert np.abs(resampling.sample(image, places).astype(int) - expected).max() <= 1
    floats = image[..., 0].astype(np.float32)
    expected = cv2.remap(floats, places, None, cv2.INTER_LINEAR)
    np.testing.assert_allclose(resampling.sample(floats, places), expected, atol=0.1)


def test_sampling_takes_any_place():
    places = np.float32([[[np.nan, 0], [np.inf, 1], [-1e30, 1], [1, 1], [1.25, 0]]])
    image = np.float32([[1, 2, 6], [4, 8, 16]])
    np.testing.assert_array_equal(resampling.sample(image, places), [[0, 0, 0, 8, 3]])
