"""The ways to match two images with a network that was made for moderate changes.

- *direct*: the network runs once.
- *homography*: a first run gives the homography of most of the image. The source is warped by it,
  the network runs again on what is left of the change, and both are joined.
- *multiscale*: as homography, but the first run is repeated with the source or the target shrunk by
  several ratios, and the homography that most agree with is taken: one image may show what the
  other does from a much larger distance.
- *wide-baseline*: as homography, but twelve runs at a small size come first, with the source turned
  by quarter turns and either image shrunk. The homography of the best is where the rest begins; at
  the end it also tells the flow where the network cannot, see `tfdense.inference.plane`.

The numbers of homography and multiscale are those of PDC-Net's authors. All of it happens at the
working size, and "pixel" means one of these; a homography maps the source's to the target's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from tfdense.inference.plane import extend_homography
from tfdense.inference.resizing import resize_image
from tfdense.inference.two_view import Matches, fit_homography, map_points

if TYPE_CHECKING:  # The command line takes the modes' names from here before it loads TensorFlow.
    from tfdense.inference.backends import Backend

Mode = Literal["direct", "homography", "multiscale", "wide-baseline"]
Outputs = dict[str, np.ndarray]

# A homography is sought among the matches at each fourth pixel with a P_1 of at least 0.05.
_STEP, _LEAST_CONFIDENCE = 4, 0.05
_LEAST_MATCHES, _LEAST_MATCHES_OF_A_SCALE = 200, 70
_DISTANCE = 1.0
# By these the target is shrunk (less than 1), or the source (by the reciprocal of more than 1).
_RATIOS = (0.5, 0.6, 0.88, 1.0, 1.33, 1.66, 2.0)
# Matches that agree with the best homography, to a pixel of the target.
_LEAST_SCORE = 0.002
# Of wide-baseline: quarter turns of the source, and scales of both images, in the first runs; their
# longer side, how far matches may be from a homography, and the R of the confidence that decides.
_VIEWS = tuple(itertools.product(range(4), ((1, 1), (1 / 3, 1), (1, 1 / 3))))
_SMALL_SIDE, _ROUGH_DISTANCE, _ROUGH_RADIUS = 320, 2.0, 5.0
# The homography is refined at most so often, as long as the network gets more confident.
_MOST_REFINEMENTS = 3
# Of what a homography does to lengths along x and y.
_LEAST_STRETCH, _LARGEST_STRETCH = 0.001, 100
# Share of a bilinear sample that comes from inside of the image.
_LEAST_COVERAGE = 0.98


def match_direct(
    backend: Backend, source: np.ndarray, target: np.ndarray, size: tuple[int, int]
) -> Outputs:
    """Runs the network once.

    Args:
        backend: runs the network.
        source, target: uint8 [height, width, 3], of any size.
        size: (height, width) to run at.

    Returns:
        What `Backend.run` does.
    """
    return backend.run(resize_image(source, size), resize_image(target, size))


def match_by_homography(
    backend: Backend, source: np.ndarray, target: np.ndarray, size: tuple[int, int]
) -> Outputs:
    """Runs the network, and again on the source warped by the homography found.

    Args:
        backend, source, target, size: see `match_direct`.

    Returns:
        What `Backend.run` does; that of a single run if no homography is found.
    """
    return _match_again(backend, source, target, match_direct(backend, source, target, size))


def match_wide_baseline(
    backend: Backend, source: np.ndarray, target: np.ndarray, size: tuple[int, int]
) -> Outputs:
    """Seeks turn and scale at a small size, runs the network from there on, extends the plane.

    Args:
        backend, source, target, size: see `match_direct`.

    Returns:
        What `Backend.run` does; that of a single run if no homography is found.
    """
    first = outputs = match_direct(backend, source, target, size)
    rough = _find_rough_homography(backend, source, target, size)
    if rough is not None:
        refined = _match_warped(backend, source, target, rough, first)
        outputs = _more_confident(backend, first, refined)
    for _ in range(_MOST_REFINEMENTS):
        found = _find_homography(backend, outputs, _LEAST_MATCHES)
        if found is None:
            break
        refined = _match_warped(backend, source, target, found[0], first)
        if _more_confident(backend, outputs, refined) is outputs:
            break
        outputs = refined
    found = _find_homography(backend, outputs, _LEAST_MATCHES, _ROUGH_DISTANCE)
    if found is None:
        return outputs
    return extend_homography(outputs, _rough_confidence(backend, outputs), found[0])


def match_at_scales(
    backend: Backend, source: np.ndarray, target: np.ndarray, size: tuple[int, int]
) -> Outputs:
    """Runs the network at several scales, and again on the source warped by the best homography.

    Args:
        backend, source, target, size: see `match_direct`.

    Returns:
        What `Backend.run` does; that of a single run if no homography is found.
    """
    small_source, small_target = resize_image(source, size), resize_image(target, size)
    best, best_score = None, _LEAST_SCORE
    for ratio in _RATIOS:
        shrunk_source, of_source = _shrink(small_source, min(1.0, 1 / ratio))
        shrunk_target, of_target = _shrink(small_target, min(1.0, ratio))
        outputs = backend.run(shrunk_source, shrunk_target)
        if ratio == 1:
            first = outputs
        found = _find_homography(backend, outputs, _LEAST_MATCHES_OF_A_SCALE)
        if found is None:
            continue
        homography, inliers = found
        score = inliers / (size[0] * size[1] * np.linalg.det(of_target))
        if score > best_score:
            best, best_score = np.linalg.inv(of_target) @ homography @ of_source, score
    if best is None:
        return first
    return _match_warped(backend, source, target, best / best[2, 2], first)


MODES: dict[str, Callable[..., Outputs]] = {
    "direct": match_direct,
    "homography": match_by_homography,
    "multiscale": match_at_scales,
    "wide-baseline": match_wide_baseline,
}


def compose(first: Outputs, second: Outputs, homography: np.ndarray) -> Outputs:
    """Joins a match with that of the source warped by a homography.

    The second one is taken where both its flow and the homography stay inside of the image, the
    first one elsewhere. The variance of the second is that in the warped source; it changes with
    the area that the homography makes of a pixel there.

    Args:
        first, second: what `Backend.run` answers for the source and for the warped source.
        homography: that the source was warped by, [3, 3].

    Returns:
        What `Backend.run` does.
    """
    height, width = second["flow"].shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    inverse = np.linalg.inv(homography)
    inverse /= inverse[2, 2]
    warped_places = grid + second["flow"]
    places, denominator = map_points(inverse, warped_places)
    trusted = _is_inside(warped_places) & _is_inside(map_points(inverse, grid)[0])
    trusted &= denominator > 0
    # The determinant of the homography's derivative.
    area = np.linalg.det(inverse) / np.where(trusted, denominator, 1.0)[..., None] ** 3
    joined = {
        "flow": places - grid,
        "log_variance": second["log_variance"] + np.log(area),
        "logits": second["logits"],
    }
    return {
        name: np.where(trusted[..., None], values, first[name]).astype(np.float32)
        for name, values in joined.items()
    }


def _shrink(image: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Shrinks an image towards its upper left corner; what it leaves is black.

    Returns:
        The image, of its former size, and the matrix from its former pixels to the new ones.
    """
    height, width = image.shape[:2]
    scaling = np.diag([int(ratio * width) / width, int(ratio * height) / height, 1.0])
    return cv2.warpPerspective(image, scaling, (width, height)), scaling


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
        found = _find_homography(backend, outputs, _LEAST_MATCHES_OF_A_SCALE, _ROUGH_DISTANCE)
        if found is None:
            continue
        homography, inliers = found
        score = inliers / (rows * columns) * _rough_confidence(backend, outputs).mean()
        if score > best_score:
            best_score, is_plain = score, view == _VIEWS[0]
            best = np.linalg.inv(of_target) @ _shift(x.start, y.start) @ homography @ of_source
    if is_plain:
        return None
    best = _to_size(target, size) @ best @ np.linalg.inv(_to_size(source, size))
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
    rows, columns = round(height * scale), round(width * scale)
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
    return shown, _shift(x, y) @ turning @ _to_size(image, (rows, columns)), place


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def _more_confident(backend: Backend, one: Outputs, other: Outputs) -> Outputs:
    """Returns the other one only if it is more confident in the mean."""
    means = (_rough_confidence(backend, outputs).mean() for outputs in (one, other))
    return one if next(means) >= next(means) else other


