"""The objective without ground truth, against brute force, TensorFlow and what it is meant for."""

import dataclasses

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense.config import PhotometricConfig
from tfdense.photometric import (
    PhotometricLoss,
    absolute_difference,
    census_distance,
    level_loss,
    photometric_error,
    photometric_loss,
    roughness,
    structural_dissimilarity,
)

_PLAIN = PhotometricConfig(absolute=1.0, ssim=0.0, confidence=0.05, smoothness=0.0, magnitude=0.0)
_SURE = 50.0  # a logit whose confidence is 1


def _texture(seed, height=40, width=48):
    noise = np.random.default_rng(seed).uniform(0, 255, [height, width, 3]).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.clip(127 + 4 * (blurred - 127), 0, 255)[None]


def _shifted(image, shift):
    """A source and a target cut out of one image: the flow from target to source is the shift."""
    x, y = shift
    target = image[:, 8:-8, 8:-8]
    height, width = target.shape[1:3]
    return image[:, 8 - y : 8 - y + height, 8 - x : 8 - x + width], target


def _logits(confidence_logit, image):
    sure = tf.broadcast_to(confidence_logit, image.shape[:3])
    return tf.stack([sure, tf.zeros_like(sure)], axis=-1)


def _constant_flow(shift, image):
    return tf.broadcast_to(shift, [*image.shape[:3], 2])


@pytest.fixture
def images():
    return _texture(0, 12, 10), _texture(1, 12, 10)


def test_absolute_difference_of_colours():
    first = np.full([1, 2, 2, 3], 100.0, np.float32)
    second = first + np.array([51.0, 0.0, -102.0], np.float32)
    np.testing.assert_allclose(absolute_difference(first, second), np.full([1, 2, 2], 0.2))


def test_ssim_is_that_of_tensorflow(images):
    # A Gaussian so wide that its window is a box.
    expected = tf.image.ssim(
        *map(tf.constant, images), 255.0, filter_size=3, filter_sigma=1e4, return_index_map=True
    )
    found = structural_dissimilarity(*images)
    np.testing.assert_allclose(found[:, 1:-1, 1:-1], (1 - expected) / 2, atol=1e-4)
    # In a corner, the window is the four pixels there are.
    corner = [image[:, :2, :2].astype(np.float64) for image in images]
    (a, b), (var_a, var_b) = ([f(c, axis=(1, 2)) for c in corner] for f in (np.mean, np.var))
    covariance = (corner[0] * corner[1]).mean(axis=(1, 2)) - a * b
    ssim = (2 * a * b + 6.5025) * (2 * covariance + 58.5225)
    ssim /= (a**2 + b**2 + 6.5025) * (var_a + var_b + 58.5225)
    np.testing.assert_allclose(found[:, 0, 0], (1 - ssim.mean(-1)) / 2, atol=1e-4)


def test_census_by_brute_force(images):
    grey = [image[0] @ np.array([0.299, 0.587, 0.114]) for image in images]
    height, width = grey[0].shape
    expected = np.zeros([height, width])
    for y in range(height):
        for x in range(width):
            distances = []
            for j in range(max(y - 3, 0), min(y + 4, height)):
                for i in range(max(x - 3, 0), min(x + 4, width)):
                    if (j, i) == (y, x):
                        continue
                    first, second = (
                        (g[j, i] - g[y, x]) / np.sqrt(0.81 + (g[j, i] - g[y, x]) ** 2) for g in grey
                    )
                    distances.append((first - second) ** 2 / (0.1 + (first - second) ** 2))
            expected[y, x] = np.mean(distances)
    found = census_distance(*images)[0]
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert 0.3 < expected.mean() < 0.9


@pytest.mark.parametrize(
    ("measure", "largest"), [(census_distance, 0.02), (structural_dissimilarity, 0.05)]
)
def test_robust_measures_bear_another_light(images, measure, largest):
    image = np.clip(images[0], 20, 200)
    brighter = 1.2 * image + 10
    assert absolute_difference(image, brighter).numpy().mean() > 0.1
    assert measure(image, brighter).numpy().mean() < largest
    assert measure(image, images[1]).numpy().mean() > 5 * largest


def test_measures_are_averaged_by_their_weights(images):
    config = PhotometricConfig(absolute=1.0, ssim=2.0, census=1.0)
    expected = (
        absolute_difference(*images) / 4
        + structural_dissimilarity(*images) / 2
        + census_distance(*images) / 4
    )
    np.testing.assert_allclose(photometric_error(*images, config), expected, rtol=1e-5)


