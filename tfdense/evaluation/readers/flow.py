"""Pairs whose ground truth is a dense flow, stored in a file of its own."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.pairs import EvaluationPair, UnreadPair, dense_pair
from tfdense.evaluation.readers.folders import (
    file_in,
    find_files,
    pair_folders,
    read_source_and_target,
)
from tfdense.evaluation.readers.protocols import pad_alike
from tfdense.evaluation.truth_files import FLOW_SUFFIXES, is_kitti_flow, read_flow_file, read_raw
from tfdense.images import read_image

# Of the longer side of the source, what TSS counts as right.
_TSS_TOLERANCE = 0.05
_SINTEL_FLOW = "frame_[0-9][0-9][0-9][0-9].flo"


def stored_flow_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields the pairs of folders with a file of the flow, at the target's pixels."""
    for pair in pair_folders(folder, "flow.*"):
        yield UnreadPair(pair.name, partial(_stored_flow_pair, pair))


def _stored_flow_pair(folder: Path) -> EvaluationPair:
    flow, known = read_flow_file(_true_flow(folder))
    for valid in find_files(folder, "valid.*"):
        if valid.suffix.lower() != ".png":
            raise InputError(f"Expected {folder / 'valid.png'}. Received: {valid.name}")
        known = known & read_mask(valid, known.shape, 1)
    return dense_pair(folder.name, *read_source_and_target(folder), flow, known)


def _true_flow(folder: Path) -> Path:
    """Finds the ground truth; `tfdense match` may have left its picture flow.png beside it."""
    candidates = [
        path
        for path in find_files(folder, "flow.*")
        if path.suffix.lower() in FLOW_SUFFIXES
        and (path.suffix.lower() != ".png" or is_kitti_flow(path))
    ]
    if len(candidates) != 1:
        names = ", ".join(path.name for path in candidates or find_files(folder, "flow.*"))
        raise InputError(
            f"Expected one flow as ground truth in {folder}: flow.flo, .flo5, .pfm, .npy or .png "
            f"(16 bits in three channels, as KITTI's). Received: {names or 'none'}."
        )
    return candidates[0]


def middlebury_flow_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields the pairs of Middlebury's flow scenes: frame 10 is the target, frame 11 the source."""
    for path in find_files(folder, "*/flow10.flo"):
        frames = [file_in(path.parent, f"frame{n}.png") for n in (11, 10)]
        yield UnreadPair(path.parent.name, partial(frame_pair, path.parent.name, *frames, path))


def frame_pair(name: str, source: Path, target: Path, flow: Path) -> EvaluationPair:
    """Reads a pair of which each part is a file."""
    return dense_pair(name, read_image(source), read_image(target), *read_flow_file(flow))


def sintel_pairs(folder: Path, rendering: str) -> Iterator[UnreadPair]:
    """Yields the pairs of MPI-Sintel's training scenes: frame t is the target, t + 1 the source.

    Occluded pixels count, invalid ones do not. AEPE and PCK are published over all pixels of the
    data set.
    """
    for path in find_files(folder, f"flow/*/{_SINTEL_FLOW}"):
        scene = path.parent.name
        yield _sintel_pair(scene, folder / rendering / scene, path, [folder / "invalid" / scene])


def sintel_sample_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields the pairs of Sintel's scenes as OpenCV's samples store them; occlusions do not count.

    The order in time is that of `sintel_pairs`.
    """
    for path in find_files(folder, f"*/gt/{_SINTEL_FLOW}"):
        scene = path.parent.parent
        masks = [path.parent / name for name in ("invalid", "occlusions")]
        yield _sintel_pair(scene.name, scene, path, masks)


def _sintel_pair(scene: str, frames: Path, path: Path, masks: list[Path]) -> UnreadPair:
    number = int(path.stem.removeprefix("frame_"))
    name = f"{scene}-{number}"

    def read() -> EvaluationPair:
        numbers = number + 1, number
        source, target = (read_image(file_in(frames, f"frame_{n:04d}.png")) for n in numbers)
        flow, known = read_flow_file(path)
        for folder in masks:
            known = known & ~read_mask(file_in(folder, f"{path.stem}.png"), known.shape, 1)
        return dense_pair(name, source, target, flow, known)

    return UnreadPair(name, read, scene)


def read_mask(path: Path, shape: tuple[int, int], least: int) -> np.ndarray:
    """Returns where any colour of an image reaches a value, boolean, of that shape."""
    values = read_raw(path)
    if values.shape[:2] != shape:
        raise InputError(
            f"Expected {path} to have {shape[1]}x{shape[0]} px, as the flow has. "
            f"Received: {values.shape[1]}x{values.shape[0]}."
        )
    values = values.reshape(*shape, -1)
    colours = 3 if values.shape[-1] > 2 else 1
    return (values[..., :colours] >= least).any(axis=-1)


def kitti_pairs(folder: Path, images: str) -> Iterator[UnreadPair]:
    """Yields the pairs of KITTI's training set: frame 10 is the target, frame 11 the source.

    Occluded pixels count. AEPE is published as a mean over pairs, Fl over all pixels.

    Args:
        folder: the training folder.
        images: name of the folder of the left colour images.
    """
    for path in find_files(folder, "flow_occ/*_10.png"):
        number = path.stem.removesuffix("_10")
        frames = [file_in(folder / images, f"{number}_{n}.png") for n in (11, 10)]
        yield UnreadPair(number, partial(frame_pair, number, *frames, path))


def tss_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields the pairs of TSS (Taniai et al., CVPR 2016), each in both directions.

    ``flowN.flo`` lies on image N, the target, and leads into the other. What counts is the
    foreground, ``maskN.png``. The published PCK is the mean over pairs of the share of errors of at
    most 0.05 of the source's longer side, measured before the images are padded to a common size.
    Where a pair shows its objects mirrored, it stays so: figures of methods that try both ways are
    not comparable.
    """
    for path in find_files(folder, "*/*/flow[12].flo"):
        name = f"{path.parent.parent.name}-{path.parent.name}-{path.stem[-1]}"
        yield UnreadPair(name, partial(_tss_pair, name, path))


def _tss_pair(name: str, path: Path) -> EvaluationPair:
    number = int(path.stem[-1])
    source, target = (
        read_image(file_in(path.parent, f"image{n}.png")) for n in (3 - number, number)
    )
    flow, known = read_flow_file(path)
    foreground = read_mask(file_in(path.parent, f"mask{number}.png"), known.shape, 128)
    pair = dense_pair(name, source, target, flow, known & foreground)
    padded = pad_alike(source, target)
    return dataclasses.replace(
        pair,
        source=padded[0],
        target=padded[1],
        tolerance=_TSS_TOLERANCE * max(source.shape[:2]),
    )