def _rough_confidence(backend: Backend, outputs: Outputs) -> np.ndarray:
    return np.asarray(
        backend.mixture.confidence(outputs["log_variance"], outputs["logits"], _ROUGH_RADIUS)
    )


def _match_again(
    backend: Backend, source: np.ndarray, target: np.ndarray, first: Outputs
) -> Outputs:
    """Matches the source warped by the homography that a match shows; without one, that stays."""
    homography = _find_homography(backend, first, _LEAST_MATCHES)
    if homography is None:
        return first
    return _match_warped(backend, source, target, homography[0], first)


def _match_warped(
    backend: Backend,
    source: np.ndarray,
    target: np.ndarray,
    homography: np.ndarray,
    first: Outputs,
) -> Outputs:
    """Matches the source warped by a homography, and joins that with the first match."""
    size = first["flow"].shape[:2]
    # From the source itself: where it is enlarged it has more to show than at the working size.
    warped = cv2.warpPerspective(
        source,
        np.linalg.inv(_to_size(target, size)) @ homography @ _to_size(source, size),
        target.shape[1::-1],
    )
    return compose(first, match_direct(backend, warped, target, size), homography)


def _find_homography(
    backend: Backend, outputs: Outputs, least_matches: int, distance: float = _DISTANCE
) -> tuple[np.ndarray, int] | None:
    """Returns the homography that most confident matches agree with, and with how many it does."""
    flow, log_variance, logits = (
        outputs[name][::_STEP, ::_STEP] for name in ("flow", "log_variance", "logits")
    )
    confidence = np.asarray(backend.mixture.confidence(log_variance, logits))
    rows, columns = np.nonzero(confidence >= _LEAST_CONFIDENCE)
    if len(rows) <= least_matches:
        return None
    order = np.argsort(-confidence[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    places = np.stack([columns, rows], axis=-1).astype(np.float32) * _STEP
    matches = Matches(places + flow[rows, columns], places, confidence[rows, columns])
    found = fit_homography(matches, distance)
    if found is None or not _is_plausible(found.matrix):
        return None
    return found.matrix, len(found.inliers.source)


def _is_plausible(homography: np.ndarray) -> bool:
    """Whether it neither mirrors the image nor changes its size beyond all measure."""
    linear = homography[:2, :2]
    stretch = np.linalg.norm(linear, axis=0)
    within = (stretch >= _LEAST_STRETCH) & (stretch <= _LARGEST_STRETCH)
    return bool(np.linalg.det(linear) > 0 and within.all())


def _is_inside(places: np.ndarray) -> np.ndarray:
    """Whether a bilinear sample at a place (x, y) of [height, width, 2] is one of the image."""
    limit = np.array(places.shape[1::-1]) - 1
    beyond = np.maximum(np.maximum(-places, places - limit), 0.0)
    return np.clip(1 - beyond, 0, 1).prod(axis=-1) >= _LEAST_COVERAGE


def _to_size(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the matrix from an image's pixels to those of a size (height, width)."""
    x, y = size[1] / image.shape[1], size[0] / image.shape[0]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1.0]])
