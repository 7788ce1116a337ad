"""Matrices of the plane against NumPy and OpenCV."""

import cv2
import numpy as np
import tensorflow as tf
from scipy.spatial.transform import Rotation

from tfdense.data import matrices
from tfdense.data.warps import CORNERS


def test_inverse_is_numpy_s():
    drawn = np.random.default_rng(0).normal(size=[5, 2, 3, 3]).astype(np.float32)
    expected = np.linalg.inv(drawn.astype(np.float64))
    inverse = matrices.inverse(tf.constant(drawn)).numpy()
    assert np.abs(inverse - expected).max() < 1e-4 * np.abs(expected).max()


def test_homography_between_four_points_is_opencv_s():
    generator = np.random.default_rng(0)
    destinations = (CORNERS + generator.uniform(-0.6, 0.6, [6, 4, 2])).astype(np.float32)
    found = matrices.homography_between(CORNERS, destinations)
    for homography, corners in zip(found, destinations, strict=True):
        expected = cv2.getPerspectiveTransform(CORNERS, corners)
        np.testing.assert_allclose(homography, expected, atol=1e-5)


def test_rotation_and_affine_move_points():
    turn = matrices.affine(matrices.rotation(tf.constant([np.pi / 2])), tf.constant([[3.0, 4.0]]))
    x, y, depth = matrices.transform(turn, tf.constant([[1.0]]), tf.constant([[0.0]]))
    np.testing.assert_allclose([x[0, 0, 0], y[0, 0, 0], depth[0, 0, 0]], [3, 5, 1], atol=1e-6)


def test_turns_are_scipy_s():
    drawn = np.random.default_rng(0).normal(size=[4, 2, 3])
    angle = np.linalg.norm(drawn, axis=-1)
    expected = Rotation.from_rotvec(drawn.reshape(-1, 3)).as_matrix().reshape(4, 2, 3, 3)
    axis = (drawn / angle[..., None]).astype(np.float32)
    np.testing.assert_allclose(matrices.turn(axis, angle.astype(np.float32)), expected, atol=1e-6)
