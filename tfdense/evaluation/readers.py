"""Public data sets as pairs with ground truth, each read from the layout it is published in.

A reader takes the folder of the data set and yields an `EvaluationPair` after another. The target
is the image at whose pixels the ground truth is given.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.pairs import (
    Cameras,
    EvaluationPair,
    dense_pair,
    homography_pair,
    resize,
    resize_matrix,
)
from tfdense.evaluation.photo_pairs import synthetic_pairs, unrelated_pairs
from tfdense.evaluation.truth_files import (
    read_homography,
    read_kitti_flow,
    read_numbers,
    read_raw,
)
from tfdense.flow_files import read_flow
from tfdense.images import SUFFIXES, read_image

_HPATCHES_SIDE = 240
# Views of a scene are paired with as many of the following ones.
_FOLLOWING_VIEWS = 3
# What a .flo file of Middlebury holds where the flow is unknown is larger than this.
_UNKNOWN = 1e9
# Of both of Middlebury's stereo pairs at a quarter of their size.
_DISPARITY_SCALE = 4.0


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set's reader and what it expects.

    Attributes:
        read: yields the pairs below a folder.
        marker: a pattern, relative to the folder, of which at least one file exists.
        layout: of the folder, for people.
    """

    read: Callable[[Path], Iterator[EvaluationPair]]
    marker: str
    layout: str


def read_pairs(name: str, folder: str | Path) -> Iterator[EvaluationPair]:
    """Checks the folder of a data set and reads it.

    Args:
        name: a key of `DATASETS`.
        folder: where the data set is.

    Returns:
        An iterator over the pairs, in a fixed order; each is read when its turn comes.

    Raises:
        InputError: if there is no such data set, the folder has another layout, or, while
            iterating, a file is missing or broken.
    """
    if name not in DATASETS:
        raise InputError(f"There is no data set {name!r}. Expected one of {', '.join(DATASETS)}.")
    dataset, folder = DATASETS[name], Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Expected {dataset.layout}.")
    if not any(folder.glob(dataset.marker)):
        raise InputError(
            f"{folder} holds no {dataset.marker}. Expected for {name}: {dataset.layout}."
        )
    return dataset.read(folder)


def _homography(folder: Path) -> Iterator[EvaluationPair]:
    for path in sorted(folder.glob("*/H_target_to_source.txt")):
        source, target = _source_and_target(path.parent)
        yield homography_pair(path.parent.name, source, target, read_homography(path))


def _points(folder: Path) -> Iterator[EvaluationPair]:
    for path in sorted(folder.glob("*/points.txt")):
        rows = read_numbers(path, "rows of target x, target y, source x, source y", columns=4)
        source, target = _source_and_target(path.parent)
        flow = rows[:, 2:] - rows[:, :2]
        yield EvaluationPair(path.parent.name, source, target, rows[:, :2], flow)


def _middlebury_flow(folder: Path) -> Iterator[EvaluationPair]:
    for path in sorted(folder.glob("*/flow10.flo")):
        source, target = (read_image(path.with_name(f"frame{n}.png")) for n in (11, 10))
        flow = read_flow(path)
        known = (np.abs(flow) < _UNKNOWN).all(axis=-1)
        yield dense_pair(path.parent.name, source, target, flow, known)


def _middlebury_stereo(folder: Path) -> Iterator[EvaluationPair]:
    for path in sorted(folder.glob("*/disp2.png")):
        source, target = (read_image(path.with_name(f"im{n}.png")) for n in (6, 2))
        disparity = read_raw(path)
        flow = np.stack([disparity / -_DISPARITY_SCALE, np.zeros(disparity.shape)], axis=-1)
        yield dense_pair(path.parent.name, source, target, flow, disparity > 0)


def _sintel(rendering: str) -> Callable[[Path], Iterator[EvaluationPair]]:
    def read(folder: Path) -> Iterator[EvaluationPair]:
        for path in sorted(folder.glob("flow/*/frame_*.flo")):
            scene = path.parent.name
            masks = [folder / "invalid" / scene]
            yield _sintel_pair(scene, folder / rendering / scene, path, masks)

    return read


def _sintel_sample(folder: Path) -> Iterator[EvaluationPair]:
    for path in sorted(folder.glob("*/gt/frame_*.flo")):
        scene = path.parent.parent
        masks = [path.parent / name for name in ("invalid", "occlusions")]
        yield _sintel_pair(scene.name, scene, path, masks)


def _sintel_pair(scene: str, frames: Path, flow: Path, masks: list[Path]) -> EvaluationPair:
    number = int(flow.stem.removeprefix("frame_"))
    source = read_image(frames / f"frame_{number + 1:04d}.png")
    target = read_image(frames / f"{flow.stem}.png")
    unusable = np.any([read_raw(folder / f"{flow.stem}.png") > 0 for folder in masks], axis=0)
    return dense_pair(f"{scene}-{number}", source, target, read_flow(flow), ~unusable)


