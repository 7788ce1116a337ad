"""Homography and pose metrics, by hand and against the original's evaluation code."""

import math

import numpy as np
import pytest

from tfdense.evaluation import geometric
from tfdense.evaluation.pairs import Cameras


def test_corner_error_of_a_shift_is_its_length():
    shift = np.array([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
    assert geometric.homography_corner_error(shift, np.eye(3), 20, 30) == pytest.approx(5.0)


def test_corner_error_of_a_zoom():
    # Corners (0, 0), (8, 0), (0, 6), (8, 6), doubled: off by 0, 8, 6 and 10.
    zoom = np.diag([2.0, 2.0, 1.0])
    assert geometric.homography_corner_error(zoom, np.eye(3), 7, 9) == pytest.approx(6.0)


def test_corner_error_ignores_the_scale_of_the_matrix():
    assert geometric.homography_corner_error(-2 * np.eye(3), np.eye(3), 7, 9) == 0.0


def test_corner_error_is_infinite_behind_the_camera():
    folded = np.array([[1.0, 0, 0], [0, 1, 0], [-0.5, 0, 1]])  # 1 - 4 < 0 at the right corners
    assert geometric.homography_corner_error(folded, np.eye(3), 7, 9) == math.inf


def test_area_under_recall():
    # The recall rises from 0 to 1/2 at 1, to 1 at 3 and stays: 0.25 + 1.5 + 1 over 4.
    assert geometric.area_under_recall([3.0, 1.0], 4.0) == pytest.approx(100 * 2.75 / 4)
    assert geometric.area_under_recall([math.inf, 1.0], 4.0) == pytest.approx(100 * 1.75 / 4)
    assert geometric.area_under_recall([math.inf, 9.0], 4.0) == 0.0


def test_mean_average_precision():
    errors = [1.0, 6.0, 12.0, math.inf]
    assert geometric.mean_average_precision(errors, 5) == 25.0
    assert geometric.mean_average_precision(errors, 10) == 37.5  # (25 + 50) / 2
    assert geometric.mean_average_precision(errors, 20) == 56.25  # (25 + 50 + 75 + 75) / 4


def test_pose_error_takes_the_larger_angle_and_either_sign():
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    forward, aside = np.array([0.0, 0, 1]), np.array([1.0, 0, 1])
    assert geometric.pose_error(quarter, forward, np.eye(3), forward) == pytest.approx(90.0)
    assert geometric.pose_error(np.eye(3), -2 * aside, np.eye(3), forward) == pytest.approx(45.0)


def test_squared_epipolar_distance():
    # The camera moves aside without turning: epipolar lines are the rows. 0.03 above the source's
    # row in units of the focal length, counted once in either image.
    source, target = np.diag([100.0, 100, 1]), np.array([[200.0, 0, 7], [0, 200, 5], [0, 0, 1]])
    cameras = Cameras(source, target, np.eye(3), np.array([2.0, 0, 0]))
    there, here = np.array([[50.0, 10], [50, 10]]), np.array([[3.0, 25], [99, 31]])
    distances = geometric.squared_epipolar_distance(there, here, cameras)
    np.testing.assert_allclose(distances, [0, 2 * 0.03**2], atol=1e-15)
    assert geometric.epipolar_precision(there, here, cameras) == 50.0
    assert geometric.epipolar_precision(there, here, cameras, threshold=0.002) == 100.0


def test_epipolar_precision_without_certainty():
    forward = Cameras(np.eye(3), np.eye(3), np.eye(3), np.array([0.0, 0, 1]))
    epipole = np.zeros((1, 2))  # every line passes through it: nothing is said of the match
    assert geometric.squared_epipolar_distance(epipole, epipole, forward).tolist() == [math.inf]
    assert geometric.epipolar_precision(np.empty((0, 2)), np.empty((0, 2)), forward) == 0.0


@pytest.mark.reference
def test_pose_metrics_as_the_original(reference):
    arrays = np.load(reference / "ops" / "metrics.npz")
    errors = arrays["pose_errors"]
    for threshold, area in zip((5, 10, 20), arrays["pose_auc"], strict=True):
        assert geometric.area_under_recall(errors, threshold) == pytest.approx(100 * area)
        precision = geometric.mean_average_precision(errors, threshold)
        assert precision == pytest.approx(100 * arrays[f"mAP{threshold}"])
    true = arrays["T_0to1"]
    error = geometric.pose_error(arrays["R_est"], arrays["t_est"], true[:3, :3], true[:3, 3])
    assert error == pytest.approx(arrays["pose_err_t_R"].max(), rel=1e-5)


@pytest.mark.reference
def test_epipolar_distance_as_the_original(reference):
    arrays = np.load(reference / "ops" / "metrics.npz")
    true = arrays["T_0to1"]
    cameras = Cameras(arrays["K0"], arrays["K1"], true[:3, :3], true[:3, 3])
    distances = geometric.squared_epipolar_distance(arrays["kp0"], arrays["kp1"], cameras)
    np.testing.assert_allclose(distances, arrays["epi_err"], rtol=1e-6)
