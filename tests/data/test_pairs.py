"""The ground truth of whole pairs, proven by warping the source."""

import dataclasses

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.data.pairs import random_pair, random_view, with_unrelated
from tfdense.data.sampling import sample_affine, sample_mirrored
from tfdense.data_config import DataConfig, ObjectConfig, PerturbationConfig, WarpConfig
from tfdense.ops import warp

_SIZE = 64
_KINDS = ("homography", "affine", "thin_plate_spline", "composition")


def _photo(height=96, width=160):
    """A smooth texture, so that sampling it twice costs little; never close to black."""
    noise = np.random.default_rng(0).uniform(0, 255, [height, width, 3]).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return (40 + 200 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def _discs(seed, length):
    """A textured disc as moving object."""
    position = tf.range(length, dtype=tf.float32) - tf.cast(length - 1, tf.float32) / 2
    distance = tf.sqrt(position[:, None] ** 2 + position**2)
    alpha = tf.clip_by_value(tf.cast(length, tf.float32) / 2 - distance, 0.0, 1.0)[..., None]
    phase = tf.random.stateless_uniform([3], seed, 0.0, 6.0)
    return tf.concat([(128 + 80 * tf.sin(distance[..., None] / 4 + phase)) * alpha, alpha], axis=-1)


def _config(kind=None, objects=0.0, perturbation=0.0, size=_SIZE):
    weights = dict.fromkeys(_KINDS, float(kind is None)) | ({kind: 1.0} if kind else {})
    return DataConfig(
        size=size,
        warp=WarpConfig(**weights),
        objects=ObjectConfig(probability=objects, count=(2, 4)),
        perturbation=PerturbationConfig(probability=perturbation, count=(2, 4)),
    )


def _pairs(config, count, photo=None, strength=1.0):
    photo = tf.constant(_photo() if photo is None else photo)
    make = tf.function(
        lambda seed: random_pair(photo, seed, config, _discs, strength, photometric=False),
        autograph=False,
    )
    return [make(tf.constant([3, i])) for i in range(count)]


def _errors(pair):
    """Returns the largest difference over the channels at each pixel of the mask."""
    warped = warp.bilinear(pair["source"][None], pair["flow"][None])[0]
    error = np.abs(warped - pair["target"]).max(axis=-1)
    return error[pair["mask"].numpy() > 0]


@pytest.mark.parametrize("objects", [0.0, 1.0])
@pytest.mark.parametrize("kind", _KINDS)
def test_warped_source_is_the_target_within_the_mask(kind, objects):
    pairs = _pairs(_config(kind, objects, perturbation=objects), 6)
    errors = np.concatenate([_errors(pair) for pair in pairs])
    assert errors.mean() < 1.5
    assert np.percentile(errors, 99.5) < 8
    # A flow that is wrong by 1 px is found out.
    wrong = np.concatenate([_errors(pair | {"flow": pair["flow"] + [1.0, 0.0]}) for pair in pairs])
    assert wrong.mean() > 4 * errors.mean()
    share = np.mean([pair["mask"] for pair in pairs])
    assert (0.3 if objects else 0.6) < share < 0.98


def test_mask_covers_all_that_is_visible():
    """Within the source; less only at objects' edges and where an object hides the match."""
    for objects in (0.0, 1.0):
        for pair in _pairs(_config(objects=objects, perturbation=1.0), 8):
            y, x = np.mgrid[:_SIZE, :_SIZE]
            match = pair["flow"] + np.stack([x, y], axis=-1)
            inside = ((match >= 0) & (match <= _SIZE - 1)).numpy().all(axis=-1)
            mask = pair["mask"].numpy() > 0
            warped = warp.bilinear(pair["source"][None], pair["flow"][None])[0]
            right = np.abs(warped - pair["target"]).max(axis=-1) < 2
            assert not (mask & ~inside).any()
            assert np.mean(inside & right & ~mask) <= 0.12 * objects


def test_no_pixel_is_both_matched_and_unmatched():
    for pair in _pairs(_config(objects=1.0), 5):
        assert (pair["mask"] * pair["unmatched"]).numpy().max() == 0
        known = (pair["mask"] + pair["unmatched"]).numpy()
        assert known.mean() > 0.8 and pair["unmatched"].numpy().any()


def test_unrelated_pairs_have_the_source_of_another_and_no_match():
    pairs = _pairs(_config(), 4)
    batch = {name: tf.stack([pair[name] for pair in pairs]) for name in pairs[0]}
    mixed = with_unrelated(batch, [7, 1], 0.5)
    unrelated = mixed["unmatched"].numpy().all(axis=(1, 2))
    assert 0 < unrelated.sum() < 4
    for i, changed in enumerate(unrelated):
        origin = (i - 1) % 4 if changed else i
        np.testing.assert_array_equal(mixed["source"][i], batch["source"][origin])
        np.testing.assert_array_equal(mixed["target"][i], batch["target"][i])
        np.testing.assert_array_equal(mixed["mask"][i], 0 if changed else batch["mask"][i])


def test_least_strength_gives_weak_warps_among_the_strong():
    def motion(least):
        config = _config("homography")
        warp = dataclasses.replace(config.warp, least_strength=least)
        pairs = _pairs(dataclasses.replace(config, warp=warp), 12)
        return np.array([np.linalg.norm(pair["flow"], axis=-1).mean() for pair in pairs])

    share = motion(0.0) / motion(1.0)  # of the same pairs
    assert share.min() < 0.3 and 0.7 < share.max() < 1.2


def test_no_strength_gives_equal_images():
    for pair in _pairs(_config(), 3, strength=0.0):
        np.testing.assert_allclose(pair["source"], pair["target"], atol=0.05)
        np.testing.assert_allclose(pair["flow"], 0, atol=1e-4)
        assert pair["mask"].numpy()[1:-1, 1:-1].all()


@pytest.mark.parametrize("shape", [(32, 32), (33, 90), (300, 40)])
def test_photos_of_any_shape_fill_both_images(shape):
    for pair in _pairs(_config(), 4, photo=_photo(*shape)):
        for name in ("source", "target"):
            image = pair[name].numpy()
            assert image.shape == (_SIZE, _SIZE, 3)
            assert image.min() >= 39.9 and image.max() <= 240.1
        assert _errors(pair).mean() < 2


def test_view_keeps_both_images_in_the_photo_where_possible():
    config = _config()
    photo_size = np.array([100, 80])
    shift = tf.fill([_SIZE, _SIZE, 2], 8.0)
    for i in range(20):
        view = random_view(tf.constant([0, i]), shift, tf.constant(photo_size), config)
        scale = np.abs(view.scale)
        assert 0.55 * 79 / 63 - 1e-4 <= scale[0] <= 0.85 * 79 / 63 + 1e-4
        corners = view.origin + view.scale * np.array([[0.0], [_SIZE - 1 + 8.0]])
        assert corners.numpy().min() >= -1e-3
        assert (corners <= photo_size - 1 + 1e-3).numpy().all()


def test_views_are_mirrored_as_often_as_asked():
    flow = tf.zeros([_SIZE, _SIZE, 2])
    size = tf.constant([100, 80])
    views = [random_view(tf.constant([0, i]), flow, size, _config()) for i in range(80)]
    assert 0.3 < np.mean([view.scale[0] < 0 for view in views]) < 0.7
    assert all(view.scale[1] > 0 for view in views)


def test_mirrored_sampling_is_opencv_s_reflection():
    image = _photo(20, 30)
    positions = np.random.default_rng(1).uniform(-15, 40, [25, 35, 2]).astype(np.float32)
    padded = cv2.copyMakeBorder(image, 28, 28, 28, 28, cv2.BORDER_REFLECT_101)
    expected = cv2.remap(padded, positions + 28, None, cv2.INTER_LINEAR)
    sampled = sample_mirrored(tf.constant(image), tf.constant(positions), 1000)
    np.testing.assert_allclose(sampled, expected, atol=2)
    inverted = sample_mirrored(tf.constant(255 - image), tf.constant(positions), 1000)
    np.testing.assert_allclose(sampled + inverted, 255, atol=1e-2)


def test_affine_sampling_is_the_general_one_s():
    image = _photo(20, 30).astype(np.float32)
    transform = np.array([[0.9, 0.2, -3], [-0.1, 1.1, 2], [0, 0, 1]], np.float32)
    sampled = sample_affine(tf.constant(image), tf.constant(transform), 24, 26)
    y, x = np.mgrid[:24, :26].astype(np.float32)
    positions = np.stack([x, y, np.ones_like(x)], axis=-1) @ transform[:2].T
    flow = positions - np.stack([x, y], axis=-1)
    expected = warp.bilinear(tf.constant(image)[None], tf.constant(flow)[None])[0]
    np.testing.assert_allclose(sampled, expected, atol=1e-2)
