"""MegaDepth as D2-Net preprocesses it: pairs of real photos with their matches.

A scene file NAME.npz (Dusmanu et al., arXiv 1905.03561) holds, for each of n images:
``image_paths`` and ``depth_paths`` (below one folder; None where there is no depth),
``intrinsics`` [3, 3] and ``poses`` [4, 4] (world to camera), ``points3D_id_to_2D`` (a dict from the
number of a reconstructed point to its position in the image), and for the pairs of them
``overlap_matrix`` [n, n]. A depth map is the dataset ``depth`` of an .h5 file, 0 where unknown.
Positions are COLMAP's: the centre of the first pixel is (0.5, 0.5). The scene files are pickles,
so open only those whose origin you trust.
"""

import functools
import logging
import threading
from pathlib import Path
from typing import NamedTuple

import cv2
import h5py
import numpy as np
import tensorflow as tf

from tfdense.data_config import MegaDepthConfig
from tfdense.errors import InputError
from tfdense.images import read_image

_LOG = logging.getLogger(__name__)

# Two depths of one point agree up to this share.
_DEPTH_TOLERANCE = 0.05

# What a scene file holds of the pairs, and of each image.
_OVERLAP = "overlap_matrix"
_VIEW = ("image_paths", "depth_paths", "intrinsics", "poses", "points3D_id_to_2D")

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
        """Gives a pair to a TensorFlow graph, see `load`."""
        names = ("source", "target", "flow", "mask")
        shape = (self._size, self._size)
        values = tf.numpy_function(
            lambda number: tuple(self.load(number)[name] for name in names),
            [number],
            [tf.float32] * 4,
            stateful=False,
        )
        shapes = [(*shape, 3), (*shape, 3), (*shape, 2), shape]
        return {n: tf.ensure_shape(v, s) for n, v, s in zip(names, values, shapes, strict=True)}

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


class View(NamedTuple):
    """One image of a scene.

    Attributes:
        image, depth: paths of the files.
        intrinsics: [3, 3].
        pose: [4, 4], world to camera.
        numbers: of the reconstructed points that it shows, int64 [n], sorted.
        positions: theirs, float32 [n, 2], (x, y).
    """

    image: str
    depth: str
    intrinsics: np.ndarray
    pose: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray


class Scene:
    """A scene file, of which the views are read when the first of them is asked for."""

    def __init__(self, path: Path):
        self.path = path
        self._views: list[View] | None = None
        self._lock = threading.Lock()

    def pairs(self, above: float, largest: float) -> np.ndarray:
        """Returns the pairs of images of which either overlap is in (above, largest], int [n, 2].

        Each is there once: its order is drawn later on.
        """
        (overlap,) = self._read(_OVERLAP)
        first, second = np.nonzero((overlap > above) & (overlap <= largest))
        return np.unique(np.sort(np.column_stack([first, second]), axis=1), axis=0)

    def view(self, index: int) -> View:
        """Returns one image."""
        with self._lock:
            if self._views is None:
                self._views = [_view(*values) for values in zip(*self._read(*_VIEW), strict=True)]
        return self._views[index]

    def _read(self, *names: str) -> list[np.ndarray]:
        try:
            with np.load(self.path, allow_pickle=True) as file:
                missing = {_OVERLAP, *_VIEW} - set(file.files)
                if missing:
                    raise ValueError(f"it has no {', '.join(sorted(missing))}")
                return [file[name] for name in names]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{self.path} is not a scene file as D2-Net preprocesses MegaDepth: {error}"
            ) from None


def scene_files(config: MegaDepthConfig) -> list[Path]:
    """Lists the scene files that a configuration names.

    Raises:
        InputError: if there are none, or one of the list is missing.
    """
    folder = Path(config.folder) / config.scenes
    if config.scene_list is None:
        paths = sorted(folder.glob("*.npz"))
    else:
        listed = Path(config.scene_list)
        if not listed.is_file():
            raise InputError(f"There is no list of scenes {listed}.")
        paths = [folder / f"{name}.npz" for name in listed.read_text().split()]
    if not paths:
        raise InputError(f"No scene files (.npz) of MegaDepth in {folder}.")
    for path in paths:
        if not path.is_file():
            raise InputError(f"There is no scene file {path}.")
    return paths


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


def _view(image, depth, intrinsics, pose, points) -> View:
    numbers = np.array(sorted(points or ()), np.int64)
    positions = np.array([points[number] for number in numbers], np.float32).reshape(-1, 2)
    return View(str(image), str(depth), intrinsics, pose, numbers, positions)


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
