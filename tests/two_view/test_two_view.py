"""Homography and relative pose, from matches of known scenes with known mistakes in them."""

import cv2
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.results.match import Match
from tfdense.two_view.estimation import Matches, fit_homography, fit_pose, map_points

_HOMOGRAPHY = np.array([[0.9, 0.12, 14], [-0.1, 1.05, 8], [4e-4, -2e-4, 1]])
_K_SOURCE = np.array([[150.0, 0, 63], [0, 155, 50], [0, 0, 1]])
_K_TARGET = np.array([[130.0, 0, 70], [0, 128, 44], [0, 0, 1]])
_ROTATION = cv2.Rodrigues(np.array([0.05, -0.12, 0.03]))[0]
_TRANSLATION = np.array([0.9, 0.15, -0.2])


def _match(places, wrong=0.3, noise=0.2, source_size=(120, 160)):
    """Returns a match of known places [height, width, 2], noisy, with a share that is wrong.

    Its confidence is lower, but not always, where it is wrong.
    """
    random = np.random.default_rng(0)
    height, width = places.shape[:2]
    places = places + random.normal(scale=noise, size=places.shape) if noise else places
    mistaken = random.random((height, width)) < wrong
    places[mistaken] = random.uniform(0, source_size[::-1], (mistaken.sum(), 2))
    confidence = random.uniform(0.2, 0.57, (height, width)) - 0.15 * mistaken
    return Match(
        flow=(places - _grid(height, width)).astype(np.float32),
        confidence=confidence.astype(np.float32),
        log_variance=np.zeros((height, width, 1), np.float32),
        logits=np.zeros((height, width, 1), np.float32),
        radius=1.0,
        source=np.zeros((*source_size, 3), np.uint8),
        target=np.zeros((height, width, 3), np.uint8),
    )


def _grid(height, width):
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float)


def _plane(height=96, width=128):
    """Returns the places in the source of a plane: target = _HOMOGRAPHY(source)."""
    return map_points(np.linalg.inv(_HOMOGRAPHY), _grid(height, width))[0]


def _scene(height=96, width=128, translation=_TRANSLATION, cameras=(_K_SOURCE, _K_TARGET)):
    """Returns the places in the source of a scene with depth, projected point by point."""
    pixels = _grid(height, width).reshape(-1, 2)
    depth = 4 + np.sin(pixels[:, :1] / 17) + np.cos(pixels[:, 1:] / 11)
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(cameras[1]).T
    in_source = (rays * depth - translation) @ _ROTATION
    projected = in_source @ cameras[0].T
    return (projected[:, :2] / projected[:, 2:]).reshape(height, width, 2)


def _angle(a, b):
    return np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


def test_homography_maps_the_source_to_the_target():
    homography = _match(_plane()).homography()
    corners = np.array([[0.0, 0], [127, 0], [127, 95], [0, 95]])
    expected = cv2.perspectiveTransform(corners[None], _HOMOGRAPHY)[0]
    np.testing.assert_allclose(map_points(homography.matrix, corners)[0], expected, atol=0.1)
    assert homography.matrix[2, 2] == 1
    # Those that are wrong, three of ten, are not among the inliers, nor are many others missing.
    inliers = homography.inliers
    distance = map_points(np.linalg.inv(_HOMOGRAPHY), inliers.target)[0] - inliers.source
    assert np.linalg.norm(distance, axis=-1).max() < 1.2
    assert 0.6 * 5000 < len(inliers.source) < 0.8 * 5000
    assert (np.diff(inliers.confidence) <= 0).all()


def test_a_confident_match_weighs_more():
    random = np.random.default_rng(0)
    errors = {"weighted": [], "alike": []}
    corners = np.array([[0.0, 0], [300, 0], [300, 300], [0, 300]])
    for _ in range(30):
        deviation = np.sort(random.choice([0.1, 0.7], 300))
        target = random.uniform(0, 300, (300, 2))
        source = target + random.normal(size=(300, 2)) * deviation[:, None]
        confidence = (1 - np.exp(-np.sqrt(2) / deviation)) ** 2
        for name, weights in (("weighted", confidence), ("alike", np.ones(300))):
            matches = Matches(*map(np.float32, (target, source, weights)))
            moved = map_points(fit_homography(matches, 2.0).matrix, corners)[0]
            errors[name].append(np.linalg.norm(moved - corners, axis=-1).mean())
    assert np.mean(errors["weighted"]) < 0.95 * np.mean(errors["alike"])


