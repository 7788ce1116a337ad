"""Changes of domain by what their names say, against NumPy."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.config import load_config
from tfdense.data.appearance import random_appearance
from tfdense.data.domains import (
    add_fog,
    add_glare,
    cover_with_snow,
    draw_lines,
    invert,
    make_night,
    random_domain,
    recolour_foliage,
    shade,
)
from tfdense.data.histograms import match_histogram
from tfdense.data_config import DomainConfig, PhotometryConfig
from tfdense.errors import InputError

_SIZE = 64
_CHANGES = ("season", "snow", "shadow", "fog", "night", "glare", "infrared", "inversion", "curves",
            "sketch")  # fmt: skip
_LUMA = np.array([0.299, 0.587, 0.114])
_SEEDS = [[i, 1] for i in range(6)]


def _image(seed=0):
    noise = np.random.default_rng(seed).uniform(0, 255, [_SIZE, _SIZE, 3]).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return 20 + 220 * (smooth - smooth.min()) / np.ptp(smooth)


def _planes(*images):
    return tf.constant(np.transpose(np.stack(images), [0, 3, 1, 2]).astype(np.float32))


def _images(planes):
    return np.transpose(planes, [0, 2, 3, 1])


def _flat(*colour):
    return np.broadcast_to(np.float32(colour), [_SIZE, _SIZE, 3])


def _changed(config, seeds=_SEEDS, images=None):
    images = [_image()] * len(seeds) if images is None else images
    return _images(random_domain(_planes(*images), tf.constant(seeds), config))


@pytest.mark.parametrize("name", _CHANGES)
def test_a_change_happens_by_its_seed_and_keeps_the_range(name):
    images = _changed(DomainConfig(**{name: 1.0}))
    assert images.min() >= 0 and images.max() <= 255
    # Foliage is little of a random image, and a shadow may fall beside it.
    assert (np.abs(images - _image()).mean(axis=(1, 2, 3)) > 0.3).sum() >= 4
    if name != "inversion":
        assert np.abs(images[0] - images[1]).mean() > 0.3
    np.testing.assert_array_equal(images, _changed(DomainConfig(**{name: 1.0})))
    alone = _changed(DomainConfig(**{name: 1.0}), [_SEEDS[3]])
    np.testing.assert_allclose(alone[0], images[3], atol=0.05)


def test_nothing_asked_leaves_every_bit_and_adds_no_operation():
    image = _planes(_image())
    seeds = tf.constant([[1, 2]])
    assert random_domain(image, seeds, DomainConfig()) is image
    never = DomainConfig(**dict.fromkeys(_CHANGES, 1.0))
    none = random_domain(image, seeds, never, tf.constant([False]))
    np.testing.assert_array_equal(none, image)

    def operations(config):
        function = tf.function(lambda x, s: random_domain(x, s, config), autograph=False)
        graph = function.get_concrete_function(image, seeds).graph
        return {operation.type for operation in graph.get_operations()}

    assert "If" not in operations(DomainConfig()) | operations(DomainConfig(fog_density=(2, 3)))
    assert {"If", "StatelessIf"} & operations(DomainConfig(fog=0.5))


def test_changes_are_as_frequent_as_asked_and_on_their_own():
    seeds = [[i, 5] for i in range(200)]
    images = [np.full([32, 32, 3], 100.0)] * 200
    inverted = _changed(DomainConfig(inversion=0.3), seeds, images)[:, 0, 0, 0] > 100
    assert 0.2 < inverted.mean() < 0.4
    # A change more does not move the draws of another.
    both = _changed(DomainConfig(inversion=0.3, shadow=1.0, shadow_darkness=(0, 0)), seeds, images)
    np.testing.assert_array_equal(both[:, 0, 0, 0] > 100, inverted)


def test_compiled_is_the_same():
    config = DomainConfig(**dict.fromkeys(_CHANGES, 0.5))
    images = _planes(*[_image(i) for i in range(6)])
    compiled = tf.function(random_domain, jit_compile=True, autograph=False)
    difference = compiled(images, tf.constant(_SEEDS), config) - random_domain(
        images, tf.constant(_SEEDS), config
    )
    # Steep curves and weak edges enlarge a rounding error.
    assert np.mean(np.abs(difference) > 0.05) < 1e-3


def test_every_accelerator_takes_them():
    pytest.importorskip("jax")
    from tfdense.exporting.stablehlo import lower

    config = DomainConfig(**dict.fromkeys((*_CHANGES, "histogram"), 0.5))

    def change(inputs):
        planes = random_domain(inputs["planes"], inputs["seeds"], config)
        return {"planes": match_histogram(planes, tf.roll(planes, 1, 0), tf.ones(2))}

    arguments = {
        "planes": tf.TensorSpec([2, 3, 32, 32], tf.float32),
        "seeds": tf.TensorSpec([2, 2], tf.int32),
    }
    # It would refuse what is not plain StableHLO.
    assert list(lower(change, arguments, {}).outputs) == ["planes"]


def test_foliage_changes_its_colour_but_not_its_luma():
    green, grey, red = (60, 140, 50), (120, 120, 120), (150, 90, 80)
    autumn = np.array([1.75, 0.72, 0.42])
    colour = tf.constant(np.tile(np.float32(autumn)[:, None, None], [3, 1, 1, 1]))
    images = [_flat(*c) for c in (green, grey, red)]
    changed = _images(recolour_foliage(_planes(*images), colour, tf.ones(3)))
    np.testing.assert_allclose(changed[0, 0, 0], _LUMA @ green * autumn, rtol=1e-4)
    assert changed[0, 0, 0, 0] > changed[0, 0, 0, 1]
    np.testing.assert_allclose(changed[1:], images[1:], atol=1e-3)
    np.testing.assert_allclose(changed[0] @ _LUMA, images[0] @ _LUMA, rtol=0.01)


def test_snow_is_white_where_it_lies_and_lies_low():
    cover = np.zeros([1, 1, _SIZE, _SIZE], np.float32)
    cover[..., _SIZE // 2 :, :] = 1
    changed = _images(cover_with_snow(_planes(_image()), tf.constant(cover)))[0]
    np.testing.assert_allclose(changed[: _SIZE // 2], _image()[: _SIZE // 2], atol=1e-3)
    snow = changed[_SIZE // 2 :]
    assert snow.min() > 170 and np.ptp(snow.mean(axis=(0, 1))) < 20
    whiter = _changed(DomainConfig(snow=1.0, snow_cover=(0.5, 0.5))) - _image()
    assert whiter[:, 3 * _SIZE // 4 :].mean() > 2 * whiter[:, : _SIZE // 4].mean()
    cover = [
        (_changed(DomainConfig(snow=1.0, snow_cover=(c, c))) - _image()).mean() for c in (0.2, 0.8)
    ]
    assert cover[1] > 2 * cover[0]


def test_shadows_are_a_factor_with_an_edge():
    shadow = np.zeros([1, 1, _SIZE, _SIZE], np.float32)
    shadow[..., :20] = 1
    changed = _images(shade(_planes(_image()), tf.constant([0.6]), tf.constant(shadow)))[0]
    np.testing.assert_allclose(changed[:, 20:], _image()[:, 20:], rtol=1e-5)
    np.testing.assert_allclose(changed[:, :20, 0], 0.4 * _image()[:, :20, 0], rtol=1e-4)
    # Random ones: both lit and dark places, and a step between them.
    ratio = (_changed(DomainConfig(shadow=1.0, shadow_darkness=(0.6, 0.6))) / _image())[..., 0]
    assert ratio.min() > 0.39 and ratio.max() < 1.001
    assert ((ratio.min(axis=(1, 2)) < 0.5) & (ratio.max(axis=(1, 2)) > 0.9)).sum() >= 3
    assert np.abs(np.diff(ratio, axis=2)).max() > 0.1


def test_fog_takes_contrast_with_depth_and_tends_to_its_colour():
    depth = np.linspace(0, 12, _SIZE, dtype=np.float32)[None, None, :, None]
    colour = np.float32([[200, 210, 220]])
    fog = _images(add_fog(_planes(_image()), tf.constant(depth), tf.constant(colour)))[0]
    left = np.exp(-depth[0, 0])[..., None]
    np.testing.assert_allclose(fog, _image() * left + colour * (1 - left), atol=1e-2)
    np.testing.assert_allclose(fog[0], _image()[0], atol=1e-3)
    np.testing.assert_allclose(fog[-1], np.tile(colour, [_SIZE, 1]), atol=0.01)
    # Of the random ones the upper part is the farther one.
    foggy = _changed(DomainConfig(fog=1.0, fog_density=(1.0, 1.0)))
    below, above = (
        np.std(foggy[:, part] - foggy[:, part].mean(axis=2, keepdims=True), axis=(1, 2, 3))
        / np.std(_image()[part] - _image()[part].mean(axis=1, keepdims=True))
        for part in (slice(-16, None), slice(16))
    )
    assert np.all(above < below) and below.max() < 1


def test_night_darkens_what_no_lamp_reaches_and_keeps_lights():
    image = _flat(90, 90, 90).copy()
    image[30:34, 30:34] = 240
    dark = tf.zeros([1, 1, _SIZE, _SIZE])
    night = _images(make_night(_planes(image), tf.constant([0.2]), dark))[0]
    np.testing.assert_allclose(night[5, 5] @ _LUMA, 0.2 * 90, rtol=0.1)
    assert night[31, 31] @ _LUMA > 200
    lamps = np.zeros(dark.shape, np.float32)
    lamps[..., :20] = 0.7
    lit = _images(make_night(_planes(image), tf.constant([0.2]), tf.constant(lamps)))[0]
    assert lit[5, 5] @ _LUMA > 60 and lit[5, 5, 0] > 1.5 * lit[5, 5, 2]
    np.testing.assert_allclose(lit[:, 20:], night[:, 20:], atol=1e-3)


def test_at_night_the_sky_is_darker_than_a_wall():
    image = _flat(170, 185, 210).copy()  # above: an even blue sky
    wall = np.random.default_rng(1).uniform(60, 160, [_SIZE // 2, _SIZE, 1])
    image[_SIZE // 2 :] = wall * [1.1, 1.0, 0.8]
    night = _images(make_night(_planes(image), tf.constant([0.4]), tf.zeros([1, 1, _SIZE, _SIZE])))[
        0
    ]
    sky, wall = night[: _SIZE // 4].mean(), night[-_SIZE // 4 :].mean()
    assert image[: _SIZE // 4].mean() > 1.5 * image[-_SIZE // 4 :].mean() and sky < wall


def test_glare_saturates_and_only_brightens():
    light = np.zeros([1, 1, _SIZE, _SIZE], np.float32)
    light[..., 10, 10] = 1
    light[..., 20, 20] = 0.5
    changed = _images(add_glare(_planes(_image()), tf.constant(light)))[0]
    np.testing.assert_allclose(changed[10, 10], 255)
    np.testing.assert_allclose(changed[20, 20], 0.5 * (255 + _image()[20, 20]), rtol=1e-5)
    np.testing.assert_allclose(changed[30:], _image()[30:], atol=1e-4)
    random = _changed(DomainConfig(glare=1.0, glare_strength=(1.0, 1.0)))
    assert np.all(random >= _image() - 1e-3)
    assert np.mean(random.max(axis=(1, 2, 3)) > 250) > 0.5


def test_infrared_is_grey_with_bright_foliage_and_a_dark_sky():
    image = _flat(90, 140, 230).copy()  # a blue sky above grass
    image[_SIZE // 2 :] = (70, 120, 40)
    seeds = [[i, 3] for i in range(20)]
    config = DomainConfig(infrared=1.0, infrared_remap=(0.0, 0.0))
    changed = _changed(config, seeds, [image] * 20)
    np.testing.assert_array_equal(changed[..., 0], changed[..., 2])
    sky, grass = changed[:, : _SIZE // 4].mean(axis=(1, 2, 3)), changed[:, -8:].mean(axis=(1, 2, 3))
    assert np.mean(grass > sky) > 0.7  # though the luma of the sky is the larger one
    assert image[0, 0] @ _LUMA > image[-1, 0] @ _LUMA
    # The remap is a function of the brightness alone, and not a rising one.
    ramp = np.repeat(np.linspace(20, 240, _SIZE)[None, :, None], _SIZE, axis=0) * np.ones(3)
    config = DomainConfig(infrared=1.0, infrared_remap=(1.0, 1.0))
    remapped = _changed(config, seeds, [ramp] * 20)
    np.testing.assert_array_equal(remapped, np.tile(remapped[:, :1], [1, _SIZE, 1, 1]))
    slopes = np.diff(remapped[:, 0, :, 0], axis=1)
    assert np.mean((slopes.min(axis=1) < 0) & (slopes.max(axis=1) > 0)) > 0.7


def test_inversion_is_exact():
    np.testing.assert_array_equal(_images(invert(_planes(_image())))[0], 255 - np.float32(_image()))
    np.testing.assert_array_equal(
        _changed(DomainConfig(inversion=1.0))[0], 255 - np.float32(_image())
    )


def test_curves_rise_from_black_to_white_on_their_own_in_each_colour():
    ramp = np.repeat(np.linspace(0, 255, _SIZE)[None, :, None], _SIZE, axis=0) * np.ones(3)
    config = DomainConfig(curves=1.0, curve_deviation=(0.6, 0.6))
    curves = _changed(config, images=[ramp] * 6)[:, 0]
    np.testing.assert_allclose(curves[:, 0], 0, atol=1e-3)
    np.testing.assert_allclose(curves[:, -1], 255, atol=1e-2)
    assert np.diff(curves, axis=1).min() > 0
    assert np.abs(curves[..., 0] - curves[..., 1]).max(axis=1).min() > 3
    flat = DomainConfig(curves=1.0, curve_deviation=(0, 0))
    np.testing.assert_allclose(_changed(flat)[0], _image(), atol=1e-3)


def test_lines_stand_at_edges_and_nowhere_else():
    image = _flat(60, 60, 60).copy()
    image[:, _SIZE // 2 :] = 180
    lines = draw_lines(_planes(image), tf.constant([0.8]))[0, 0].numpy()
    assert lines[:, 31:33].min() > 200
    np.testing.assert_allclose(lines[:, :24], 0, atol=0.1)
    np.testing.assert_allclose(lines[:, 40:], 0, atol=0.1)
    # Steepness as OpenCV has it, of the same blur.
    image = _image()
    grey = cv2.GaussianBlur((image @ _LUMA).astype(np.float32), (13, 13), 0.8)
    gradient = [
        cv2.filter2D(grey, -1, kernel, borderType=cv2.BORDER_REFLECT)
        for kernel in (np.float32([[-1, 0, 1]]), np.float32([[-1], [0], [1]]))
    ]
    steepness = np.hypot(*gradient)
    expected = 255 * np.minimum(steepness / (3 * steepness.mean() + 1), 1)
    lines = draw_lines(_planes(image), tf.constant([0.8]))[0, 0].numpy()
    np.testing.assert_allclose(lines[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1)


def test_images_of_a_pair_go_to_different_domains():
    config = PhotometryConfig(probability=1.0, domains=DomainConfig(**dict.fromkeys(_CHANGES, 0.5)))
    seeds = tf.constant([[0, 1], [0, 2], [0, 1]])
    first, second, again = _images(random_appearance(_planes(*[_image()] * 3), seeds, config))
    assert np.abs(first - second).mean() > 5
    np.testing.assert_array_equal(first, again)
    plain = _images(
        random_appearance(_planes(*[_image()] * 3), seeds, PhotometryConfig(probability=1.0))
    )
    assert np.abs(first - plain[0]).mean() > 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fog=1.5", r"domains\.fog should be less than or equal to 1, received 1\.5"),
        ("night_light=[0.5, 0.1]", r"night_light .*\(smallest, largest\)"),
        ("sketch_strength=[0.5, 2]", r"sketch_strength.* less than or equal to 1"),
        ("fog_density=[-1, 2]", r"fog_density.* greater than or equal to 0"),
        ("nigth=0.1", r"nigth \(did you mean night\?\)"),
    ],
)
def test_bad_values_are_refused(override, message):
    with pytest.raises(InputError, match=message):
        load_config(overrides=[f"data.photometry.domains.{override}"])
