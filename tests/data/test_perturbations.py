"""Elastic perturbations against OpenCV, NumPy and the original."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.data.perturbations import bump_mask, elastic_field, random_perturbation
from tfdense.data_config import PerturbationConfig


def test_elastic_field_is_opencv_s_gaussian_blur():
    noise = np.random.default_rng(0).uniform(-1, 1, [64, 64, 2]).astype(np.float32)
    deviation = 7.5
    kernel = round(8 * deviation + 1) | 1
    expected = 50 * cv2.GaussianBlur(
        noise, (kernel, kernel), deviation, borderType=cv2.BORDER_REFLECT_101
    )
    field = elastic_field(tf.constant(noise), deviation, 50.0, 64)
    np.testing.assert_allclose(field, expected, atol=1e-3 * np.abs(expected).max())


def test_noise_on_fewer_nodes_gives_fields_of_the_same_size():
    generator = np.random.default_rng(1)

    def spread(nodes):
        noise = generator.uniform(-1, 1, [nodes, nodes, 60]).astype(np.float32)
        return np.std(elastic_field(tf.constant(noise), 12.0, 100.0, 96))

    assert abs(spread(13) / spread(96) - 1) < 0.1


def test_bumps_against_numpy():
    centres = np.array([[10.0, 20], [12, 24], [40, 7]], np.float32)
    radii = np.array([3.0, 5, 4], np.float32)
    y, x = np.mgrid[:48, :48]
    squares = (x[..., None] - centres[:, 0]) ** 2 + (y[..., None] - centres[:, 1]) ** 2
    expected = np.minimum(1, 2 * np.exp(-squares / (2 * radii**2))).sum(axis=-1).clip(max=1)
    np.testing.assert_allclose(bump_mask(centres, radii, 48), expected, atol=1e-5)


def test_random_perturbations_are_local_and_as_frequent_as_asked():
    config = PerturbationConfig(probability=0.5, count=(1, 2), radius=(3.0, 4.0))
    draw = tf.function(lambda seed: random_perturbation(seed, config, 96))
    moved = np.array([np.abs(draw(tf.constant([0, i]))).max(axis=-1) > 0.05 for i in range(120)])
    share = moved.mean(axis=(1, 2))
    assert 0.3 < (share > 0).mean() < 0.7
    assert share.max() < 0.1
    np.testing.assert_array_equal(draw(tf.constant([0, 3])), draw(tf.constant([0, 3])))


@pytest.mark.reference
def test_field_and_mask_of_the_original(reference):
    data = np.load(reference / "ops" / "elastic.npz")
    noise = np.stack([data["noise_x"], data["noise_y"]], axis=-1)
    field = elastic_field(tf.constant(noise), float(data["sigma"]), float(data["alpha"]), 96)
    expected = np.stack([data["blur_x"], data["blur_y"]], axis=-1)
    np.testing.assert_allclose(field, expected, atol=1e-3)
    bumps = data["bump_xys"].astype(np.float32)
    mask = bump_mask(bumps[:, :2], bumps[:, 2], 96)
    np.testing.assert_allclose(mask, data["mask_unswapped"], atol=1e-5)


@pytest.mark.reference
def test_perturbed_share_of_the_image_is_the_original_s(reference):
    """At the original's 520 pixels 4.6 % of the pixels move, the farthest one 4.6 px (medians)."""
    config = PerturbationConfig()
    draw = tf.function(lambda seed: random_perturbation(seed, config, 520))
    moves = [np.abs(draw(tf.constant([1, i]))).max(axis=-1) for i in range(40)]
    assert 0.03 < np.median([np.mean(move > 0.05) for move in moves]) < 0.065
    assert 3.0 < np.median([move.max() for move in moves]) < 6.5
