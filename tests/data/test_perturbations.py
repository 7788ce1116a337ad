"""Elastic perturbations against OpenCV, NumPy and the original."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.data.perturbations import bump_mask, elastic_field, random_perturbation
from tfdense.data_config import PerturbationConfig


def _seeds(count):
    return tf.constant([[0, i] for i in range(count)])


def test_elastic_field_is_opencv_s_gaussian_blur():
    noise = np.random.default_rng(0).uniform(-1, 1, [64, 64, 2]).astype(np.float32)
    deviation = 7.5
    kernel = round(8 * deviation + 1) | 1
    expected = 50 * cv2.GaussianBlur(
        noise, (kernel, kernel), deviation, borderType=cv2.BORDER_REFLECT_101
    )
    field = elastic_field(noise[None], tf.constant([deviation]), tf.constant([50.0]), 64)[0]
    np.testing.assert_allclose(field, expected, atol=1e-3 * np.abs(expected).max())


def test_noise_on_fewer_nodes_gives_fields_of_the_same_size():
    generator = np.random.default_rng(1)

    def spread(nodes):
        noise = generator.uniform(-1, 1, [1, nodes, nodes, 60]).astype(np.float32)
        return np.std(elastic_field(noise, tf.constant([12.0]), tf.constant([100.0]), 96))

    assert abs(spread(13) / spread(96) - 1) < 0.1


def test_bumps_against_numpy():
    centres = np.array([[10.0, 20], [12, 24], [40, 7]], np.float32)
    radii = np.array([3.0, 5, 4], np.float32)
    y, x = np.mgrid[:48, :48]
    squares = (x[..., None] - centres[:, 0]) ** 2 + (y[..., None] - centres[:, 1]) ** 2
    expected = np.minimum(1, 2 * np.exp(-squares / (2 * radii**2))).sum(axis=-1).clip(max=1)
    np.testing.assert_allclose(bump_mask(centres[None], radii[None], 48)[0], expected, atol=1e-5)


def test_random_perturbations_are_local_and_as_frequent_as_asked():
    config = PerturbationConfig(probability=0.5, count=(1, 2), radius=(3.0, 4.0))
    fields = random_perturbation(_seeds(120), config, 96)
    moved = np.abs(fields).max(axis=-1) > 0.05
    share = moved.mean(axis=(1, 2))
    assert 0.3 < (share > 0).mean() < 0.7
    assert share.max() < 0.1
    alone = random_perturbation(tf.constant([[0, 3]]), config, 96)
    np.testing.assert_allclose(alone[0], fields[3], atol=1e-4)


def test_a_bump_of_no_radius_is_none():
    centres = tf.constant([[[20.0, 20.0], [10.0, 30.0]]])
    assert not bump_mask(centres, tf.zeros([1, 2]), 48).numpy().any()


@pytest.mark.reference
def test_field_and_mask_of_the_original(reference):
    data = np.load(reference / "ops" / "elastic.npz")
    noise = np.stack([data["noise_x"], data["noise_y"]], axis=-1)
    deviation, strength = (tf.constant(data[name], tf.float32)[None] for name in ("sigma", "alpha"))
    field = elastic_field(noise[None].astype(np.float32), deviation, strength, 96)[0]
    expected = np.stack([data["blur_x"], data["blur_y"]], axis=-1)
    np.testing.assert_allclose(field, expected, atol=1e-3)
    bumps = data["bump_xys"].astype(np.float32)
    mask = bump_mask(bumps[None, :, :2], bumps[None, :, 2], 96)[0]
    np.testing.assert_allclose(mask, data["mask_unswapped"], atol=1e-5)


@pytest.mark.reference
def test_perturbed_share_of_the_image_is_the_original_s(reference):
    """At the original's 520 pixels 4.6 % of the pixels move, the farthest one 4.6 px (medians)."""
    config = PerturbationConfig()
    moves = np.abs(random_perturbation(_seeds(40), config, 520)).max(axis=-1)
    assert 0.03 < np.median([np.mean(move > 0.05) for move in moves]) < 0.065
    assert 3.0 < np.median([move.max() for move in moves]) < 6.5