def test_roughness_counts_less_at_edges():
    """A flow that jumps by (2, -1) px between the third and the fourth column of four rows."""
    flow = np.zeros([1, 4, 6, 2], np.float32)
    flow[:, :, 3:] = 2.0, -1.0
    flat = np.full([1, 4, 6, 3], 90.0, np.float32)
    # One of five differences along x is 3.
    np.testing.assert_allclose(roughness(flow, flat, 10.0), 3 / 5, rtol=1e-6)
    edge = flat.copy()
    edge[:, :, 3:] += 51.0
    np.testing.assert_allclose(roughness(flow, edge, 10.0), 3 / 5 * np.exp(-2), rtol=1e-5)
    np.testing.assert_allclose(roughness(flow, edge, 0.0), 3 / 5, rtol=1e-6)
    turned = [np.swapaxes(x, 1, 2) for x in (flow, edge)]
    np.testing.assert_allclose(roughness(*turned, 10.0), 3 / 5 * np.exp(-2), rtol=1e-5)
    np.testing.assert_array_equal(
        roughness(np.ones([1, 1, 1, 2], np.float32), flat[:, :1, :1], 0), 0
    )


def test_a_worked_example():
    """Grey 153 against 102 everywhere, flow (1, 0) in three columns, confidence 1/2."""
    source, target = np.full([1, 2, 3, 3], 153.0, np.float32), np.full([1, 2, 3, 3], 102.0)
    target = target.astype(np.float32)
    config = PhotometricConfig(ssim=0.0, confidence=0.1, smoothness=1.0, magnitude=0.01)
    loss = level_loss(
        _constant_flow((1.0, 0.0), target), _logits(0.0, target), source, target, config
    )
    # Two columns differ by 0.2; the third's match is outside.
    expected = 0.5 * (0.2 + 0.2 + 1.0) / 3 + 0.1 * np.log(2) + 0.01
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("measure", ["absolute", "ssim", "census"])
def test_the_minimum_over_shifts_is_the_true_one(measure):
    weights = {"absolute": 0.0, "ssim": 0.0, "census": 0.0, measure: 1.0}
    config = PhotometricConfig(**weights, smoothness=0.0, magnitude=1e-4)
    true = (3, -2)
    source, target = _shifted(_texture(2), true)

    @tf.function
    def loss(shift):
        flow = _constant_flow(shift, target)
        return level_loss(flow, _logits(_SURE, target), source, target, config)

    losses = {
        (x, y): float(loss(tf.constant([x, y], tf.float32)))
        for x in range(1, 6)
        for y in range(-4, 1)
    }
    assert min(losses, key=losses.get) == true
    others = [loss for shift, loss in losses.items() if shift != true]
    assert losses[true] < min(others) - 0.02


def test_descent_finds_a_part_of_a_pixel():
    source, target = _shifted(_texture(3), (1, 0))
    shift = tf.Variable([0.4, 0.3])
    optimizer = tf.keras.optimizers.Adam(0.05)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            flow = _constant_flow(shift, target)
            loss = level_loss(flow, _logits(_SURE, target), source, target, _PLAIN)
        optimizer.apply_gradients([(tape.gradient(loss, shift), shift)])

    for _ in range(60):
        step()
    np.testing.assert_allclose(shift, [1.0, 0.0], atol=0.1)


def _best_confidence(source, target, config, shift=(0.0, 0.0), steps=300):
    """Descends in the confidence of each pixel, the flow being given."""
    logit = tf.Variable(tf.zeros(target.shape[:3]))
    optimizer = tf.keras.optimizers.Adam(0.1)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = level_loss(
                _constant_flow(shift, target), _logits(logit, target), source, target, config
            )
        optimizer.apply_gradients([(tape.gradient(loss, logit), logit)])

    for _ in range(steps):
        step()
    return tf.sigmoid(logit).numpy()[0]


def test_confidence_falls_where_something_is_in_front_and_outside():
    background = _texture(4)
    source, target = _shifted(background, (4, 0))
    source = source.copy()
    # Hides the target's columns 8 to 15 and rows 6 to 13.
    source[:, 6:14, 12:20] = 255 - source[:, 6:14, 12:20]
    confidence = _best_confidence(source, target, _PLAIN, (4.0, 0.0))
    hidden = np.zeros(confidence.shape, bool)
    hidden[6:14, 8:16] = True
    outside = np.zeros_like(hidden)
    outside[:, -4:] = True
    seen = ~hidden & ~outside
    assert confidence[seen].min() > 0.95
    np.testing.assert_allclose(confidence[outside], _PLAIN.confidence, rtol=0.05)
    # The best one is beta / e, where e is more than beta.
    error = absolute_difference(source[:, :, 4:], target[:, :, :-4])[0].numpy()[6:14, 8:16]
    expected = np.minimum(1.0, _PLAIN.confidence / error).ravel()
    found = confidence[hidden]
    far = expected < 0.8
    np.testing.assert_allclose(found[far], expected[far], rtol=0.05)
    assert far.mean() > 0.5 and found.mean() < 0.6


