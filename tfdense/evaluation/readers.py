"""Public data sets as pairs with ground truth, each read from the layout it is published in.

A reader takes the folder of the data set and yields an `EvaluationPair` after another. The target
is the image at whose pixels the ground truth is given.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.pairs import (
    EvaluationPair,
    dense_pair,
    homography_pair,
    resize,
    resize_matrix,
)
from tfdense.flow_files import read_flow
from tfdense.images import read_image
from tfdense.startup import import_tensorflow

_HPATCHES_SIDE = 240
# What a .flo file of Middlebury holds where the flow is unknown is larger than this.
_UNKNOWN = 1e9
# Of both of Middlebury's stereo pairs at a quarter of their size.
_DISPARITY_SCALE = 4.0
_SYNTHETIC_PAIRS, _SYNTHETIC_SEED = 100, 0


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
        rows = _read_numbers(path, "rows of target x, target y, source x, source y", columns=4)
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
        disparity = _read_raw(path)
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
    unusable = np.any([_read_raw(folder / f"{flow.stem}.png") > 0 for folder in masks], axis=0)
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


def _synthetic(folder: Path) -> Iterator[EvaluationPair]:
    # TensorFlow is loaded for this data set only.
    import_tensorflow()
    from tfdense.config import DataConfig
    from tfdense.data import validation_pairs

    config = DataConfig(validation_photos=str(folder))
    batches = validation_pairs(config, 1, _SYNTHETIC_PAIRS, _SYNTHETIC_SEED)
    for number, batch in enumerate(batches.as_numpy_iterator()):
        source, target = (np.round(batch[k][0]).astype(np.uint8) for k in ("source", "target"))
        yield dense_pair(str(number), source, target, batch["flow"][0], batch["mask"][0] > 0)


def read_homography(path: Path) -> np.ndarray:
    """Reads a homography [3, 3] from a text file: three rows of three numbers.

    Raises:
        InputError: if the file is missing or holds anything else.
    """
    matrix = _read_numbers(path, "a 3x3 homography", columns=3)
    if matrix.shape != (3, 3) or np.linalg.det(matrix) == 0:
        raise InputError(f"{path} holds no homography: expected 3 rows of 3, of full rank.")
    return matrix


def read_kitti_flow(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a flow of KITTI: a 16-bit PNG of 64 u + 2^15, 64 v + 2^15 and whether it is valid.

    Returns:
        The flow, float32 [height, width, 2] in px, and where it is valid, boolean [height, width].

    Raises:
        InputError: if the file is missing or is no such image.
    """
    values = _read_raw(path)
    if values.dtype != np.uint16 or values.ndim != 3:
        raise InputError(f"{path} is no flow of KITTI: expected a 16-bit PNG of three channels.")
    # OpenCV gives blue, green, red.
    flow = (values[..., :0:-1].astype(np.float32) - 2**15) / 64
    return flow, values[..., 0] > 0


def _source_and_target(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    source, target = (_only_image(folder, stem) for stem in ("source", "target"))
    return read_image(source), read_image(target)


def _only_image(folder: Path, stem: str) -> Path:
    return next(iter(sorted(folder.glob(f"{stem}.*"))), folder / f"{stem}.jpg")


def _read_raw(path: Path) -> np.ndarray:
    """Reads an image as it is stored, whatever its depth and channels."""
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise InputError(f"{path} is not an image that can be decoded.")
    return values


def _read_numbers(path: Path, content: str, columns: int) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        values = np.loadtxt(path, ndmin=2)
    except ValueError:
        values = np.empty((0, 0))
    if values.shape[1:] != (columns,) or not np.isfinite(values).all():
        raise InputError(f"Expected {path} to hold {content}, as text.")
    return values


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
    "synthetic": Dataset(_synthetic, "**/*", "any folder of photos"),
}