def test_a_confident_match_weighs_more_in_the_pose():
    random = np.random.default_rng(0)
    errors = {"weighted": [], "alike": []}
    target, true = _grid(96, 128).reshape(-1, 2), _scene().reshape(-1, 2)
    for _ in range(10):
        chosen = random.choice(len(true), 400, replace=False)
        deviation = random.choice([0.1, 0.7], 400)
        source = true[chosen] + random.normal(size=(400, 2)) * deviation[:, None]
        confidence = (1 - np.exp(-np.sqrt(2) / deviation)) ** 2
        for name, weights in (("weighted", confidence), ("alike", np.ones(400))):
            matches = Matches(*map(np.float32, (source, target[chosen], weights)))
            pose = fit_pose(matches, _K_SOURCE, _K_TARGET, 2.0)
            errors[name].append(_angle(pose.translation, _TRANSLATION))
    assert np.mean(errors["weighted"]) < 0.95 * np.mean(errors["alike"])


def test_a_pose_does_not_need_confident_matches_everywhere():
    match = _match(_scene(), wrong=0.6, noise=0.5)
    x, y = np.moveaxis(_grid(96, 128), -1, 0)
    near_a_point = 0.2 + 0.37 * np.exp(-((x - 20) ** 2 + (y - 30) ** 2) / 400)
    match.confidence[...] = near_a_point
    pose = match.pose(_K_SOURCE, _K_TARGET)
    assert _angle(pose.translation, _TRANSLATION) < 1


def test_distance_is_in_pixels_of_the_source():
    # A quarter is displaced by 2 px of the source, which are 6 px of the target.
    places = _grid(90, 120) / 3
    places[::2, ::2] += [2, 0]
    match = _match(places, wrong=0, noise=0, source_size=(40, 60))
    assert len(match.homography(distance=2.5).inliers.source) == 5000
    for distance in (None, 0.3):
        homography = match.homography(distance=distance)
        assert 3600 < len(homography.inliers.source) < 3900
        np.testing.assert_allclose(homography.matrix, np.diag([3, 3, 1]), atol=1e-3)


def _turn(rotation):
    """Returns the angle between a rotation and the scene's."""
    return np.degrees(np.linalg.norm(cv2.Rodrigues(rotation @ _ROTATION.T)[0]))


def test_pose_is_that_of_the_scene():
    pose = _match(_scene()).pose(_K_SOURCE, _K_TARGET)
    assert _turn(pose.rotation) < 0.3
    assert _angle(pose.translation, _TRANSLATION) < 0.5
    assert np.linalg.norm(pose.translation) == pytest.approx(1)
    assert 0.6 * 5000 < len(pose.inliers.source) < 0.85 * 5000


@pytest.mark.parametrize("direction", [(1, 0, 0), (0.3, -1, 0.2), (0, 0, 1), (-1, 0.2, -3)])
@pytest.mark.parametrize("depth", [7, 50, 1e3, 1e4, 1e5, 1e6])
def test_pose_of_a_distant_scene(depth, direction):
    translation = np.array(direction) / np.linalg.norm(direction) * 4 / depth
    pose = _match(_scene(translation=translation), wrong=0, noise=0).pose(_K_SOURCE, _K_TARGET)
    assert len(pose.inliers.source) == 5000
    assert _turn(pose.rotation) < 0.05
    assert _angle(pose.translation, translation) < 1


def test_pose_of_any_translation():
    """Among those with the same epipolar lines, the one with the scene before both cameras."""
    camera = np.array([[240.0, 0, 63], [0, 245, 50], [0, 0, 1]])
    for direction in np.random.default_rng(0).normal(size=(20, 3)):
        translation = direction / np.linalg.norm(direction)
        places = _scene(translation=translation, cameras=(camera, camera))
        pose = _match(places, wrong=0.1, noise=0.1).pose(camera, camera)
        assert _turn(pose.rotation) < 0.5 and _angle(pose.translation, direction) < 5


