"""Warps against OpenCV, SciPy and the original's training pairs."""

import json

import cv2
import numpy as np
import pytest
import tensorflow as tf
from scipy.interpolate import RBFInterpolator

from tfdense.data.matrices import homography_between
from tfdense.data.warps import (
    CONTROL_POINTS,
    CORNERS,
    Warp,
    random_warp,
    spline_weights,
    warp_flow,
)
from tfdense.data_config import WarpConfig

_STRAIGHT = tf.zeros([12, 2])
_KINDS = ("homography", "affine", "thin_plate_spline", "composition")


def _flow(homography, spline, height, width):
    warp = Warp(tf.constant(homography, tf.float32)[None], spline[None])
    return warp_flow(warp, tf.zeros([1, height, width, 2]))[0].numpy()


def _seeds(count, first=0):
    return tf.constant([[first, i] for i in range(count)])


def _only(kind, **options):
    return WarpConfig(**dict.fromkeys(_KINDS, 0.0) | {kind: 1.0} | options)


def _to_pixels(height, width):
    return np.array([[(width - 1) / 2, 0, (width - 1) / 2], [0, (height - 1) / 2, (height - 1) / 2],
                     [0, 0, 1]])  # fmt: skip


def test_warp_of_an_image_is_opencv_s():
    height, width = 30, 44
    corners = CORNERS * [0.8, 0.7] + [[0.1, 0], [0, 0.1], [-0.1, 0], [0, -0.05]]
    homography = homography_between(CORNERS, tf.constant(corners, tf.float32)).numpy()
    flow = _flow(homography, _STRAIGHT, height, width)
    image = np.random.default_rng(1).uniform(0, 255, [height, width]).astype(np.float32)
    image = cv2.GaussianBlur(image, (0, 0), 2)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    sampled = cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
    to_pixels = _to_pixels(height, width)
    in_pixels = to_pixels @ homography @ np.linalg.inv(to_pixels)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    expected = cv2.warpPerspective(image, in_pixels, (width, height), flags=flags)
    # OpenCV rounds positions to 1/32 px.
    np.testing.assert_allclose(sampled, expected, atol=1.0)


def test_spline_is_scipy_s():
    moves = np.random.default_rng(2).normal(0, 0.2, [9, 2]).astype(np.float32)
    flow = _flow(np.eye(3), spline_weights(moves), 20, 28)
    x, y = np.meshgrid(np.linspace(-1, 1, 28), np.linspace(-1, 1, 20))
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    spline = RBFInterpolator(CONTROL_POINTS, moves, kernel="thin_plate_spline", degree=1)
    expected = spline(points).reshape(20, 28, 2) * [27 / 2, 19 / 2]
    np.testing.assert_allclose(flow, expected, atol=1e-4)


def test_displacement_is_applied_before_the_warp():
    matrix = np.array([[1.2, 0.1, 0.05], [-0.2, 0.9, 0.1], [0, 0, 1]])
    displacement = np.random.default_rng(3).normal(0, 2, [16, 24, 2]).astype(np.float32)
    warp = Warp(tf.constant(matrix, tf.float32)[None], _STRAIGHT[None])
    flow = warp_flow(warp, tf.constant(displacement)[None])[0]
    to_pixels = _to_pixels(16, 24)
    y, x = np.mgrid[:16, :24]
    grid = np.stack([x, y], axis=-1)
    points = np.concatenate([grid + displacement, np.ones([16, 24, 1])], axis=-1)
    mapped = points @ (to_pixels @ matrix @ np.linalg.inv(to_pixels)).T
    np.testing.assert_allclose(flow, mapped[..., :2] - grid, atol=1e-4)


@pytest.mark.parametrize("kind", _KINDS)
def test_zero_strength_is_the_identity(kind):
    warp = random_warp(_seeds(3), _only(kind), 0.0)
    np.testing.assert_allclose(warp_flow(warp, tf.zeros([3, 8, 8, 2])), 0, atol=1e-5)


