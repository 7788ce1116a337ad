"""Pairs whose ground truth is a homography."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfdense.evaluation.pairs import EvaluationPair, homography_pair, resize, resize_matrix
from tfdense.evaluation.readers.folders import read_source_and_target
from tfdense.evaluation.truth_files import read_homography
from tfdense.images import read_image


def stored_homography_pairs(folder: Path) -> Iterator[EvaluationPair]:
    """Yields the pairs of folders with a file of the homography from target to source."""
    for path in sorted(folder.glob("*/H_target_to_source.txt")):
        images = read_source_and_target(path.parent)
        yield homography_pair(path.parent.name, *images, read_homography(path))


def hpatches_pairs(folder: Path, side: int | None) -> Iterator[EvaluationPair]:
    """Yields the pairs of HPatches' scenes that change in viewpoint: image 1 to 2, ..., 6.

    Image 1 is the source. The published AEPE is the mean over the 295 pairs; PCK is published as
    such a mean and over all pixels.

    Args:
        folder: of the scenes.
        side: both images are resized to a square of this side (DGC-Net's protocol with 240 px);
            None resizes the source to the target's size and leaves that as it is.
    """
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
