"""The classical methods on warps that they can solve."""

import cv2
import numpy as np
import pytest

from tfdense.evaluation.baselines import BASELINES, estimate_homography


def texture(height=200, width=240):
    noise = np.random.default_rng(0).uniform(0, 255, (height // 4, width // 4, 3))
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255)


def shifted(image, x, y):
    """Returns the target whose flow to the image is (x, y) everywhere."""
    matrix = np.array([[1.0, 0, -x], [0, 1, -y]])
    size = image.shape[1::-1]
    return cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "x", "y"), [("DIS", 4, -2), ("Farneback", 4, -2), ("SIFT + homography", 40, -15)]
)
def test_flow_goes_from_target_to_source(name, x, y):
    source = texture()
    match = BASELINES[name].match(source.astype(np.uint8), shifted(source, x, y))
    assert match.flow.dtype == match.confidence.dtype == np.float32
    inner = match.flow[60:140, 60:180]
    np.testing.assert_allclose(np.median(inner, axis=(0, 1)), [x, y], atol=0.1)
    assert np.median(match.confidence[60:140, 60:180]) > 0.8
    assert match.confidence.min() >= 0
    assert match.confidence.max() <= 1


@pytest.mark.parametrize("name", ["DIS", "Farneback", "SIFT + homography"])
def test_images_of_different_size(name):
    target = texture().astype(np.uint8)
    source = cv2.resize(target, (300, 220), interpolation=cv2.INTER_LINEAR)
    match = BASELINES[name].match(source, target)
    assert match.flow.shape == (200, 240, 2)
    assert match.confidence.shape == (200, 240)
    # Half-pixel centres: x to (x + 0.5) 300 / 240 - 0.5.
    expected = [(120.5 * 1.25 - 0.5) - 120, (100.5 * 1.1 - 0.5) - 100]
    np.testing.assert_allclose(match.flow[100, 120], expected, atol=0.3)


def test_identity_does_not_move():
    image = np.zeros((20, 30, 3), np.uint8)
    match = BASELINES["identity"].match(image[:, :25], image)
    assert not match.flow.any()
    np.testing.assert_array_equal(match.confidence[:, :25], 1.0)
    np.testing.assert_array_equal(match.confidence[:, 25:], 0.0)  # outside of the source


def test_homography_is_opencv_s_way_round():
    source = texture()
    homography = np.array([[1.1, 0.05, -20], [-0.04, 1.05, 5], [2e-4, 1e-4, 1]])
    size = source.shape[1::-1]
    target = cv2.warpPerspective(source, homography, size, flags=cv2.WARP_INVERSE_MAP)
    found = estimate_homography(
        *(cv2.cvtColor(i.astype(np.uint8), cv2.COLOR_RGB2GRAY) for i in (source, target))
    )
    corners = np.array([[[0.0, 0], [239, 0], [0, 199], [239, 199]]])
    difference = cv2.perspectiveTransform(corners, found) - cv2.perspectiveTransform(
        corners, homography
    )
    assert np.abs(difference).max() < 1.0


def test_homography_without_features_is_identity():
    blank = np.full((50, 60, 3), 128, np.uint8)
    assert not BASELINES["SIFT + homography"].match(blank, blank).flow.any()
    assert BASELINES["SIFT + homography"].match(blank, blank).homography() is None


def test_homography_of_a_match_goes_from_source_to_target():
    source = texture()
    target = shifted(source, 40, -15)
    found = BASELINES["SIFT + homography"].match(source.astype(np.uint8), target).homography()
    place = cv2.perspectiveTransform(np.array([[[120.0, 100.0]]]), found.matrix)
    np.testing.assert_allclose(place, [[[80.0, 115.0]]], atol=0.5)
