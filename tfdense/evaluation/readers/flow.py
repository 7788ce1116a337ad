"""Pairs whose ground truth is a dense flow, stored in a file of its own."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfdense.evaluation.pairs import EvaluationPair, dense_pair
from tfdense.evaluation.readers.folders import read_source_and_target
from tfdense.evaluation.readers.protocols import pad_alike
from tfdense.evaluation.truth_files import read_flow_file, read_raw
from tfdense.images import read_image

# Of the longer side of the source, what TSS counts as right.
_TSS_TOLERANCE = 0.05


def stored_flow_pairs(folder: Path) -> Iterator[EvaluationPair]:
    """Yields the pairs of folders with a file of the flow, at the target's pixels."""
    for path in sorted(folder.glob("*/flow.*")):
        images = read_source_and_target(path.parent)
        yield dense_pair(path.parent.name, *images, *read_flow_file(path))


def middlebury_flow_pairs(folder: Path) -> Iterator[EvaluationPair]:
    """Yields the pairs of Middlebury's flow scenes: frame 10 is the target, frame 11 the source."""
    for path in sorted(folder.glob("*/flow10.flo")):
        source, target = (read_image(path.with_name(f"frame{n}.png")) for n in (11, 10))
        yield dense_pair(path.parent.name, source, target, *read_flow_file(path))


def sintel_pairs(folder: Path, rendering: str) -> Iterator[EvaluationPair]:
    """Yields the pairs of MPI-Sintel's training scenes: frame t is the target, t + 1 the source.

    Occluded pixels count, invalid ones do not. AEPE and PCK are published over all pixels of the
    data set.
    """
    for path in sorted(folder.glob("flow/*/frame_*.flo")):
        scene = path.parent.name
        yield _sintel_pair(scene, folder / rendering / scene, path, [folder / "invalid" / scene])


def sintel_sample_pairs(folder: Path) -> Iterator[EvaluationPair]:
    """Yields the pairs of Sintel's scenes as OpenCV's samples store them; occlusions do not count.

    The order in time is that of `sintel_pairs`.
    """
    for path in sorted(folder.glob("*/gt/frame_*.flo")):
        scene = path.parent.parent
        masks = [path.parent / name for name in ("invalid", "occlusions")]
        yield _sintel_pair(scene.name, scene, path, masks)


def _sintel_pair(scene: str, frames: Path, path: Path, masks: list[Path]) -> EvaluationPair:
    number = int(path.stem.removeprefix("frame_"))
    source = read_image(frames / f"frame_{number + 1:04d}.png")
    target = read_image(frames / f"{path.stem}.png")
    unusable = np.any([read_raw(folder / f"{path.stem}.png") > 0 for folder in masks], axis=0)
    flow, known = read_flow_file(path)
    return dense_pair(f"{scene}-{number}", source, target, flow, known & ~unusable)


def kitti_pairs(folder: Path, images: str) -> Iterator[EvaluationPair]:
    """Yields the pairs of KITTI's training set: frame 10 is the target, frame 11 the source.

    Occluded pixels count. AEPE is published as a mean over pairs, Fl over all pixels.

    Args:
        folder: the training folder.
        images: name of the folder of the left colour images.
    """
    for path in sorted(folder.glob("flow_occ/*_10.png")):
        number = path.stem.removesuffix("_10")
        source, target = (read_image(folder / images / f"{number}_{n}.png") for n in (11, 10))
        yield dense_pair(number, source, target, *read_flow_file(path))


def tss_pairs(folder: Path) -> Iterator[EvaluationPair]:
    """Yields the pairs of TSS (Taniai et al., CVPR 2016), each in both directions.

    ``flowN.flo`` lies on image N, the target, and leads into the other. What counts is the
    foreground, ``maskN.png``. The published PCK is the mean over pairs of the share of errors of at
    most 0.05 of the source's longer side, measured before the images are padded to a common size.
    Where a pair shows its objects mirrored, it stays so: figures of methods that try both ways are
    not comparable.
    """
    for path in sorted(folder.glob("*/*/flow[12].flo")):
        number = int(path.stem[-1])
        source, target = (read_image(path.with_name(f"image{n}.png")) for n in (3 - number, number))
        foreground = read_raw(path.with_name(f"mask{number}.png"))
        foreground = foreground.reshape(*foreground.shape[:2], -1)[..., 0] >= 128
        flow, known = read_flow_file(path)
        name = f"{path.parent.parent.name}-{path.parent.name}-{number}"
        pair = dense_pair(name, source, target, flow, known & foreground)
        padded = pad_alike(source, target)
        yield dataclasses.replace(
            pair,
            source=padded[0],
            target=padded[1],
            tolerance=_TSS_TOLERANCE * max(source.shape[:2]),
        )
