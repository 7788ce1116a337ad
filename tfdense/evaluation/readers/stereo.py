"""Rectified pairs whose ground truth is a disparity: the left image is the target."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.pairs import EvaluationPair, dense_pair
from tfdense.evaluation.truth_files import read_pfm, read_raw
from tfdense.images import read_image

# Of the scenes of 2003 at a quarter of their size.
_DISPARITY_SCALE = 4.0


def middlebury_stereo_pairs(folder: Path) -> Iterator[EvaluationPair]:
    """Yields Middlebury's stereo scenes of 2003, cones and teddy, at a quarter of their size."""
    for path in sorted(folder.glob("*/disp2.png")):
        disparity = read_raw(path)
        yield _pair(path, ("im6.png", "im2.png"), disparity / _DISPARITY_SCALE, disparity > 0)


def middlebury_2014_pairs(folder: Path) -> Iterator[EvaluationPair]:
    """Yields Middlebury's stereo scenes of 2014; an unknown disparity is infinite."""
    for path in sorted(folder.glob("*/disp0.pfm")):
        disparity = read_pfm(path)
        yield _pair(path, ("im1.png", "im0.png"), disparity, np.isfinite(disparity))


def _pair(path: Path, names: tuple[str, str], disparity: np.ndarray, known) -> EvaluationPair:
    if disparity.ndim != 2:
        raise InputError(f"{path} is no disparity: expected one channel.")
    source, target = (read_image(path.with_name(name)) for name in names)
    flow = np.stack([-disparity, np.zeros(disparity.shape)], axis=-1)
    return dense_pair(path.parent.name, source, target, flow, known)
