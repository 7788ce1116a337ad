"""Worlds with depth, against an independent ray caster."""

import dataclasses
import functools

import cv2
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from tfdense.config import load_config
from tfdense.data.assembly import make_pairs
from tfdense.data.canvases import (
    MARGIN,
    Canvases,
    canvas_side,
    cutout_count,
    cutout_side,
    pair_seed,
)
from tfdense.data.random_worlds import random_world
from tfdense.data.worlds import (
    look,
    photograph,
    project,
    relative_pose,
    textures,
)
from tfdense.data_config import (
    DataConfig,
    ObjectConfig,
    PhotometryConfig,
    WorldsConfig,
)
from tfdense.errors import InputError
from tfdense.images import write_image
from tfdense.ops import warping

_SIZE, _PAIRS = 64, 8


def _config(**worlds):
    return DataConfig(
        size=_SIZE,
        unrelated=0.0,
        objects=ObjectConfig(probability=1.0, count=(1, 3)),
        photometry=PhotometryConfig(probability=0.0),
        worlds=WorldsConfig(**{"share": 1.0, "baseline": (2.0, 60.0)} | worlds),
    )


def _photo(side, seed):
    """A smooth texture, never close to black."""
    noise = np.random.default_rng(seed).uniform(0, 255, [side, side, 3]).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    return (40 + 200 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def _disc(side, seed):
    position = np.arange(side) - (side - 1) / 2
    alpha = np.clip(side / 2 - MARGIN - np.hypot(position[:, None], position), 0, 1)[..., None]
    colour = _photo(side, seed) * alpha
    return np.round(np.concatenate([colour, 255 * alpha], axis=-1)).astype(np.uint8)


@functools.cache
def _parts(config, count=_PAIRS):
    photos = np.stack([_photo(canvas_side(config), i) for i in range(config.worlds.photos + 1)])
    photos = np.stack([np.roll(photos, i, axis=0)[:-1] for i in range(count)])
    side = cutout_side(config)
    discs = [_disc(side, i) for i in range(cutout_count(config))]
    discs = np.reshape(np.array(discs, np.uint8), [-1, side, side, 4])
    seeds = np.array([[7, i] for i in range(count)], np.int32)
    return tuple(map(tf.constant, (photos, np.stack([discs] * count), seeds)))


def _world(config, strength=1.0):
    photos, cutouts, seeds = _parts(config)
    strength = tf.fill([_PAIRS], strength)
    return random_world(seeds, config, strength, photos.shape[1:3], cutouts.shape[1:3])


class _RayCaster:
    """Casts rays into one world, surface by surface, in double precision and world coordinates."""

    def __init__(self, world, cutouts, pair):
        self.cameras = [_numpy(camera, pair) for camera in world.cameras]
        self.surfaces = []
        for surfaces in (world.planes, world.objects):
            for i in range(surfaces.present.shape[1]):
                if not surfaces.present[pair, i]:
                    self.surfaces.append(None)
                    continue
                relief = surfaces.relief and _numpy([part[pair] for part in surfaces.relief], i)
                alpha = None if surfaces is world.planes else cutouts[pair, i, ..., 3].numpy()
                frames = [
                    (surfaces.axes[view, pair, i].numpy(), surfaces.origin[view, pair, i].numpy())
                    for view in (0, 1)
                ]
                extent, *views = _numpy(
                    [surfaces.extent[pair], *(part[pair] for part in surfaces.view)], i
                )
                self.surfaces.append((frames, extent, views, alpha, relief))

    def cast(self, view, positions):
        """Returns the layer, the depth and where the other camera sees it: position and depth."""
        rotation, centre, focal = self.cameras[view]
        directions = (positions - (_SIZE - 1) / 2) / focal
        directions = np.concatenate([directions, np.ones_like(directions[:, :1])], axis=1)
        directions = directions @ rotation  # to the world
        layer, depth = np.zeros(len(positions), int), np.full(len(positions), np.inf)
        points = directions * 1e9
        for number, surface in enumerate(self.surfaces, 1):
            if surface is None:
                continue
            frames, extent, views, alpha, relief = surface
            (axes, origin), (other_axes, other_origin) = frames[view], frames[1 - view]
            begin, along = (centre - origin) @ axes, directions @ axes
            with np.errstate(divide="ignore", over="ignore"):
                at = -begin[2] / along[:, 2]
            if relief is not None and relief[0] > 0:
                at = _first(relief, begin, along, at)
            at = np.where((at > 0.05) & (at < 100), at, np.inf)
            met = begin + np.where(np.isfinite(at), at, 0)[:, None] * along
            shown = np.isfinite(at) & (np.abs(met[:, :2]) <= extent).all(axis=1)
            if alpha is not None:
                texel = (views[0] + views[1] * met[:, :2]).T
                shown &= ndimage.map_coordinates(alpha.astype(float), texel[::-1], order=1) >= 127.5
            nearer = shown & (at < depth)
            layer[nearer], depth[nearer] = number, at[nearer]
            points[nearer] = (other_origin + met @ other_axes.T)[nearer]
        rotation, centre, focal = self.cameras[1 - view]
        there = (points - centre) @ rotation.T
        with np.errstate(divide="ignore", invalid="ignore"):
            position = there[:, :2] / there[:, 2:] * focal + (_SIZE - 1) / 2
        return (
            layer,
            depth,
            position,
            np.where(layer > 0, there[:, 2], np.sign(there[:, 2]) * np.inf),
        )


def _numpy(parts, index):
    return [np.asarray(part[index], np.float64) for part in parts]


def _heights(relief, u, v):
    height, waves, amplitudes, extent = relief
    total = 0.5
    for (along_u, along_v, phase), amplitude in zip(waves, amplitudes, strict=True):
        turn = np.mod(along_u * u + along_v * v + phase, 1)
        # Down one parabola and up the next.
        total = total + amplitude * np.where(
            turn < 0.5, -16 * turn * (0.5 - turn), 16 * (turn - 0.5) * (1 - turn)
        )
    rim = np.clip(1 - (u / extent[0]) ** 2, 0, None) * np.clip(1 - (v / extent[1]) ** 2, 0, None)
    return height * np.clip(total, 0, 1) * np.minimum(4 * rim, 1)


def _first(relief, begin, along, flat, steps=800):
    """Returns the first of many steps after which rays are below the relief, then bisects."""
    with np.errstate(divide="ignore"):
        top = (relief[0] - begin[2]) / along[:, 2]
    start = np.where(begin[2] > relief[0], top, 0)
    end = np.where(flat > 0, flat, np.where(top > 0, top, 0))
    possible = (begin[2] > 0) & (start >= 0) & (end > start)
    start, end = np.where(possible, start, 0), np.where(possible, np.minimum(end, start + 8), 0)

    def above(at):
        u, v, w = (begin + at[:, None] * along).T
        return w - _heights(relief, u, v)

    low, high, found = start, end, np.zeros(len(flat), bool)
    for i in range(1, steps + 1):
        at = start + (end - start) * i / steps
        below = above(at) <= 0
        low, high = np.where(found | below, low, at), np.where(~found & below, at, high)
        found |= below
    for _ in range(40):
        middle = (low + high) / 2
        below = above(middle) <= 0
        low, high = np.where(below, low, middle), np.where(below, middle, high)
    return np.where(found & possible, high, flat)


def _grid():
    y, x = np.mgrid[:_SIZE, :_SIZE]
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(float)


@functools.cache
def _photographed(config):
    photos, cutouts, _ = _parts(config)
    world = _world(config)
    images = textures(photos, cutouts)
    return world, images, *photograph(world, images, _SIZE)


def _inside(position):
    return np.all((position >= 0) & (position <= _SIZE - 1), axis=-1)


@pytest.mark.parametrize(("relief", "count"), [(0.0, _PAIRS), (1.0, 4)])
def test_flow_and_visibility_are_those_of_a_ray_caster(relief, count):
    world, _, scene, hidden = _photographed(_config(relief=relief, relief_height=(0.05, 0.12)))
    errors, wrong, share = [], [], []
    for pair in range(count):
        caster = _RayCaster(world, _parts(_config())[1], pair)
        layer, _, position, depth = caster.cast(0, _grid())
        there, own_depth, *_ = caster.cast(1, np.where(depth[:, None] > 0, position, 0))
        with np.errstate(invalid="ignore"):
            same = (own_depth == depth) | (np.abs(own_depth / depth - 1) < 1e-3)
        # What several surfaces share counts as neither.
        alone = scene.target_layer[pair].numpy().ravel() >= 0
        expected, seen = (there == layer) & same & (depth > 1e-3), ~hidden[pair].numpy().ravel()
        wrong.append((seen != expected)[alone])
        both = seen & expected & alone & _inside(position)
        flow = scene.flow[pair].numpy().reshape(-1, 2)
        errors.append(np.abs(flow - (position - _grid())).max(axis=1)[both])
        share.append(both)
    errors = np.concatenate(errors)
    assert np.mean(np.concatenate(wrong)) < 1e-3
    assert 0.2 < np.mean(share) < 0.9
    # Where hills hide each other, a step can miss a summit.
    assert (np.percentile(errors, 99.95) if relief else errors.max()) < 1e-3


def test_there_and_back_is_the_identity():
    """Where a target pixel's match lies, the source's camera sees what belongs at that pixel."""
    world, images, scene, hidden = _photographed(_config(relief=0.5))
    position = scene.flow.numpy() + _grid().reshape(_SIZE, _SIZE, 2).astype(np.float32)
    seen = look(world, images, 1, *tf.unstack(position, axis=-1), _SIZE)
    back, _, ahead = project(seen, world.cameras[0], _SIZE)
    visible = ~hidden.numpy() & _inside(position)
    assert ahead.numpy()[visible].all() and visible.mean() > 0.3
    error = np.abs(back - _grid().reshape(_SIZE, _SIZE, 2)).max(axis=-1)[visible]
    assert np.percentile(error, 99.9) < 1e-3 and error.max() < 0.5


def test_static_points_obey_the_relative_pose():
    config = _config(moving=0.0, relief=0.5)
    world, images, scene, _ = _photographed(config)
    grid = _grid().reshape(1, _SIZE, _SIZE, 2).astype(np.float32)
    position = np.repeat(grid, _PAIRS, axis=0)
    seen = look(world, images, 0, position[..., 0], position[..., 1], _SIZE)
    rotation, shift = (part.numpy()[:, None, None] for part in relative_pose(world))
    focal = [camera.focal.numpy()[:, None, None, None] for camera in world.cameras]
    ray = (position - (_SIZE - 1) / 2) / focal[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        point = (
            np.concatenate([ray, np.ones_like(ray[..., :1])], -1) / seen.nearness.numpy()[..., None]
        )
        there = (rotation @ point[..., None])[..., 0] + shift
        expected = there[..., :2] / there[..., 2:] * focal[1] + (_SIZE - 1) / 2
    known = (seen.layer.numpy() > 0) & _inside(expected) & (there[..., 2] > 0.05)
    assert known.mean() > 0.3
    error = np.abs(position + scene.flow - expected).max(axis=-1)[known]
    assert error.max() < 1e-3
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-5)


def _errors(pairs):
    warped = warping.bilinear(pairs["source"], pairs["flow"])
    error = np.abs(warped - pairs["target"]).max(axis=-1)
    return error[pairs["mask"].numpy() > 0]


def test_warped_source_is_the_target_where_visible():
    config = _config()
    pairs = make_pairs(*_parts(config), config, 1.0)
    errors = _errors(pairs)
    assert errors.mean() < 1.5 and np.percentile(errors, 99) < 8
    wrong = _errors(pairs | {"flow": pairs["flow"] + [1.0, 0.0]})
    assert wrong.mean() > 4 * errors.mean()
    assert np.all(pairs["mask"] * pairs["unmatched"] == 0)
    assert np.mean(pairs["mask"] + pairs["unmatched"]) > 0.85


def test_without_strength_both_images_are_the_same():
    config = _config()
    pairs = make_pairs(*_parts(config), config, 0.0)
    np.testing.assert_allclose(pairs["flow"], 0, atol=2e-3)
    assert np.mean(np.abs(pairs["source"] - pairs["target"]) > 0.1) < 1e-3
    inner = np.s_[:, 1:-1, 1:-1]
    assert np.mean(pairs["mask"][inner]) > 0.9 and np.mean(pairs["unmatched"][inner]) < 2e-3


def test_worlds_and_warps_are_chosen_by_the_seed_alone():
    config = _config(share=0.5)
    photos, cutouts, seeds = _parts(config)
    mixed = make_pairs(photos, cutouts, seeds, config, 1.0)
    without = _config(share=0.0)
    warps = make_pairs(photos[:, 0], cutouts, seeds, without, 1.0)
    worlds = make_pairs(photos, cutouts, seeds, _config(share=1.0), 1.0)
    chosen = [np.array_equal(a, b) for a, b in zip(mixed["flow"], worlds["flow"], strict=True)]
    assert 0 < sum(chosen) < _PAIRS
    for i, world in enumerate(chosen):
        for name, value in mixed.items():
            np.testing.assert_array_equal(value[i], (worlds if world else warps)[name][i])
    alone = make_pairs(photos[2:3], cutouts[2:3], seeds[2:3], config, 1.0)
    np.testing.assert_allclose(alone["flow"][0], mixed["flow"][2], atol=1e-2)


def test_no_share_makes_no_world(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("no world was asked for")

    monkeypatch.setattr("tfdense.data.assembly.world_scene", refuse)
    config = _config(share=0.0)
    photos, cutouts, seeds = _parts(config)
    several = make_pairs(photos, cutouts, seeds, config, 1.0)
    plain = dataclasses.replace(config, worlds=WorldsConfig())
    for name, value in make_pairs(photos[:, 0], cutouts, seeds, plain, 1.0).items():
        np.testing.assert_array_equal(several[name], value)


def test_worlds_are_the_same_compiled():
    config = dataclasses.replace(_config(share=0.7), size=32)
    parts = _parts(config, 3)
    compiled = tf.function(make_pairs, jit_compile=True, autograph=False)(*parts, config, 0.8)
    plain = make_pairs(*parts, config, 0.8)
    visible = (compiled["mask"] * plain["mask"]).numpy() > 0
    np.testing.assert_allclose(compiled["flow"][visible], plain["flow"][visible], atol=1e-3)
    for name in ("mask", "unmatched"):
        assert np.mean(compiled[name] != plain[name]) < 2e-3
    for name in ("source", "target"):
        assert np.mean(np.abs(compiled[name] - plain[name]) > 0.1) < 2e-3


def test_worlds_need_neither_objects_nor_other_photos():
    config = dataclasses.replace(_config(), objects=ObjectConfig(probability=0.0))
    photos, cutouts, seeds = _parts(config, 2)
    assert cutouts.shape[1] == 0
    pairs = make_pairs(photos[:, 0], cutouts, seeds, config, 1.0)
    assert np.all(np.isfinite(pairs["flow"])) and np.mean(pairs["mask"]) > 0.2


def test_canvases_hold_several_photos(tmp_path):
    for i in range(3):
        write_image(tmp_path / f"{i}.png", _photo(48, i))
    paths = sorted(tmp_path.iterdir())
    config = dataclasses.replace(_config(photos=4), size=32)
    photos, cutouts = Canvases(paths, config).load(1, pair_seed(0, 0, 0))
    one, same = Canvases(paths, dataclasses.replace(config, worlds=WorldsConfig())).load(
        1, pair_seed(0, 0, 0)
    )
    assert photos.shape == (4, 48, 48, 3)
    np.testing.assert_array_equal(photos[0], one)
    np.testing.assert_array_equal(cutouts, same)
    assert len({photo.tobytes() for photo in photos}) > 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{shair: 1}", r"data\.worlds\.shair \(did you mean share\?\)"),
        ("{share: 1.5}", r"data\.worlds\.share .*less than or equal to 1, received 1\.5"),
        ("{baseline: [60, 5]}", r"data\.worlds\.baseline .*\(smallest, largest\)"),
        ("{baseline: [0, 5]}", r"data\.worlds\.baseline.* greater than 0, received 0"),
        ("{zoom: [0, 3]}", r"data\.worlds\.zoom.* than or equal to 0\.05, received 0"),
        ("{tilt: 90}", r"data\.worlds\.tilt .*less than 90, received 90"),
        ("{relief_height: [0.1, 0.9]}", r"data\.worlds\.relief_height.* received 0\.9"),
        ("{photos: 0}", r"data\.worlds\.photos .*received 0"),
        ("{surfaces: [0, 2]}", r"data\.worlds\.surfaces.* received 0"),
    ],
)
def test_what_makes_no_world_is_refused(tmp_path, content, message):
    path = tmp_path / "experiment.yaml"
    path.write_text(f"data: {{worlds: {content}}}")
    with pytest.raises(InputError, match=message):
        load_config(path)
