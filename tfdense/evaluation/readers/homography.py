"""Pairs whose ground truth is a homography."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tfdense.evaluation.pairs import (
    EvaluationPair,
    UnreadPair,
    homography_pair,
    resize,
    resize_matrix,
)
from tfdense.evaluation.readers.folders import (
    file_in,
    find_files,
    only_image,
    pair_folders,
    read_source_and_target,
)
from tfdense.evaluation.truth_files import read_homography
from tfdense.images import SUFFIXES, read_image

_STORED_NAME = "H_target_to_source.txt"
# HPatches' own, and as the Oxford data set before it has them; Windows adds a suffix.
_HPATCHES_NAMES = ("H_1_{k}", "H_1_{k}.txt", "H1to{k}p", "H1to{k}p.txt")


def stored_homography_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields the pairs of folders with a file of the homography from target to source."""
    for pair in pair_folders(folder, _STORED_NAME):
        yield UnreadPair(pair.name, partial(_stored_homography_pair, file_in(pair, _STORED_NAME)))


def _stored_homography_pair(path: Path) -> EvaluationPair:
    images = read_source_and_target(path.parent)
    return homography_pair(path.parent.name, *images, read_homography(path))


def hpatches_pairs(folder: Path, side: int | None) -> Iterator[UnreadPair]:
    """Yields the pairs of HPatches' scenes that change in viewpoint: image 1 to 2, ..., 6.

    Image 1 is the source. Images may have been stored in another format than PPM. The published
    AEPE is the mean over the 295 pairs; PCK is published as such a mean and over all pixels.

    Args:
        folder: of the scenes.
        side: both images are resized to a square of this side (DGC-Net's protocol with 240 px);
            None resizes the source to the target's size and leaves that as it is.
    """
    images = (path for path in find_files(folder, "v_*/1.*") if path.suffix.lower() in SUFFIXES)
    for scene in sorted({path.parent for path in images}):
        for k in range(2, 7):
            read = partial(_hpatches_pair, scene, k, side)
            yield UnreadPair(f"{scene.name}-{k}", read, scene.name)


def _hpatches_pair(scene: Path, k: int, side: int | None) -> EvaluationPair:
    source, target = (read_image(only_image(scene, str(n), ".ppm")) for n in (1, k))
    size = target.shape[:2] if side is None else (side, side)
    # The file maps image 1, the source, to image k.
    homography = (
        resize_matrix(source.shape, size)
        @ np.linalg.inv(read_homography(_hpatches_homography(scene, k)))
        @ np.linalg.inv(resize_matrix(target.shape, size))
    )
    images = resize(source, size), resize(target, size)
    return homography_pair(f"{scene.name}-{k}", *images, homography)


def _hpatches_homography(scene: Path, k: int) -> Path:
    paths = [file_in(scene, name.format(k=k)) for name in _HPATCHES_NAMES]
    return next((path for path in paths if path.is_file()), paths[0])