def test_affine_parameters_stay_in_their_ranges():
    matrices = random_warp(_seeds(300), _only("affine")).homography.numpy()
    stretch = np.linalg.svd(matrices[:, :2, :2])[1]
    rotation = np.degrees(np.arctan2(matrices[:, 1, 0] - matrices[:, 0, 1],
                                     matrices[:, 0, 0] + matrices[:, 1, 1]))  # fmt: skip
    for values, limit in ((rotation, 15), (matrices[:, 0, 2], 0.25), (matrices[:, 1, 2], 0.25)):
        assert 0.9 * limit < np.abs(values).max() <= limit + 1e-4
        assert abs(values.mean()) < 0.15 * limit
    assert 0.75 - 1e-4 < stretch.min() < 0.78 and 1.22 < stretch.max() < 1.25 + 1e-4


def test_kinds_are_drawn_by_their_weights():
    config = WarpConfig(homography=3, affine=1, thin_plate_spline=0, composition=0)
    warp = random_warp(_seeds(400), config)
    projective = np.abs(warp.homography[:, 2, :2]).max(axis=-1) > 1e-6
    assert abs(projective.mean() - 0.75) < 0.08
    assert not warp.spline.numpy().any()


@pytest.mark.reference
def test_warps_of_the_original_training_pairs(reference):
    data = np.load(reference / "ops" / "csv_warps_60.npz")
    # The homographies are of a frame of 768x576, of which the pairs show the middle at a quarter.
    to_pair = np.array([[0.25, 0, -66], [0, 0.25, -42], [0, 0, 1]])
    to_normalised = np.linalg.inv(_to_pixels(60, 60)) @ to_pair
    for row in range(3):
        affine = np.vstack([data["affine_theta"][row].reshape(2, 3), [0, 0, 1]])
        control = data["tps_theta"][row].reshape(2, 9).T.astype(np.float32)
        source_to_target = data["homography_theta"][row].reshape(3, 3)
        homography = to_normalised @ np.linalg.inv(source_to_target) @ np.linalg.inv(to_normalised)
        for name, flow in (
            ("affine", _flow(affine, _STRAIGHT, 60, 60)),
            ("tps", _flow(np.eye(3), spline_weights(control - CONTROL_POINTS), 60, 60)),
            ("homography", _flow(homography / homography[2, 2], _STRAIGHT, 60, 60)),
        ):
            expected = data[f"{name}_flow"][row].transpose(1, 2, 0)
            np.testing.assert_allclose(flow, expected, atol=2e-4, err_msg=name)


@pytest.mark.reference
def test_warps_made_on_the_fly_by_the_original(reference):
    data = np.load(reference / "ops" / "random_warps_30x40.npz")
    expected = {name: data[name][0].transpose(1, 2, 0) for name in data if data[name].ndim == 4}
    homography = homography_between(CORNERS, data["hom_theta"].reshape(2, 4).T)
    spline = spline_weights(data["tps_theta"].reshape(2, 9).T - CONTROL_POINTS)
    affine = np.vstack([data["affine_theta"].reshape(2, 3), [0, 0, 1]])
    for name, flow in (
        ("hom_flow", _flow(homography, _STRAIGHT, 30, 40)),
        ("tps_flow", _flow(np.eye(3), spline, 30, 40)),
        ("affine_flow_align_true", _flow(affine, _STRAIGHT, 30, 40)),
    ):
        np.testing.assert_allclose(flow, expected[name], atol=1e-4, err_msg=name)
    inside = ~expected["afftps_out_of_bound"][..., 0]
    composed = _flow(affine, spline, 30, 40)[inside]
    np.testing.assert_allclose(composed, expected["afftps_flow"][inside], atol=1e-4)


@pytest.mark.reference
def test_flows_are_as_long_as_the_original_s(reference):
    statistics = json.loads((reference / "synthetic_warp_stats.json").read_text())
    lengths = statistics["flow_magnitude_px_before_perturbation"]
    size = 52
    for kind, name in zip(_KINDS, ("homography", "affine", "tps"), strict=False):
        config = _only(kind)
        warp = random_warp(_seeds(300, 7), config)
        flow = warp_flow(warp, tf.zeros([300, size, size, 2]))
        mean = np.linalg.norm(flow, axis=-1).mean()
        assert abs(10 * mean / lengths[name]["mean"] - 1) < 0.12, (name, mean)