def test_pose_of_a_scene_both_near_and_distant():
    places = _scene()
    places[:, 64:] = _scene(translation=1e-6 * _TRANSLATION)[:, 64:]
    pose = _match(places, wrong=0, noise=0).pose(_K_SOURCE, _K_TARGET)
    assert len(pose.inliers.source) == 5000
    assert _turn(pose.rotation) < 0.05 and _angle(pose.translation, _TRANSLATION) < 0.1


def test_distant_matches_are_kept_in_spite_of_their_noise():
    """Which is more than their parallax: on which side of infinity they meet is chance."""
    translation = _TRANSLATION / 1000
    pose = _match(_scene(translation=translation), noise=0.1).pose(_K_SOURCE, _K_TARGET)
    assert _turn(pose.rotation) < 0.3
    assert len(pose.inliers.source) > 0.69 * 5000


def test_matches_behind_the_cameras_are_no_inliers():
    # A tenth meets behind both, on the right epipolar lines.
    places, behind = _scene(), _scene(translation=-_TRANSLATION)
    places[::10] = behind[::10]
    pose = _match(places, wrong=0, noise=0).pose(_K_SOURCE, _K_TARGET)
    assert _turn(pose.rotation) < 0.05 and _angle(pose.translation, _TRANSLATION) < 0.1
    assert not np.isin(pose.inliers.target[:, 1] % 10, 0).any()
    assert len(pose.inliers.source) > 0.88 * 5000


def test_pose_of_a_camera_with_skew():
    camera = _K_SOURCE.copy()
    camera[0, 1] = 12
    pose = _match(_scene(cameras=(camera, _K_TARGET)), wrong=0, noise=0).pose(camera, _K_TARGET)
    assert _turn(pose.rotation) < 1e-3 and _angle(pose.translation, _TRANSLATION) < 1e-3


def _published_pose(matches, distance=1.0):
    """Returns the pose by the published protocol: plain RANSAC, the candidate with most inliers."""
    points = zip(matches[:2], (_K_SOURCE, _K_TARGET), strict=True)
    rays = [cv2.undistortPoints(places[:, None], camera, None)[:, 0] for places, camera in points]
    focal = (_K_SOURCE[0, 0] + _K_TARGET[1, 1]) / 2
    essentials, mask = cv2.findEssentialMat(
        *rays, np.eye(3), method=cv2.RANSAC, prob=0.99999, threshold=distance / focal
    )
    candidates = [
        cv2.recoverPose(essential, *rays, np.eye(3), distanceThresh=1e9, mask=mask.copy())
        for essential in essentials.reshape(-1, 3, 3)
    ]
    return max(candidates, key=lambda candidate: candidate[0])[1:3]


def test_pose_is_closer_than_the_published_protocols():
    errors = {"ours": [], "published": []}
    target, true = _grid(96, 128).reshape(-1, 2), _scene().reshape(-1, 2)
    for seed in range(6):
        random = np.random.default_rng(seed)
        chosen = random.choice(len(true), 500, replace=False)
        source = true[chosen] + random.normal(scale=0.3, size=(500, 2))
        source[:150] = random.uniform(0, (160, 120), (150, 2))
        matches = Matches(*map(np.float32, (source, target[chosen], np.ones(500))))
        pose = fit_pose(matches, _K_SOURCE, _K_TARGET, 1.0)
        rotation, translation = _published_pose(matches)
        for name, found in (("ours", pose[:2]), ("published", (rotation, translation[:, 0]))):
            errors[name].append(max(_turn(found[0]), _angle(found[1], _TRANSLATION)))
    assert np.mean(errors["published"]) < 10  # it is the protocol, and not a mistake in it
    assert np.mean(errors["ours"]) < 0.4 * np.mean(errors["published"])


