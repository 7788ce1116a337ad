"""Fundamental matrix and focal length, from matches of a known scene with mistakes in them."""

import numpy as np
import pytest

from tfdense.two_view.estimation import Matches
from tfdense.two_view.uncalibrated import fit_fundamental, fit_shared_focal

_SIZE = (640, 480)


def _rotation(x, y, z):
    import cv2

    return cv2.Rodrigues(np.array([x, y, z]))[0]


_ROTATION, _TRANSLATION = _rotation(0.1, -0.3, 0.05), np.array([0.9, 0.2, 0.4])


def _camera(focal, size=_SIZE):
    return np.array([[focal, 0, (size[0] - 1) / 2], [0, focal, (size[1] - 1) / 2], [0, 0, 1.0]])


def _matches(focal, wrong=0.2, noise=0.3, sizes=(_SIZE, _SIZE), rotation=_ROTATION):
    """Returns matches of points at random depths, in view of both; sizes scale the focal length."""
    random = np.random.default_rng(0)
    cameras = [_camera(focal * max(size) / max(_SIZE), size) for size in sizes]
    points = random.uniform([-4, -3, 3], [4, 3, 9], (20000, 3))
    views = []
    for camera, turn, shift in zip(
        cameras, (np.eye(3), rotation), (np.zeros(3), _TRANSLATION), strict=True
    ):
        seen = (points @ turn.T + shift) @ camera.T
        views.append(seen[:, :2] / seen[:, 2:])
    inside = np.all(
        [
            ((view >= 0) & (view < size)).all(axis=-1)
            for view, size in zip(views, sizes, strict=True)
        ],
        axis=0,
    )
    source, target = (view[inside][:2000] for view in views)
    source = source + random.normal(size=source.shape) * noise
    mistaken = random.random(len(source)) < wrong
    source[mistaken] = random.uniform(0, sizes[0], (mistaken.sum(), 2))
    confidence = random.uniform(0.2, 0.57, len(source)) - 0.15 * mistaken
    return Matches(*map(np.float32, (source, target, confidence)))


def _angle(a, b):
    return np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


def test_fundamental_matrix_is_that_of_the_cameras():
    matches = _matches(500.0)
    found = fit_fundamental(matches, 1.0)
    x, y, z = _TRANSLATION
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ _ROTATION
    inverse = np.linalg.inv(_camera(500.0))
    expected = inverse.T @ essential @ inverse
    expected /= np.linalg.norm(expected)
    matrix = found.matrix / np.linalg.norm(found.matrix)
    np.testing.assert_allclose(matrix * np.sign(matrix[2, 2] * expected[2, 2]), expected, atol=2e-3)
    share = len(found.inliers.source) / len(matches.source)
    assert 0.7 < share < 0.85


@pytest.mark.parametrize("focal", [350.0, 500.0, 1100.0])
def test_focal_length_and_pose(focal):
    found = fit_shared_focal(_matches(focal), (_SIZE, _SIZE), 1.0)
    np.testing.assert_array_equal(found.K_source, found.K_target)
    np.testing.assert_allclose(found.K_source, _camera(focal), rtol=0.02, atol=1e-9)
    assert _angle(found.pose.translation, _TRANSLATION) < 1
    assert np.linalg.norm(found.pose.rotation - _ROTATION) < 0.02


def test_images_of_two_sizes_one_of_them_turned():
    sizes = (1280, 960), (480, 640)
    turned = _rotation(0, 0, np.pi / 2) @ _ROTATION
    found = fit_shared_focal(_matches(500.0, sizes=sizes, rotation=turned), sizes, 1.0)
    for camera, size in ((found.K_source, sizes[0]), (found.K_target, sizes[1])):
        expected = _camera(500.0 * max(size) / 640, size)
        np.testing.assert_allclose(camera, expected, rtol=0.02, atol=1e-9)
    assert np.linalg.norm(found.pose.rotation - turned) < 0.02


def test_too_few_matches():
    few = _matches(500.0).select(np.arange(7))
    assert fit_fundamental(few, 1.0) is None
    assert fit_shared_focal(few, (_SIZE, _SIZE), 1.0) is None


def test_matches_at_random():
    random = np.random.default_rng(0)
    points = random.uniform(0, 400, (2, 40, 2))
    found = fit_shared_focal(Matches(*map(np.float32, (*points, np.ones(40)))), (_SIZE, _SIZE), 0.5)
    assert found is None or len(found.pose.inliers.source) < 30
