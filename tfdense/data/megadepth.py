"""MegaDepth as D2-Net preprocesses it: pairs of real photos with their matches.

See `tfdense.data.megadepth_scenes` for the files. A depth map is the dataset ``depth`` of an .h5
file, 0 where unknown. Positions are COLMAP's: the centre of the first pixel is (0.5, 0.5).
"""

from pathlib import Path

import cv2
import h5py
import numpy as np

from tfdense.data.megadepth_scenes import Scene, View, scene_files
from tfdense.data.real_pairs import RealPairs, scatter
from tfdense.data_config import MegaDepthConfig
from tfdense.errors import InputError
from tfdense.images import read_image

# Two depths of one point agree up to this share.
_DEPTH_TOLERANCE = 0.05


class MegaDepth(RealPairs):
    """The pairs of some scenes; nowhere is one known to be unmatched.

    Scenes stay in memory once they were used: of all of MegaDepth, whose sparse matches are many,
    some GiB.

    Args:
        config: the files and the choice of pairs.
        size: height and width of the images of a pair, in pixels.
        seed: of every random choice.

    Raises:
        InputError: if there are no scene files, they are of another format, none of their pairs is
            in the range, or none can be read.
    """

    _name = "MegaDepth"

    def __init__(self, config: MegaDepthConfig, size: int, seed: int):
        self._config = config
        self._scenes = [Scene(path) for path in scene_files(config)]
        self._pairs = [scene.pairs(*config.overlap) for scene in self._scenes]
        length = sum(min(len(pairs), config.pairs_per_scene) for pairs in self._pairs)
        if not length:
            raise InputError(
                f"No pair of the {len(self._scenes)} scenes overlaps by {config.overlap}."
            )
        super().__init__(length, size, seed)
        self.load(0)

    def _origin(self, pair) -> Path:
        return self._scenes[pair[0]].path

    def _draw_epoch(self, draw: np.random.Generator) -> np.ndarray:
        """Returns (scene, image, image) of each pair of an epoch, int [len, 3]."""
        chosen = []
        for number, pairs in enumerate(self._pairs):
            count = min(len(pairs), self._config.pairs_per_scene)
            drawn = pairs[draw.permutation(len(pairs))[:count]]
            chosen.append(np.column_stack([np.full(count, number), drawn]))
        return draw.permutation(np.concatenate(chosen))

    def _load_pair(self, pair, draw: np.random.Generator) -> dict[str, np.ndarray]:
        number, first, second = pair
        source, target = (second, first) if draw.random() >= 0.5 else (first, second)
        folder, scene = Path(self._config.folder), self._scenes[number]
        images = [read_image(folder / scene.view(index).image) for index in (source, target)]
        padded = tuple(np.max([image.shape[:2] for image in images], axis=0))
        if self._config.ground_truth == "sparse":
            matches = sparse_matches(scene.view(source), scene.view(target))
        else:
            depths = [_read_depth(folder / scene.view(i).depth) for i in (source, target)]
            grid = _grid(padded, self._size)
            matches = depth_matches(scene.view(source), scene.view(target), *depths, grid)
        sizes = [image.shape[:2] for image in images]
        flow, mask = stretched(*matches, sizes, padded, self._size)
        source_image, target_image = (_fit(image, padded, self._size) for image in images)
        return {
            "source": source_image,
            "target": target_image,
            "flow": flow,
            "mask": mask,
            "unmatched": np.zeros_like(mask),
        }


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


def stretched(target, source, sizes, padded, size: int) -> tuple[np.ndarray, np.ndarray]:
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
    return scatter(target, source - target, size)


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
