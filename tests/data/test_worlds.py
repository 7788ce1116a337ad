"""Worlds with depth, against an independent ray caster."""

import dataclasses
import functools

import cv2
import numpy as np
import pydantic
import pytest
import tensorflow as tf
from scipy import ndimage

from tfdense.data.canvases import MARGIN, canvas_side, cutout_count, cutout_side
from tfdense.data.pairs import make_pairs
from tfdense.data.worlds import (
    look,
    photograph,
    project,
    random_world,
    relative_pose,
    textures,
    world_scene,
)
from tfdense.data_config import (
    DataConfig,
    ObjectConfig,
    PhotometryConfig,
    WorldsConfig,
)
from tfdense.ops import warp

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
    discs = np.stack([_disc(cutout_side(config), i) for i in range(cutout_count(config))])
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
        return layer, depth, position, np.where(layer > 0, there[:, 2], np.sign(there[:, 2]) * np.inf)


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


@pytest.mark.parametrize("relief", [0.0, 1.0])
def test_flow_and_visibility_are_those_of_a_ray_caster(relief):
    config = _config(relief=relief, relief_height=(0.1, 0.2))
    photos, cutouts, _ = _parts(config)
    world = _world(config)
    scene, hidden = photograph(world, textures(photos, cutouts), _SIZE)
    errors, wrong, seen = [], [], []
    for pair in range(3 if relief else _PAIRS):
        caster = _RayCaster(world, cutouts, pair)
        layer, _, position, depth = caster.cast(0, _grid())
        there, own_depth, *_ = caster.cast(1, np.where(depth[:, None] > 0, position, 0))
        with np.errstate(invalid="ignore"):
            same = (own_depth == depth) | (np.abs(own_depth / depth - 1) < 1e-3)
        visible = (depth > 1e-3) & (there == layer) & same
        alone = scene.target_layer[pair].numpy().ravel() >= 0
        ours = ~hidden[pair].numpy().ravel()
        wrong.append((ours != visible)[alone])
        both = ours & visible & alone
        flow = scene.flow[pair].numpy().reshape(-1, 2)
        inside = ((position >= 0) & (position <= _SIZE - 1)).all(axis=1)
        errors.append(np.abs(flow - (position - _grid())).max(axis=1)[both & inside])
        seen.append(both & inside)
    print(np.concatenate(errors).max(), np.percentile(np.concatenate(errors),[99,99.9,99.99]), np.mean(np.concatenate(wrong)), [w.mean() for w in wrong], [s.mean() for s in seen])
    assert np.concatenate(errors).max() < 1e-3
    assert np.mean(np.concatenate(wrong)) < 1e-3
    assert 0.2 < np.mean(seen) < 0.9
