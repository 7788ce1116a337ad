"""Matching images that are turned or strongly enlarged, mostly of a plane or of what is far away.

Twelve runs at a small size come first, with the source turned by quarter turns and either image
shrunk; if they do not help, four at the working size. The best of them gives a first homography.
Runs after it refine it, by the homography or the affine map that their matches follow, whichever
the network is then more confident with.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfdense.inference.refinement import (
    Outputs,
    confidence_within,
    find_affine_map,
    find_homography,
    match_direct,
    match_warped,
    to_size,
    without_refinement,
)
from tfdense.inference.resizing import resize_image

if TYPE_CHECKING:
    from tfdense.inference.backends import Backend

# Quarter turns of the source, and scales of both images, in the first runs; their longer side.
_PLAIN = (0, (1, 1))
_SMALL_VIEWS = tuple(itertools.product(range(4), ((1, 1), (1 / 3, 1), (1, 1 / 3))))
_SMALL_SIDE = 416
# The same of runs at the working size, if the mean confidence is still below this.
_LARGE_VIEWS = tuple((0, scales) for scales in ((0.6, 1), (1, 0.6), (1 / 4, 1), (1, 1 / 4)))
_FOUND = 0.2
# Matches that a homography needs, in a small run and at the working size, and an affine map there.
_LEAST_MATCHES_OF_A_VIEW, _LEAST_MATCHES, _LEAST_MATCHES_OF_AN_AFFINE_MAP = 70, 200, 50
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
    seeker = without_refinement(backend)
    first = match_direct(seeker, source, target, size)
    best = _Candidate(first, None)
    small = backend.working_size(
        *(round(side * min(1.0, _SMALL_SIDE / max(size))) for side in size)
    )
    for seen, views, found in ((small, _SMALL_VIEWS, np.inf), (size, _LARGE_VIEWS, _FOUND)):
        if confidence_within(seeker, best.outputs).mean() >= found:
            break
        rough = _find_rough_homography(seeker, source, target, size, seen, views)
        if rough is not None:
            warped = match_warped(seeker, source, target, rough, first)
            best = _more_confident(seeker, best, _Candidate(warped, rough))
    for _ in range(_MOST_REFINEMENTS):
        former = best
        for homography in _refinements(seeker, former.outputs):
            warped = match_warped(seeker, source, target, homography, first)
            best = _more_confident(seeker, best, _Candidate(warped, homography))
        if best is former:
            break
    if seeker is backend:
        return best.outputs
    first = match_direct(backend, source, target, size)
    if best.homography is None:
        return first
    return match_warped(backend, source, target, best.homography, first)


class _Candidate(NamedTuple):
    """An answer, and the homography that the source was warped by for it, None if it was not."""

    outputs: Outputs
    homography: np.ndarray | None


def _refinements(backend: Backend, outputs: Outputs) -> list[np.ndarray]:
    """Returns what the matches may follow, as homographies: one, and an affine map."""
    found = find_homography(backend, outputs, _LEAST_MATCHES)
    maps = [None if found is None else found[0]]
    maps.append(find_affine_map(backend, outputs, _LEAST_MATCHES_OF_AN_AFFINE_MAP))
    return [homography for homography in maps if homography is not None]


def _find_rough_homography(
    backend: Backend,
    source: np.ndarray,
    target: np.ndarray,
    size: tuple[int, int],
    seen: tuple[int, int],
    views: tuple,
) -> np.ndarray | None:
    """Returns the homography, at a size, of the best of several views of both images at another.

    It is None if none is found or the images need neither be turned nor shrunk: the first run at
    full size has shown that.
    """
    best, best_score, is_plain = None, 0.0, True
    for view in views:
        turn, (source_scale, target_scale) = view
        seen_target, of_target, (y, x) = _show(target, seen, target_scale)
        seen_source, of_source, _ = _show(source, seen, source_scale, turn)
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
            best_score, is_plain = score, view == _PLAIN
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
        uint8 [*size, channels], the matrix from the image's pixels to the new ones, and where it
        is.
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
    shown = np.zeros((*size, image.shape[2]), np.uint8)
    shown[place] = turned
    return shown, _shift(x, y) @ turning @ to_size(image, (rows, columns)), place


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def _more_confident(backend: Backend, one: _Candidate, other: _Candidate) -> _Candidate:
    """Returns the other one only if it is more confident in the mean."""
    means = (confidence_within(backend, each.outputs).mean() for each in (one, other))
    return one if next(means) >= next(means) else other
