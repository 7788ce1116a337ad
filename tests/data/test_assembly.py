"""The ground truth of whole pairs, proven by warping the source."""

import dataclasses

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.data.assembly import make_pairs, with_unrelated
from tfdense.data.canvases import MARGIN, canvas_side, cutout_count, cutout_side
from tfdense.data_config import (
    DataConfig,
    DomainConfig,
    ObjectConfig,
    PerturbationConfig,
    PhotometryConfig,
    WarpConfig,
)
from tfdense.ops import warping

_SIZE = 64
_KINDS = ("homography", "affine", "thin_plate_spline", "composition")


def _photo(side, seed=0):
    """A smooth texture, so that sampling it twice costs little; never close to black."""
    noise = np.random.default_rng(seed).uniform(0, 255, [side, side, 3]).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return (40 + 200 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def _disc(side, seed):
    """A textured disc as moving object."""
    position = np.arange(side) - (side - 1) / 2
    distance = np.hypot(position[:, None], position)
    alpha = np.clip(side / 2 - MARGIN - distance, 0, 1)[..., None]
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    colour = 128 + 80 * np.sin(distance[..., None] / 4 + phase)
    return np.round(np.concatenate([colour, np.full_like(alpha, 255)], -1) * alpha).astype(np.uint8)


def _config(kind=None, objects=0.0, perturbation=0.0, **options):
    weights = dict.fromkeys(_KINDS, float(kind is None)) | ({kind: 1.0} if kind else {})
    return DataConfig(
        size=_SIZE,
        warp=WarpConfig(**weights),
        objects=ObjectConfig(probability=objects, count=(2, 4)),
        perturbation=PerturbationConfig(probability=perturbation, count=(2, 4)),
        **{"unrelated": 0.0, "photometry": PhotometryConfig(probability=0.0)} | options,
    )


def _parts(config, count):
    side, count_each = cutout_side(config), cutout_count(config)
    canvases = np.stack([_photo(canvas_side(config), i % 3) for i in range(count)])
    discs = [_disc(side, i) for i in range(count * count_each)]
    cutouts = np.reshape(np.array(discs, np.uint8), [count, count_each, side, side, 4])
    seeds = np.array([[3, i] for i in range(count)], np.int32)
    return tf.constant(canvases), tf.constant(cutouts), tf.constant(seeds)


def _pairs(config, count, strength=1.0):
    batch = make_pairs(*_parts(config, count), config, strength)
    return [{name: value[i] for name, value in batch.items()} for i in range(count)]


def _errors(pair):
    """Returns the largest difference over the channels at each pixel of the mask."""
    warped = warping.bilinear(pair["source"][None], pair["flow"][None])[0]
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
            warped = warping.bilinear(pair["source"][None], pair["flow"][None])[0]
            right = np.abs(warped - pair["target"]).max(axis=-1) < 2
            assert not (mask & ~inside).any()
            assert np.mean(inside & right & ~mask) <= 0.12 * objects


def test_no_pixel_is_both_matched_and_unmatched():
    known = []
    for pair in _pairs(_config(objects=1.0), 8):
        assert (pair["mask"] * pair["unmatched"]).numpy().max() == 0
        assert pair["unmatched"].numpy().any()
        known.append(np.mean(pair["mask"] + pair["unmatched"]))
    assert np.mean(known) > 0.8


def test_unrelated_pairs_have_the_source_of_another_and_no_match():
    config = _config()
    parts = _parts(config, 8)
    batch = make_pairs(*parts, config, 1.0)
    mixed = make_pairs(*parts, dataclasses.replace(config, unrelated=0.5), 1.0)
    unrelated = mixed["unmatched"].numpy().all(axis=(1, 2))
    assert 0 < unrelated.sum() < 8
    for i, changed in enumerate(unrelated):
        origin = (i - 1) % 8 if changed else i
        np.testing.assert_array_equal(mixed["source"][i], batch["source"][origin])
        np.testing.assert_array_equal(mixed["target"][i], batch["target"][i])
        np.testing.assert_array_equal(mixed["mask"][i], 0 if changed else batch["mask"][i])
    later = with_unrelated(batch, parts[2], 0.5)
    for name, value in mixed.items():
        np.testing.assert_array_equal(later[name], value)


def test_least_strength_gives_weak_warps_among_the_strong():
    def motion(least):
        config = _config("homography")
        # Small enough that no horizon comes close, which would halve the warp.
        warp = dataclasses.replace(config.warp, least_strength=least, corner_displacement=0.4)
        pairs = _pairs(dataclasses.replace(config, warp=warp), 12)
        return np.array([np.linalg.norm(pair["flow"], axis=-1).mean() for pair in pairs])

    share = motion(0.0) / motion(1.0)  # of the same pairs
    assert share.min() < 0.3 and 0.7 < share.max() < 1.2


def test_no_strength_gives_equal_images():
    for pair in _pairs(_config(), 3, strength=0.0):
        np.testing.assert_allclose(pair["source"], pair["target"], atol=0.05)
        np.testing.assert_allclose(pair["flow"], 0, atol=1e-4)
        assert pair["mask"].numpy()[1:-1, 1:-1].all()


def _everything():
    photometry = PhotometryConfig(blur=0.5, noise=0.5, jpeg=0.5)
    return _config(objects=0.8, perturbation=1.0, photometry=photometry)


def _assert_same(pairs, expected):
    """The same but for rounding, which can decide what the compression does to a few pixels."""
    np.testing.assert_allclose(pairs["flow"], expected["flow"], atol=1e-2)
    for name in ("mask", "unmatched"):
        assert np.mean(pairs[name] != expected[name]) < 1e-3
    for name in ("source", "target"):
        assert np.mean(np.abs(pairs[name] - expected[name]) > 0.1) < 1e-3


def test_pairs_are_the_same_compiled():
    config = _everything()
    parts = _parts(config, 3)
    compiled = tf.function(make_pairs, jit_compile=True, autograph=False)
    _assert_same(compiled(*parts, config, 0.8), make_pairs(*parts, config, 0.8))


def test_pairs_do_not_depend_on_their_batch():
    config = _everything()
    parts = _parts(config, 4)
    batch = make_pairs(*parts, config, 1.0)
    for i in (3, 1):
        alone = make_pairs(*(part[i : i + 1] for part in parts), config, 1.0)
        _assert_same(alone, {name: value[i : i + 1] for name, value in batch.items()})


def test_masks_are_as_configured():
    config = _config(objects=1.0)
    pairs = {
        mask: _pairs(dataclasses.replace(config, mask=mask), 4)
        for mask in ("visible", "uncovered", "all")
    }
    for visible, uncovered, everything in zip(*pairs.values(), strict=True):
        assert np.all(everything["mask"] == 1)
        assert np.all(uncovered["mask"] >= visible["mask"])
        assert np.mean(uncovered["mask"]) > np.mean(visible["mask"])
        assert np.any(uncovered["mask"] == 0)


def test_changes_of_domain_move_nothing():
    domains = DomainConfig(**dict.fromkeys(("night", "snow", "infrared", "histogram"), 0.6))
    config = _config(objects=0.8)
    photometry = PhotometryConfig(probability=1.0, domains=domains)
    parts = _parts(config, 4)
    plain = make_pairs(*parts, config, 1.0)
    changed = make_pairs(*parts, dataclasses.replace(config, photometry=photometry), 1.0)
    for name in ("flow", "mask", "unmatched"):
        np.testing.assert_array_equal(changed[name], plain[name])
    for name in ("source", "target"):
        assert np.abs(changed[name] - plain[name]).mean() > 10