def test_without_its_own_term_the_confidence_collapses():
    """Even where the flow is right, up to noise; and a wrong flow is no longer corrected."""
    source, target = _shifted(_texture(5), (2, 0))
    source = source + np.random.default_rng(0).normal(0, 3, source.shape).astype(np.float32)
    collapsing = dataclasses.replace(_PLAIN, confidence=0.0)
    assert _best_confidence(source, target, collapsing, (2.0, 0.0)).max() < 0.03
    kept = _best_confidence(source, target, _PLAIN, (2.0, 0.0))
    assert kept[:, :-2].min() > 0.9

    def pull(config):
        found = _best_confidence(source, target, config, (1.0, 0.0))
        logits = _logits(tf.math.log(found / (1 - found))[None], target)
        flow = _constant_flow((1.0, 0.0), target)
        with tf.GradientTape() as tape:
            tape.watch(flow)
            loss = level_loss(flow, logits, source, target, config)
        return tf.norm(tape.gradient(loss, flow)).numpy()

    assert pull(collapsing) < 0.05 * pull(_PLAIN)


def test_levels_are_compared_on_their_own_grids():
    """A flow of 8 px is 2 cells at stride 4, whose images are means of 4x4 px."""
    image = cv2.resize(_texture(6, 20, 24)[0], None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    source, target = image[None, :64, 8:72], image[None, :64, 16:80]

    def loss(shift, weights=(1.0, 2.0), **extra):
        levels = [
            {
                "flow": tf.fill([1, side, side, 2], 1.0) * [shift, 0.0],
                "logits": tf.constant([_SURE, 0.0]) * tf.ones([1, side, side, 2]),
                **extra,
            }
            for side in (16, 64)
        ]
        return float(photometric_loss(levels, source, target, weights, _PLAIN))

    # Right up to the pixels whose match is outside: two columns of 16, eight of 64.
    np.testing.assert_allclose(loss(8.0), 3 * 2 / 16, atol=1e-5)
    assert loss(4.0) > loss(8.0) + 0.03
    np.testing.assert_allclose(loss(8.0, (1.0, 0.0)) + loss(8.0, (0.0, 2.0)), loss(8.0), rtol=1e-6)
    # The same in pixels of images that the network sees twice as large.
    np.testing.assert_allclose(loss(16.0, image_size=(128, 128)), loss(8.0), rtol=1e-6)
    with pytest.raises(ValueError, match="one weight for each of the 2 levels"):
        loss(8.0, (1.0,))


def test_levels_coarser_than_stride_8_are_compared_at_it():
    """A flow of the whole image costs what it does at stride 8, where the truth is half a cell."""
    small = _texture(6, 12, 16)[0]
    wide = cv2.resize(small, None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR)
    source, target = wide[None, :64, :64], wide[None, :64, 4:68]  # target(x) = source(x + 4)

    def loss(flow, side):
        level = {
            "flow": tf.fill([1, side, side, 2], 1.0) * [flow, 0.0],
            "logits": tf.constant([_SURE, 0.0]) * tf.ones([1, side, side, 2]),
        }
        return float(photometric_loss([level], source, target, [1.0], _PLAIN))

    for flow in (0.0, 4.0, 8.0):
        np.testing.assert_allclose(loss(flow, 1), loss(flow, 8), rtol=1e-5)
    # Both leave one column of cells without a match.
    assert loss(4.0, 1) < loss(8.0, 1) - 0.02


def test_at_least_one_measure():
    with pytest.raises(ValueError, match="at least one of absolute, ssim and census"):
        PhotometricConfig(absolute=0.0, ssim=0.0)


def test_the_loss_for_fit_is_the_same_and_is_saved(images):
    source, target = (tf.constant(image) for image in images)
    generator = np.random.default_rng(0)
    levels = [
        {
            "flow": tf.constant(generator.normal(size=(1, *size, 2)), tf.float32),
            "logits": tf.constant(generator.normal(size=(1, *size, 2)), tf.float32),
        }
        for size in ((6, 5), (12, 10))
    ]
    loss = PhotometricLoss((0.5, 2.0), {"ssim": 0.0, "magnitude": 0.1})
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    terms = PhotometricConfig(ssim=0.0, magnitude=0.1)
    expected = photometric_loss(levels, source, target, (0.5, 2.0), terms)
    for one in (loss, again):
        value = one({"source": source, "target": target}, {"levels": levels})
        np.testing.assert_allclose(value, expected, rtol=1e-6)