def test_inliers_of_a_pose_satisfy_the_epipolar_constraint():
    pose = _match(_scene(), noise=0).pose(_K_SOURCE, _K_TARGET, distance=0.5)
    x, y, z = pose.translation
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ pose.rotation
    fundamental = np.linalg.inv(_K_TARGET).T @ essential @ np.linalg.inv(_K_SOURCE)
    source, target = (
        np.column_stack([points, np.ones(len(points))])
        for points in (pose.inliers.source, pose.inliers.target)
    )
    lines = source @ fundamental.T
    distance = np.abs((target * lines).sum(axis=-1)) / np.linalg.norm(lines[:, :2], axis=-1)
    assert len(distance) > 3000
    assert distance.max() < 1.0


def test_too_few_confident_matches_have_no_geometry():
    match = _match(_scene())
    assert match.homography(threshold=0.99) is None
    assert match.pose(_K_SOURCE, _K_TARGET, threshold=0.99) is None
    few = match.matches(4)
    assert fit_pose(few, _K_SOURCE, _K_TARGET, 1.0) is None
    assert fit_homography(few.select(np.arange(4) < 3), 1.0) is None


@pytest.mark.parametrize("points", [np.full((50, 2), 7), np.arange(50)[:, None] * [1, 2]])
def test_coinciding_or_collinear_matches_have_no_homography(points):
    matches = Matches(np.float32(points), np.float32(points), np.ones(50, np.float32))
    assert fit_homography(matches, 1.0) is None


def test_places_on_a_point_or_a_line_have_no_pose():
    grid = _grid(96, 128)
    for places in (np.full_like(grid, 40.0), np.stack([grid[..., 0], 0 * grid[..., 0] + 40], -1)):
        for noise in (0.0, 0.2):
            match = _match(np.float32(places), wrong=0, noise=noise)
            assert noise or match.homography() is None
            assert match.pose(_K_SOURCE, _K_TARGET) is None
            assert match.self_calibrate() is None


def test_places_that_many_pixels_share_are_no_homography():
    random = np.random.default_rng(0)
    for _ in range(20):
        source, target = random.uniform(0, 300, (2, 34, 2))
        target[:12] = 200
        homography = fit_homography(Matches(*map(np.float32, (source, target, np.ones(34)))), 1.0)
        assert homography is None or np.linalg.matrix_rank(homography.matrix) == 3


def test_the_same_matches_give_the_same_geometry():
    match = _match(_scene())
    np.testing.assert_array_equal(match.homography().matrix, match.homography().matrix)
    first, second = (match.pose(_K_SOURCE, _K_TARGET) for _ in range(2))
    np.testing.assert_array_equal(first.rotation, second.rotation)


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(2),
        "K.txt",
        [[500, 0, 320], [0, -500, 240], [0, 0, 1]],
        [[500, 0, 0], [0, 500, 0], [320, 240, 1]],
        [[np.nan, 0, 320], [0, 500, 240], [0, 0, 1]],
    ],
)
def test_a_matrix_that_is_no_cameras_is_refused(matrix):
    match = _match(_plane())
    with pytest.raises(InputError, match=r"Expected K_target to be \[\[fx, skew, cx\]"):
        match.pose(_K_SOURCE, matrix)


@pytest.mark.parametrize("distance", [0, -1.0, float("nan"), "3", [3]])
def test_distance_must_be_positive(distance):
    match = _match(_plane())
    for geometry in (match.homography, lambda **how: match.pose(_K_SOURCE, _K_TARGET, **how)):
        with pytest.raises(InputError, match="positive distance"):
            geometry(distance=distance)


@pytest.mark.reference
def test_homography_of_the_reference_matches(reference):
    arrays = np.load(reference / "ops" / "ransac_homography.npz")
    matches = Matches(arrays["src"], arrays["dst"], np.ones(500, np.float32))
    homography = fit_homography(matches, 1.0)
    corners = np.array([[0.0, 0], [300, 0], [300, 300], [0, 300]])
    true, theirs, ours = (
        map_points(matrix, corners)[0]
        for matrix in (arrays["H_true"], arrays["H_cv2"], homography.matrix)
    )
    assert np.abs(ours - true).max() < 0.2 < np.abs(theirs - true).max()
    assert abs(len(homography.inliers.source) - arrays["inliers_cv2"].sum()) <= 10


