"""MegaDepth as D2-Net preprocesses it: pairs of real photos with their matches.

See `tfdense.data.megadepth_scenes` for the files. A depth map is the dataset ``depth`` of an .h5
file, 0 where unknown. Positions are COLMAP's: the centre of the first pixel is (0.5, 0.5).
"""

import functools
import logging
from pathlib import Path

import cv2
import h5py
import numpy as np
import tensorflow as tf

from tfdense.data.megadepth_scenes import Scene, View, scene_files
from tfdense.data_config import MegaDepthConfig
from tfdense.errors import InputError
from tfdense.images import read_image

_LOG = logging.getLogger(__name__)

# Two depths of one point agree up to this share.
_DEPTH_TOLERANCE = 0.05

# What keeps the draws of epochs and of exchanges apart.
_EPOCH, _EXCHANGE = 0, 1


class MegaDepth:
    """The pairs of some scenes, in a new random order each epoch.

    Pair number i is a function of (seed, i) and the files. Scenes stay in memory once they were
    used: of all of MegaDepth, whose sparse matches are many, some GiB. A pair that cannot be read
    is named in a warning, and the next takes its place.

    Args:
        config: the files and the choice of pairs.
        size: height and width of the images of a pair, in pixels.
        seed: of every random choice.

    Raises:
        InputError: if there are no scene files, they are of another format, none of their pairs is
            in the range, or none can be read.
    """

    def __init__(self, config: MegaDepthConfig, size: int, seed: int):
        self._config = config
        self._size = size
        self._seed = seed
        self._scenes = [Scene(path) for path in scene_files(config)]
        self._pairs = [scene.pairs(*config.overlap) for scene in self._scenes]
        self._length = sum(min(len(pairs), config.pairs_per_scene) for pairs in self._pairs)
        if not self._length:
            raise InputError(
                f"No pair of the {len(self._scenes)} scenes overlaps by {config.overlap}."
            )
        self.epoch = functools.lru_cache(maxsize=2)(self._draw_epoch)
        self.load(0)

    def __len__(self) -> int:
        """Returns the number of pairs in an epoch."""
        return self._length

    def read(self, number) -> dict[str, tf.Tensor]:
        """Gives a pair to a TensorFlow graph, see `load`; nowhere is it known to be unmatched."""
        names = ("source", "target", "flow", "mask")
        shape = (self._size, self._size)
        values = tf.numpy_function(
            lambda number: tuple(self.load(number)[name] for name in names),
            [number],
            [tf.float32] * 4,
            stateful=False,
        )
        shapes = [(*shape, 3), (*shape, 3), (*shape, 2), shape]
        pair = {n: tf.ensure_shape(v, s) for n, v, s in zip(names, values, shapes, strict=True)}
        return {**pair, "unmatched": tf.zeros_like(pair["mask"])}

    def load(self, number: int) -> dict[str, np.ndarray]:
        """Returns a pair.

        Returns:
            dict: ``source``, ``target`` float32 [size, size, 3], 0..255; ``flow`` float32
            [size, size, 2]; ``mask`` float32 [size, size], 1 where the flow is ground truth.
        """
        epoch, place = divmod(int(number), self._length)
        for step in range(self._length):
            scene, first, second = self.epoch(epoch)[(place + step) % self._length]
            draw = np.random.default_rng([self._seed, _EXCHANGE, int(number)])
            source, target = (first, second) if draw.random() < 0.5 else (second, first)
            try:
                return self._load_pair(self._scenes[scene], source, target)
            except (InputError, OSError, KeyError) as error:
                _LOG.warning("Skipping a pair of %s: %s", self._scenes[scene].path, error)
        raise InputError(f"None of the {self._length} pairs of MegaDepth can be read.")

    def _draw_epoch(self, epoch: int) -> np.ndarray:
        """Returns (scene, image, image) of each pair of an epoch, int [len, 3]."""
        draw = np.random.default_rng([self._seed, _EPOCH, epoch])
        chosen = []
        for number, pairs in enumerate(self._pairs):
            count = min(len(pairs), self._config.pairs_per_scene)
            drawn = pairs[draw.permutation(len(pairs))[:count]]
            chosen.append(np.column_stack([np.full(count, number), drawn]))
        return draw.permutation(np.concatenate(chosen))

    def _load_pair(self, scene: "Scene", source: int, target: int) -> dict[str, np.ndarray]:
        folder = Path(self._config.folder)
        images = [read_image(folder / scene.view(index).image) for index in (source, target)]
        padded = tuple(np.max([image.shape[:2] for image in images], axis=0))
        if self._config.ground_truth == "sparse":
            matches = sparse_matches(scene.view(source), scene.view(target))
        else:
            depths = [_read_depth(folder / scene.view(i).depth) for i in (source, target)]
            grid = _grid(padded, self._size)
            matches = depth_matches(scene.view(source), scene.view(target), *depths, grid)
        sizes = [image.shape[:2] for image in images]
        flow, mask = scatter(*matches, sizes, padded, self._size)
        source_image, target_image = (_fit(image, padded, self._size) for image in images)
        return {"source": source_image, "target": target_image, "flow": flow, "mask": mask}


