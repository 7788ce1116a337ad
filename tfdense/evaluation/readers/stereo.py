"""Rectified pairs whose ground truth is a disparity: the left image is the target."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.pairs import EvaluationPair, UnreadPair, dense_pair
from tfdense.evaluation.readers.folders import file_in, find_files
from tfdense.evaluation.truth_files import read_pfm, read_raw
from tfdense.images import read_image

# Of the scenes of 2003 at a quarter of their size.
_DISPARITY_SCALE = 4.0


def middlebury_stereo_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields Middlebury's stereo scenes of 2003, cones and teddy, at a quarter of their size."""
    return _pairs(folder, "disp2.png", ("im6.png", "im2.png"), _quarter_disparity)


def middlebury_2014_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields Middlebury's stereo scenes of 2014."""
    return _pairs(folder, "disp0.pfm", ("im1.png", "im0.png"), read_pfm)


def _quarter_disparity(path: Path) -> np.ndarray:
    return read_raw(path) / _DISPARITY_SCALE


def _pairs(
    folder: Path, truth: str, images: tuple[str, str], read: Callable[[Path], np.ndarray]
) -> Iterator[UnreadPair]:
    for path in find_files(folder, f"*/{truth}"):
        frames = [file_in(path.parent, name) for name in images]
        yield UnreadPair(path.parent.name, partial(_pair, path, *frames, read))


def _pair(
    path: Path, source: Path, target: Path, read: Callable[[Path], np.ndarray]
) -> EvaluationPair:
    disparity = read(path)
    if disparity.ndim != 2:
        raise InputError(f"{path} is no disparity: expected one channel.")
    # What is unknown is infinite or 0, which would be infinitely far away.
    known = np.isfinite(disparity) & (disparity > 0)
    flow = np.stack([-disparity, np.zeros(disparity.shape)], axis=-1)
    return dense_pair(path.parent.name, read_image(source), read_image(target), flow, known)