@pytest.mark.reference
def test_pose_of_the_reference_matches(reference):
    arrays = np.load(reference / "ops" / "metrics.npz")
    points = np.float32(arrays["kp0"]), np.float32(arrays["kp1_clean"])
    pose = fit_pose(Matches(*points, np.ones(50, np.float32)), arrays["K0"], arrays["K1"], 1.0)
    true = arrays["T_0to1"]
    np.testing.assert_allclose(pose.rotation, true[:3, :3], atol=1e-4)
    direction = true[:3, 3] / np.linalg.norm(true[:3, 3])
    np.testing.assert_allclose(pose.translation, direction, atol=1e-3)
    assert len(pose.inliers.source) == 50


# In OpenCV's order; each moves the corners of the image by several pixels.
_LENSES = (
    (-0.25, 0.08, 0.004, -0.003),
    (-0.2, 0.05, -0.002, 0.004, -0.01),
    (0.15, -0.04, 0.003, 0.001, 0.01, 0.05, 0.01, 0.0),
)


@pytest.mark.parametrize("lenses", [(_LENSES[0], None), (_LENSES[1], _LENSES[2])])
def test_pose_through_lenses_that_distort(lenses):
    pixels = _grid(96, 128).reshape(-1, 2)
    target = pixels
    if lenses[1] is not None:
        # The scene's pixels are those without distortion; OpenCV's model takes them to the image.
        target = _through_lens(pixels, _K_TARGET, lenses[1])
    source = _through_lens(_scene().reshape(-1, 2), _K_SOURCE, lenses[0])
    assert np.abs(source - _scene().reshape(-1, 2)).max() > 2
    random = np.random.default_rng(0)
    chosen = random.choice(len(pixels), 1500, replace=False)
    noise = random.normal(scale=0.1, size=(1500, 2))
    matches = Matches(
        np.float32(source[chosen] + noise), np.float32(target[chosen]), np.ones(1500, np.float32)
    )
    right, blind = (
        fit_pose(matches, _K_SOURCE, _K_TARGET, 1.0, distortions)
        for distortions in (lenses, (None, None))
    )
    errors = [
        (_angle(pose.translation, _TRANSLATION), np.linalg.norm(pose.rotation - _ROTATION))
        for pose in (right, blind)
    ]
    assert errors[0][0] < 0.5 and errors[0][1] < 2e-3
    assert errors[1][0] > 3 * errors[0][0] and errors[1][1] > 3 * errors[0][1]
    # What agrees with it is given as it was.
    assert len(right.inliers.source) > 1400
    given = {*map(tuple, matches.source.tolist())}
    assert {*map(tuple, right.inliers.source.tolist())} <= given


def _through_lens(pixels, camera, distortion):
    rays = np.linalg.solve(camera, np.column_stack([pixels, np.ones(len(pixels))]).T).T
    places, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera, np.array(distortion))
    return places[:, 0]


def test_pose_of_a_match_takes_distortion():
    places = _through_lens(_scene().reshape(-1, 2), _K_SOURCE, _LENSES[0]).reshape(96, 128, 2)
    pose = _match(places, noise=0.1).pose(_K_SOURCE, _K_TARGET, distortion_source=[*_LENSES[0]])
    assert _angle(pose.translation, _TRANSLATION) < 1
    none = _match(_scene()).pose(_K_SOURCE, _K_TARGET, distortion_source=np.zeros(5))
    same = _match(_scene()).pose(_K_SOURCE, _K_TARGET)
    np.testing.assert_allclose(none.rotation, same.rotation, atol=1e-5)


@pytest.mark.parametrize("wrong", [[0.1, 0.2], np.zeros((2, 3)), [0, 0, np.nan, 0], "k1"])
def test_what_is_no_distortion_is_refused(wrong):
    with pytest.raises(InputError, match="Expected distortion_target to be 4, 5, 8, 12, 14 coef"):
        _match(_scene()).pose(_K_SOURCE, _K_TARGET, distortion_target=wrong)
