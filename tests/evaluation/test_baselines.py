"""The classical methods on warps that they can solve."""

import cv2
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation.baselines import BASELINES, USUAL, choose
from tfdense.evaluation.features import FeatureMatch, homography_flow, local_affine_flow
from tfdense.evaluation.geometric import pose_error
from tfdense.two_view.estimation import Matches

HAS_DEEPFLOW = hasattr(getattr(cv2, "optflow", None), "createOptFlow_DeepFlow")
DEEPFLOW = pytest.param(
    "DeepFlow", marks=pytest.mark.skipif(not HAS_DEEPFLOW, reason="needs the extra peers")
)
SHAPE = (200, 240)


def texture(height=200, width=240):
    noise = np.random.default_rng(0).uniform(0, 255, (height // 4, width // 4, 3))
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255)


def shifted(image, x, y):
    """Returns the target whose flow to the image is (x, y) everywhere."""
    matrix = np.array([[1.0, 0, -x], [0, 1, -y]])
    size = image.shape[1::-1]
    return cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT).astype(np.uint8)


@pytest.mark.parametrize(
    "name", ["DIS", "Farneback", DEEPFLOW, "SIFT + homography", "SIFT + local affine"]
)
def test_flow_goes_from_target_to_source(name):
    x, y = (40, -15) if name.startswith("SIFT") else (4, -2)
    source = texture()
    match = BASELINES[name].match(source.astype(np.uint8), shifted(source, x, y))
    assert match.flow.dtype == match.confidence.dtype == np.float32
    inner = match.flow[60:140, 60:180]
    np.testing.assert_allclose(np.median(inner, axis=(0, 1)), [x, y], atol=0.1)
    assert np.median(match.confidence[60:140, 60:180]) > 0.8
    assert match.confidence.min() >= 0
    assert match.confidence.max() <= 1


@pytest.mark.parametrize(
    "name", ["DIS", "Farneback", DEEPFLOW, "SIFT + homography", "SIFT + local affine"]
)
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


@pytest.mark.parametrize("name", ["SIFT + homography", "SIFT + local affine"])
def test_nothing_moves_without_features(name):
    blank = np.full((50, 60, 3), 128, np.uint8)
    assert not BASELINES[name].match(blank, blank).flow.any()
    assert BASELINES[name].match(blank, blank).homography() is None


@pytest.mark.parametrize("fit", [homography_flow, local_affine_flow])
def test_eight_matches_have_to_agree(fit):
    target = np.random.default_rng(0).uniform(20, 180, (8, 2))
    matches = Matches(target + np.array([7, 3]), target, np.ones(8))
    np.testing.assert_allclose(fit(matches, SHAPE, SHAPE)[50, 60], [7, 3], atol=1e-2)
    assert not fit(matches.select(np.arange(8) < 7), SHAPE, SHAPE).any()


def stereo_matches(disparity, count=400):
    """Matches of rectified images, a fifth of them wrong, and which ones are right."""
    random = np.random.default_rng(0)
    target = random.uniform(0, 240, (count, 2)) * [1, 5 / 6]
    source = target + np.stack([disparity(target, random), np.zeros(count)], axis=-1)
    right = np.arange(count) % 5 > 0
    wrong = count // 5, 2
    source[~right] += random.choice([-1, 1], wrong) * random.uniform(10, 90, wrong)
    return Matches(source, target, np.ones(count)), right


def test_local_affine_flow_is_that_of_the_twelve_nearest():
    def rough(points, random):
        return random.uniform(-30, 30, len(points))

    matches, right = stereo_matches(rough)
    flow = local_affine_flow(matches, SHAPE, SHAPE)
    for x, y in [(120, 100), (60, 152), (200, 40)]:
        distance = np.linalg.norm(matches.target - [x, y], axis=-1) + 1e3 * ~right
        nearest = np.argsort(distance)[:12]
        design = np.column_stack([matches.target[nearest] - [x, y], np.ones(12)])
        moved = matches.source[nearest] - matches.target[nearest]
        expected = np.linalg.lstsq(design, moved, rcond=None)[0][2]
        np.testing.assert_allclose(flow[y, x], expected, atol=0.05)


def test_local_affine_flow_follows_a_fold():
    def folded(points, random):
        return -0.1 * np.abs(points[:, 0] - 120)

    flow = local_affine_flow(stereo_matches(folded)[0], SHAPE, SHAPE)
    columns = np.r_[30:90, 150:210]
    expected = np.broadcast_to(-0.1 * np.abs(columns - 120), (160, len(columns)))
    np.testing.assert_allclose(flow[20:180, columns, 0], expected, atol=0.1)
    np.testing.assert_allclose(flow[20:180, columns, 1], 0, atol=0.1)


def test_local_affine_flow_stays_within_the_source():
    target = np.random.default_rng(0).uniform(50, 70, (30, 2))
    matches = Matches(9 * (target - 50), target, np.ones(30))
    y, x = np.mgrid[:200, :240]
    places = local_affine_flow(matches, (180, 190), SHAPE) + np.stack([x, y], axis=-1)
    assert places.min() == 0
    np.testing.assert_allclose(places.reshape(-1, 2).max(axis=0), [189, 179])


def test_deepflow_needs_more_of_opencv(monkeypatch):
    monkeypatch.delattr(cv2, "optflow", raising=False)
    assert list(choose(USUAL)) == list(USUAL)
    with pytest.raises(InputError, match=r"tfdense\[peers\]"):
        choose(["DIS", "DeepFlow"])


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
    match = FeatureMatch(np.empty(0), np.empty(0), matches)
    assert match.matches() is matches
    pose = match.pose(camera, camera)
    assert pose_error(pose.rotation, pose.translation, rotation, translation) < 0.1
