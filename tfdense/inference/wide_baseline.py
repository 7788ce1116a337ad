"""Matching images that are turned or strongly enlarged, mostly of a plane or of what is far away.

Twelve runs at a small size come first, with the source turned by quarter turns and either image
shrunk. The best of them gives a first homography, and runs at the working size refine it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from tfdense.inference.refinement import (
    Outputs,
    confidence_within,
    find_homography,
    match_direct,
    match_warped,
    to_size,
)
from tfdense.inference.resizing import resize_image

if TYPE_CHECKING:
    from tfdense.inference.backends import Backend

# Quarter turns of the source, and scales of both images, in the first runs; their longer side.
_VIEWS = tuple(itertools.product(range(4), ((1, 1), (1 / 3, 1), (1, 1 / 3))))
_SMALL_SIDE = 320
# Matches that a homography needs, in a small run and at the working size.
_LEAST_MATCHES_OF_A_VIEW, _LEAST_MATCHES = 70, 200
# How far matches may be from that of a small run, in px.
_DISTANCE = 2.0
# It is refined at most so often, as long as the network gets more confident.
_MOST_REFINEMENTS = 3


def match_wide_baseline(
    backend: Backend, source: np.ndarray, target: np.ndarray, size: tuple[int, int]
) -> Outputs:
    """Seeks turn and scale at a small size, and runs the network from there on.

    Args:
        backend, source, target, size: see `match_direct`.

    Returns:
        What `Backend.run` does; that of a single run if no homography is found.
    """
    first = outputs = match_direct(backend, source, target, size)
    rough = _find_rough_homography(backend, source, target, size)
    if rough is not None:
        refined = match_warped(backend, source, target, rough, first)
        outputs = _more_confident(backend, first, refined)
    for _ in range(_MOST_REFINEMENTS):
        found = find_homography(backend, outputs, _LEAST_MATCHES)
        if found is None:
            break
        refined = match_warped(backend, source, target, found[0], first)
        if _more_confident(backend, outputs, refined) is outputs:
            break
        outputs = refined
    return outputs


def _find_rough_homography(
    backend: Backend, source: np.ndarray, target: np.ndarray, size: tuple[int, int]
) -> np.ndarray | None:
    """Returns the homography of the best of twelve views of both images at a small size.

    It is None if none is found or the images need neither be turned nor shrunk: then a run at full
    size shows more.
    """
    small = backend.working_size(
        *(round(side * min(1.0, _SMALL_SIDE / max(size))) for side in size)
    )
    best, best_score, is_plain = None, 0.0, True
    for view in _VIEWS:
        turn, (source_scale, target_scale) = view
        seen_target, of_target, (y, x) = _show(target, small, target_scale)
        seen_source, of_source, _ = _show(source, small, source_scale, turn)
        outputs = backend.run(seen_source, seen_target)
        outputs = {name: values[y, x] for name, values in outputs.items()}
        outputs["flow"] = outputs["flow"] + np.float32([x.start, y.start])
        rows, columns = outputs["flow"].shape[:2]
        found = find_homography(backend, outputs, _LEAST_MATCHES_OF_A_VIEW, _DISTANCE)
        if found is None:
            continue
        homography, inliers = found
        score = inliers / (rows * columns) * confidence_within(backend, outputs).mean()
        if score > best_score:
            best_score, is_plain = score, view == _VIEWS[0]
            best = np.linalg.inv(of_target) @ _shift(x.start, y.start) @ homography @ of_source
    if is_plain:
        return None
    best = to_size(target, size) @ best @ np.linalg.inv(to_size(source, size))
    return best / best[2, 2]


def _show(
    image: np.ndarray, size: tuple[int, int], scale: float, turn: int = 0
) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
    """Shows an image shrunk, and turned by quarter turns, in the middle of a black one.

    Returns:
        uint8 [*size, 3], the matrix from the image's pixels to the new ones, and where it is.
    """
    height, width = size
    if turn % 2:
        scale *= min(height / width, width / height)
    rows, columns = (max(1, round(side * scale)) for side in size)
    turned = np.rot90(resize_image(image, (rows, columns)), turn)
    # About the middles of the image before and after.
    turning = (
        _shift((turned.shape[1] - 1) / 2, (turned.shape[0] - 1) / 2)
        @ np.linalg.matrix_power([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], turn)
        @ _shift((1 - columns) / 2, (1 - rows) / 2)
    )
    y, x = ((whole - part) // 2 for whole, part in zip(size, turned.shape, strict=False))
    place = slice(y, y + turned.shape[0]), slice(x, x + turned.shape[1])
    shown = np.zeros((*size, 3), np.uint8)
    shown[place] = turned
    return shown, _shift(x, y) @ turning @ to_size(image, (rows, columns)), place


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def _more_confident(backend: Backend, one: Outputs, other: Outputs) -> Outputs:
    """Returns the other one only if it is more confident in the mean."""
    means = (confidence_within(backend, outputs).mean() for outputs in (one, other))
    return one if next(means) >= next(means) else other
