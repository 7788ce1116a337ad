"""The classical methods on warps that they can solve."""

import cv2
import numpy as np
import pytest

from tfdense.evaluation.baselines import BASELINES, FeatureMatch
from tfdense.evaluation.geometric import pose_error
from tfdense.inference.two_view import Matches


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


def test_homography_is_found():
    source = texture()
    homography = np.array([[1.1, 0.05, -20], [-0.04, 1.05, 5], [2e-4, 1e-4, 1]])
    target = cv2.warpPerspective(source, homography, source.shape[1::-1]).astype(np.uint8)
    match = BASELINES["SIFT + homography"].match(source.astype(np.uint8), target)
    corners = np.array([[[0.0, 0], [239, 0], [0, 199], [239, 199]]])
    places = [cv2.perspectiveTransform(corners, h) for h in (match.homography().matrix, homography)]
    np.testing.assert_allclose(*places, atol=1.0)
    # The target's (100, 100) comes from where the inverse sends it.
    place = cv2.perspectiveTransform(np.array([[[100.0, 100]]]), np.linalg.inv(homography))[0, 0]
    np.testing.assert_allclose(match.flow[100, 100], place - 100, atol=0.5)
    assert match.confidence[100, 100] > 0.8


def test_homography_without_features_is_identity():
    blank = np.full((50, 60, 3), 128, np.uint8)
    assert not BASELINES["SIFT + homography"].match(blank, blank).flow.any()
    assert BASELINES["SIFT + homography"].match(blank, blank).homography() is None


def test_no_features_give_no_pose():
    blank = np.full((50, 60, 3), 128, np.uint8)
    camera = np.array([[60.0, 0, 30], [0, 60, 25], [0, 0, 1]])
    assert BASELINES["SIFT + homography"].match(blank, blank).pose(camera, camera) is None


def test_pose_is_that_of_the_matches():
    random = np.random.default_rng(0)
    camera = np.array([[300.0, 0, 120], [0, 310, 100], [0, 0, 1]])
    rotation = cv2.Rodrigues(np.array([0.05, -0.1, 0.02]))[0]
    translation = np.array([1.0, 0.2, 0.1])
    points = random.uniform([-2, -2, 4], [2, 2, 9], (100, 3))

    def project(points):
        places = points @ camera.T
        return places[:, :2] / places[:, 2:]

    target = project(points @ rotation.T + translation)
    matches = Matches(project(points), target, np.ones(100))
    match = FeatureMatch(np.empty(0), np.empty(0), matches, None)
    assert match.matches() is matches
    pose = match.pose(camera, camera)
    assert pose_error(pose.rotation, pose.translation, rotation, translation) < 0.1