def sparse_matches(source: View, target: View) -> tuple[np.ndarray, np.ndarray]:
    """Returns where both images show the same reconstructed points.

    Returns:
        Positions in the target and in the source, float [n, 2] each.
    """
    _, in_source, in_target = np.intersect1d(
        source.numbers, target.numbers, assume_unique=True, return_indices=True
    )
    return target.positions[in_target], source.positions[in_source]


def depth_matches(
    source: View, target: View, source_depth, target_depth, positions
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the matches of positions in the target by its depth.

    A match counts if both depths are known there and agree within 5 percent, so that what is hidden
    in the source is left out.

    Args:
        source, target: the images.
        source_depth, target_depth: [height, width] each, along the optical axis.
        positions: in the target, [n, 2].

    Returns:
        Positions in the target and in the source, float [m, 2] each.
    """
    depth = _look_up(target_depth, positions)
    positions, depth = positions[depth > 0], depth[depth > 0]
    rays = _homogeneous(positions) @ np.linalg.inv(target.intrinsics).T
    between = source.pose @ np.linalg.inv(target.pose)
    points = _homogeneous(rays * depth[:, None]) @ between[:3].T
    front = points[:, 2] > 0
    positions, points = positions[front], points[front]
    projected = points @ source.intrinsics.T
    projected = projected[:, :2] / projected[:, 2:]
    expected = _look_up(source_depth, projected)
    agree = (expected > 0) & (np.abs(points[:, 2] - expected) <= _DEPTH_TOLERANCE * expected)
    return positions[agree], projected[agree]


def scatter(target, source, sizes, padded, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Turns matches into a flow and its mask.

    The padded images are stretched to `size`. The pixel nearest to a match in the target holds the
    difference of the exact positions; of several matches there the last one counts.

    Args:
        target, source: positions, [n, 2] each, in the images as they are.
        sizes: (height, width) of the source and of the target.
        padded: (height, width) that both are padded to.
        size: height and width of the result.

    Returns:
        flow float32 [size, size, 2], mask float32 [size, size].
    """
    within = np.ones(len(target), bool)
    for positions, (height, width) in zip((source, target), sizes, strict=True):
        within &= ((positions >= 0) & (positions < [width, height])).all(axis=1)
    scale = size / np.array([padded[1], padded[0]])
    target, source = (positions[within] * scale - 0.5 for positions in (target, source))
    x, y = np.clip(np.rint(target), 0, size - 1).astype(int).T
    flow, mask = np.zeros([size, size, 2], np.float32), np.zeros([size, size], np.float32)
    flow[y, x], mask[y, x] = source - target, 1.0
    return flow, mask


def _read_depth(path: Path) -> np.ndarray:
    with h5py.File(path, "r") as file:
        return file["depth"][()]


def _fit(image: np.ndarray, padded, size: int) -> np.ndarray:
    """Pads with black at the bottom and the right, and stretches to a square."""
    canvas = np.zeros([*padded, 3], np.float32)
    canvas[: image.shape[0], : image.shape[1]] = image
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_LINEAR)


def _grid(padded, size: int) -> np.ndarray:
    """Returns where the pixels of the result lie in the padded image, [size * size, 2]."""
    x, y = np.meshgrid(*[(np.arange(size) + 0.5) * side / size for side in padded[::-1]])
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def _look_up(depth: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Returns the depth of the pixels at some positions, 0 outside."""
    height, width = depth.shape
    # Positions far out, which need not fit an integer, are outside too.
    x, y = np.floor(np.clip(positions, -1, max(height, width))).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return np.where(inside, depth[np.where(inside, y, 0), np.where(inside, x, 0)], 0.0)


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones_like(points[:, :1])], axis=-1)
