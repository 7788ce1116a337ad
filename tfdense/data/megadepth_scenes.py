"""The scene files of MegaDepth as D2-Net preprocesses it, and which of them are taken.

A scene file NAME.npz (Dusmanu et al., arXiv 1905.03561) holds, for each of n images:
``image_paths`` and ``depth_paths`` (below one folder; None where there is no depth),
``intrinsics`` [3, 3] and ``poses`` [4, 4] (world to camera), ``points3D_id_to_2D`` (a dict from the
number of a reconstructed point to its position in the image), and for the pairs of them
``overlap_matrix`` [n, n]. The files hold pickles, of which nothing is called but what makes
NumPy's arrays, see `tfdense.numpy_files`.
"""

import dataclasses
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdense.data_config import MegaDepthConfig
from tfdense.errors import InputError
from tfdense.numpy_files import read_arrays

# What a scene file holds of the pairs, and of each image.
_OVERLAP = "overlap_matrix"
_VIEW = ("image_paths", "depth_paths", "intrinsics", "poses", "points3D_id_to_2D")


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
            beside = (_OVERLAP, *_VIEW)
            return [*read_arrays(self.path, *names, objects=True, beside=beside).values()]
        except InputError as error:
            raise InputError(
                f"{self.path} is not a scene file as D2-Net preprocesses MegaDepth: {error}"
            ) from None


def scene_files(config: MegaDepthConfig) -> list[Path]:
    """Lists the scene files that a configuration names.

    Raises:
        InputError: if there are none, one of the list is missing, or it is to be validated on.
    """
    folder = Path(config.folder) / config.scenes
    reserved = _read_list(config.validation_scene_list)
    names = _read_list(config.scene_list)
    if both := sorted(set(names) & set(reserved)):
        raise InputError(
            f"Expected other scenes to validate on than to train on. Received: {', '.join(both)}"
        )
    if config.scene_list is None:
        names = sorted({path.stem for path in folder.glob("*.npz")} - set(reserved))
    paths = [folder / f"{name}.npz" for name in names]
    if not paths:
        raise InputError(f"No scene files (.npz) of MegaDepth in {folder}.")
    for path in paths:
        if not path.is_file():
            raise InputError(f"There is no scene file {path}.")
    return paths


def held_out(config: MegaDepthConfig) -> MegaDepthConfig:
    """Returns the configuration of the pairs to validate on.

    Raises:
        InputError: as `scene_files` does, also of those to train on.
    """
    scene_files(config)
    return dataclasses.replace(
        config,
        scene_list=config.validation_scene_list,
        validation_scene_list=None,
        pairs_per_scene=config.validation_pairs_per_scene,
    )


def _read_list(path: str | None) -> list[str]:
    if path is None:
        return []
    if not Path(path).is_file():
        raise InputError(f"There is no list of scenes {path}.")
    return Path(path).read_text().split()


def _view(image, depth, intrinsics, pose, points) -> View:
    numbers = np.array(sorted(points or ()), np.int64)
    positions = np.array([points[number] for number in numbers], np.float32).reshape(-1, 2)
    return View(str(image), str(depth), intrinsics, pose, numbers, positions)
