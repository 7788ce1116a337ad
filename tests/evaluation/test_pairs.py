"""Pairs from flows and homographies, and their scaling."""

import dataclasses

import cv2
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation import pairs


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_dense_pair_takes_the_valid_pixels():
    flow = np.arange(12.0).reshape(2, 3, 2)
    valid = np.array([[False, True, False], [True, False, False]])
    pair = pairs.dense_pair("a", image(2, 3), image(2, 3), flow, valid)
    np.testing.assert_array_equal(pair.points, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(pair.true_flow, [[2, 3], [6, 7]])


def test_dense_pair_needs_one_size_and_ground_truth():
    with pytest.raises(InputError, match="Received: 3x2, 4x2, 4x2"):
        pairs.dense_pair("a", image(2, 3), image(2, 3), np.zeros((2, 4, 2)), np.ones((2, 4), bool))
    with pytest.raises(InputError, match="a has no point"):
        pairs.dense_pair("a", image(2, 3), image(2, 3), np.zeros((2, 3, 2)), np.zeros((2, 3), bool))


def test_homography_pair_leaves_out_what_falls_outside_the_source():
    shift = -2.0 * np.array([[1.0, 0, 3], [0, 1, -1], [0, 0, 1]])  # any scale, either sign
    pair = pairs.homography_pair("a", image(4, 6), image(4, 6), shift)
    # x + 3 <= 5 and y - 1 >= 0.
    assert {tuple(p) for p in pair.points} == {(x, y) for x in range(3) for y in range(1, 4)}
    np.testing.assert_allclose(pair.true_flow, np.broadcast_to([3.0, -1.0], (9, 2)))


def test_homography_pair_leaves_out_what_is_behind_the_camera():
    # x / (1.5 - x), which is 0 and 2 at the first columns and negative in the third.
    homography = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 1.5]])
    pair = pairs.homography_pair("a", image(1, 3), image(1, 3), homography)
    np.testing.assert_allclose(pair.points + pair.true_flow, [[0, 0], [2, 0]])


def test_limiting_keeps_the_correspondences():
    # The target's pixel (9, 19) is its last; the source is shrunk by 2, the target by 4.
    points, matches = np.array([[9.0, 19], [0, 0]]), np.array([[39.0, 19], [19.5, 9.5]])
    source, target = image(20, 40), image(40, 20)
    whole = pairs.EvaluationPair("a", source, target, points, matches - points)
    small = whole.limited(20)
    assert small.source.shape == (10, 20, 3)
    assert small.target.shape == (20, 10, 3)
    np.testing.assert_allclose(small.points, (points + 0.5) / 2 - 0.5)
    np.testing.assert_allclose(small.points + small.true_flow, [[19.25, 9.25], [9.5, 4.5]])
    assert whole.limited(40).source is source


def test_limiting_scales_the_tolerance_along():
    whole = pairs.dense_pair("a", image(20, 40), image(9, 9), np.ones((9, 9, 2)), np.ones((9, 9)))
    whole = dataclasses.replace(whole, tolerance=2.0)
    assert whole.limited(10).tolerance == 0.5  # px of the source
    assert whole.tolerance == 2.0


def test_limiting_scales_the_homography_along():
    homography = np.array([[1.1, 0.1, 3], [-0.2, 0.9, 5], [1e-3, 2e-3, 1]])
    small = pairs.homography_pair("a", image(60, 80), image(50, 70), homography).limited(35)
    mapped = cv2.perspectiveTransform(small.points[None], small.homography)[0]
    np.testing.assert_allclose(mapped, small.points + small.true_flow)


@pytest.mark.parametrize("point", [(-5.0, 1.0), (1e9, 1.0), (np.nan, 1.0)])
def test_points_outside_of_the_target_are_refused(point):
    with pytest.raises(InputError, match="pair a names a point outside of the target"):
        pairs.EvaluationPair("a", image(6, 8), image(6, 8), np.array([point]), np.zeros((1, 2)))
    flow = np.array([[np.inf, 0]])
    with pytest.raises(InputError, match="not finite"):
        pairs.EvaluationPair("a", image(6, 8), image(6, 8), np.zeros((1, 2)), flow)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": np.zeros((3, 3))}, "source's camera of the pair a"),
        ({"target": np.diag([-1.0, 1, 1])}, "target's camera of the pair a"),
        ({"rotation": 2 * np.eye(3)}, "holds no rotation"),
        ({"rotation": np.diag([1.0, 1, -1])}, "holds no rotation"),
        ({"rotation": np.full((3, 3), np.nan)}, "holds no rotation"),
        ({"translation": np.zeros(3)}, "not apart"),
    ],
)
def test_impossible_cameras_are_refused(change, message):
    cameras = pairs.Cameras(*[np.eye(3)] * 3, np.ones(3))._replace(**change)
    nothing = np.empty((0, 2))
    with pytest.raises(InputError, match=message):
        pairs.EvaluationPair("a", image(6, 8), image(6, 8), nothing, nothing, cameras=cameras)


def test_limiting_scales_the_cameras_along():
    intrinsic = np.array([[50.0, 0, 40], [0, 60, 30], [0, 0, 1]])
    cameras = pairs.Cameras(intrinsic, intrinsic, np.eye(3), np.ones(3))
    nothing = np.empty((0, 2))
    whole = pairs.EvaluationPair(
        "a", image(60, 80), image(80, 40), nothing, nothing, cameras=cameras
    )
    small = whole.limited(40)
    # A ray that meets the pixel (79.5, -0.5), the corner of the source, meets its corner still.
    ray = np.linalg.solve(intrinsic, [79.5, -0.5, 1])
    np.testing.assert_allclose(small.cameras.source @ ray, [39.5, -0.5, 1])
    np.testing.assert_allclose(small.cameras.target[:2], np.array([[25, 0, 19.75], [0, 30, 14.75]]))
    assert small.target.shape == (40, 20, 3)


def test_resizing_as_a_matrix_is_that_of_points():
    points = np.random.default_rng(0).uniform(0, 30, (9, 2))
    matrix = pairs.resize_matrix((30, 40, 3), (20, 35))
    mapped = cv2.perspectiveTransform(points[None], matrix)[0]
    np.testing.assert_allclose(mapped, pairs.scale_points(points, (30, 40, 3), (20, 35)))
