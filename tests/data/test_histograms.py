"""Histograms of other images, against NumPy."""

import cv2
import numpy as np
import tensorflow as tf

from tfdense.data.assembly import mixed
from tfdense.data.histograms import histogram, match_histogram, with_histograms
from tfdense.data_config import DataConfig, DomainConfig, PhotometryConfig

_SIZE = 64
_SEEDS = tf.constant([[7, i] for i in range(6)])


def _image(seed, low, high, power):
    noise = np.random.default_rng(seed).uniform(0, 1, [3, _SIZE, _SIZE]).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 2) for plane in noise])
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (low + (high - low) * smooth**power).astype(np.float32)


def _pairs(count=6):
    images = [
        np.stack([_image(10 * k + i, 10 * i, 150 + 15 * i, 1 + k) for i in range(count)])
        for k in (0, 1)
    ]
    source, target = (tf.constant(np.transpose(image, [0, 2, 3, 1])) for image in images)
    mask = tf.ones([count, _SIZE, _SIZE])
    flow = tf.random.stateless_normal([count, _SIZE, _SIZE, 2], [1, 2])
    return {"source": source, "target": target, "flow": flow, "mask": mask, "unmatched": 0 * mask}


def _quantiles(image):
    return np.quantile(image, np.linspace(0.02, 0.98, 25))


def test_counts_are_numpy_s():
    image = _image(0, 0, 255, 1)
    counts = histogram(tf.constant(image[None]))[0]
    for plane, own in zip(image, counts, strict=True):
        expected = np.bincount(np.round(plane).astype(int).ravel(), minlength=256)
        np.testing.assert_array_equal(own, expected)


def test_the_result_has_the_histogram_of_the_reference_and_keeps_the_order():
    image, reference = _image(0, 30, 120, 1), _image(1, 5, 250, 3)
    before, wanted = _quantiles(image[1]), _quantiles(reference[1])
    changed = match_histogram(image[None], reference[None], tf.ones(1))[0].numpy()
    assert np.abs(before - wanted).max() > 50
    for plane, other in zip(changed, reference, strict=True):
        np.testing.assert_allclose(_quantiles(plane), _quantiles(other), atol=5)
    order = np.argsort(image[0].ravel())
    assert np.diff(changed[0].ravel()[order]).min() >= -1e-3
    half = match_histogram(image[None], reference[None], tf.constant([0.5]))[0]
    np.testing.assert_allclose(half, (image + changed) / 2, atol=1e-3)


def test_the_own_histogram_changes_little():
    image = _image(2, 20, 230, 1)[None]
    assert np.abs(match_histogram(image, image, tf.ones(1)) - image).mean() < 1


def test_images_of_a_batch_take_those_of_their_neighbours_and_nothing_moves():
    pairs = _pairs()
    changed = with_histograms(pairs, _SEEDS, DomainConfig(histogram=1.0, histogram_strength=(1, 1)))
    for name, step in (("source", -1), ("target", 1)):
        for i in range(6):
            changed_levels = _quantiles(changed[name][i, ..., 0])
            difference = [
                np.abs(changed_levels - _quantiles(pairs[name][k, ..., 0])).mean() for k in range(6)
            ]
            assert np.argmin(difference) == (i + step) % 6 and min(difference) < 3
    for name in ("flow", "mask", "unmatched"):
        assert changed[name] is pairs[name]


def test_who_has_none_stays_as_it_is():
    pairs = _pairs()
    for config in (DomainConfig(), DomainConfig(histogram_strength=(1, 1))):
        assert with_histograms(pairs, _SEEDS, config) is pairs
    always = DomainConfig(histogram=1.0)
    single = {name: value[:1] for name, value in pairs.items()}
    assert with_histograms(single, _SEEDS[:1], always) is single
    # Frames without ground truth are compared by their colours.
    known = tf.constant([1.0, 0, 1, 1, 1, 1])[:, None, None]
    changed = with_histograms(pairs | {"mask": known * pairs["mask"]}, _SEEDS, always)
    np.testing.assert_array_equal(changed["source"][1], pairs["source"][1])
    assert np.abs(changed["source"][0] - pairs["source"][0]).mean() > 1
    for photometry, expected in ((1.0, True), (0.0, False)):
        config = DataConfig(
            unrelated=0.0, photometry=PhotometryConfig(probability=photometry, domains=always)
        )
        source = mixed(pairs, _SEEDS, config)["source"]
        assert (np.abs(source - pairs["source"]).mean() > 1) == expected


def test_about_as_many_as_asked_by_their_seeds_and_the_same_compiled():
    pairs = _pairs()
    config = DomainConfig(histogram=0.5, histogram_strength=(0.8, 1.0))
    changed = with_histograms(pairs, _SEEDS, config)
    which = [np.abs(changed[n] - pairs[n]).max(axis=(1, 2, 3)) > 0 for n in ("source", "target")]
    assert 2 < np.sum(which) < 10 and not np.array_equal(*which)
    compiled = tf.function(with_histograms, jit_compile=True, autograph=False)
    again = compiled(pairs, _SEEDS, config)
    for name in ("source", "target"):
        np.testing.assert_allclose(again[name], changed[name], atol=0.1)
        assert np.min(changed[name]) >= 0 and np.max(changed[name]) <= 255