def _hpatches(side: int | None) -> Callable[[Path], Iterator[EvaluationPair]]:
    def read(folder: Path) -> Iterator[EvaluationPair]:
        for scene in sorted(path.parent for path in folder.glob("v_*/1.ppm")):
            source = read_image(scene / "1.ppm")
            for k in range(2, 7):
                target = read_image(scene / f"{k}.ppm")
                size = target.shape[:2] if side is None else (side, side)
                # The file maps image 1, the source, to image k.
                homography = np.linalg.inv(read_homography(scene / f"H_1_{k}"))
                homography = (
                    resize_matrix(source.shape, size)
                    @ homography
                    @ np.linalg.inv(resize_matrix(target.shape, size))
                )
                images = resize(source, size), resize(target, size)
                yield homography_pair(f"{scene.name}-{k}", *images, homography)

    return read


def _kitti(images: str) -> Callable[[Path], Iterator[EvaluationPair]]:
    def read(folder: Path) -> Iterator[EvaluationPair]:
        for path in sorted(folder.glob("flow_occ/*_10.png")):
            number = path.stem.removesuffix("_10")
            source, target = (read_image(folder / images / f"{number}_{n}.png") for n in (11, 10))
            yield dense_pair(number, source, target, *read_kitti_flow(path))

    return read


def _cameras(folder: Path) -> Iterator[EvaluationPair]:
    for scene in sorted({path.parent for path in folder.glob("*/*.camera.txt")}):
        views = sorted(path.name.split(".")[0] for path in scene.glob("*.camera.txt"))
        for index, first in enumerate(views):
            for second in views[index + 1 : index + 1 + _FOLLOWING_VIEWS]:
                images = (read_image(_only_image(scene, view)) for view in (first, second))
                cameras = _relative_cameras(scene, first, second)
                nothing = np.empty((0, 2))
                name = f"{scene.name}-{first}-{second}"
                yield EvaluationPair(name, *images, nothing, nothing, cameras=cameras)


def _relative_cameras(scene: Path, source: str, target: str) -> Cameras:
    content = "three rows of K, three of R and one of C"
    rows = [
        read_numbers(scene / f"{view}.camera.txt", content, columns=3) for view in (source, target)
    ]
    if any(len(values) != 7 for values in rows):
        raise InputError(f"Expected the .camera.txt files of {scene} to hold {content}, as text.")
    (k_source, r_source, c_source), (k_target, r_target, c_target) = (
        (values[:3], values[3:6], values[6]) for values in rows
    )
    # R and C take a point from the camera's coordinates to the world's: R X + C.
    return Cameras(k_source, k_target, r_target.T @ r_source, r_target.T @ (c_source - c_target))


def _source_and_target(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    source, target = (_only_image(folder, stem) for stem in ("source", "target"))
    return read_image(source), read_image(target)


def _only_image(folder: Path, stem: str) -> Path:
    images = (path for path in folder.glob(f"{stem}.*") if path.suffix.lower() in SUFFIXES)
    return min(images, default=folder / f"{stem}.jpg")


DATASETS = {
    "homography": Dataset(
        _homography,
        "*/H_target_to_source.txt",
        "PAIR/source.jpg, target.jpg (or .png), H_target_to_source.txt (3 rows of 3)",
    ),
    "points": Dataset(
        _points,
        "*/points.txt",
        "PAIR/source.jpg, target.jpg (or .png), points.txt (rows of target x, y, source x, y)",
    ),
    "middlebury-flow": Dataset(
        _middlebury_flow, "*/flow10.flo", "SCENE/frame10.png, frame11.png, flow10.flo"
    ),
    "middlebury-stereo": Dataset(
        _middlebury_stereo,
        "*/disp2.png",
        "SCENE/im2.png, im6.png, disp2.png (four times the disparity)",
    ),
    **{
        f"sintel-{rendering}": Dataset(
            _sintel(rendering),
            "flow/*/frame_*.flo",
            f"the training folder with {rendering}/SCENE/frame_NNNN.png, flow/SCENE/*.flo and "
            "invalid/SCENE/*.png",
        )
        for rendering in ("clean", "final")
    },
    "sintel-sample": Dataset(
        _sintel_sample,
        "*/gt/frame_*.flo",
        "SCENE/frame_NNNN.png and gt/frame_NNNN.flo, gt/invalid/frame_NNNN.png and "
        "gt/occlusions/frame_NNNN.png, which is left out too; as OpenCV's samples have it",
    ),
    **{
        name: Dataset(_hpatches(side), "v_*/1.ppm", "v_SCENE/1.ppm to 6.ppm and H_1_2 to H_1_6")
        for name, side in (("hpatches", None), ("hpatches-240", _HPATCHES_SIDE))
    },
    **{
        name: Dataset(
            _kitti(images),
            "flow_occ/*_10.png",
            f"the training folder with {images}/NNNNNN_10.png, NNNNNN_11.png and "
            "flow_occ/NNNNNN_10.png",
        )
        for name, images in (("kitti-2012", "colored_0"), ("kitti-2015", "image_2"))
    },
    "cameras": Dataset(
        _cameras,
        "*/*.camera.txt",
        "SCENE/VIEW.jpg (or .png) and VIEW.camera.txt (three rows of K, three of R, from camera to "
        "world, and the camera's centre)",
    ),
    "synthetic": Dataset(synthetic_pairs, "**/*", "any folder of photos"),
    "unrelated": Dataset(
        unrelated_pairs, "**/*", "any folder of photos that show different things"
    ),
}
