"""The ways to match two images with a network that was made for moderate changes.

- *direct*: the network runs once.
- *homography*: a first run gives the homography of most of the image. The source is warped by it,
  the network runs again on what is left of the change, and both are joined.
- *multiscale*: as homography, but the first run is repeated with the source or the target shrunk by
  several ratios, and the homography that most agree with is taken: one image may show what the
  other does from a much larger distance.
- *rotation*: as homography, but four runs at a small size come first, with the source turned by
  quarter turns. The turn that the network is most confident with is taken.

The numbers of homography and multiscale are those of PDC-Net's authors. All of it happens at the
working size, and "pixel" means one of these; a homography maps the source's to the target's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from tfdense.inference.resizing import resize_image
from tfdense.inference.two_view import Matches, fit_homography, map_points

if TYPE_CHECKING:  # The command line takes the modes' names from here before it loads TensorFlow.
    from tfdense.inference.backends import Backend

Mode = Literal["direct", "homography", "multiscale", "rotation"]
Outputs = dict[str, np.ndarray]

# A homography is sought among the matches at each fourth pixel with a P_1 of at least 0.05.
_STEP, _LEAST_CONFIDENCE = 4, 0.05
_LEAST_MATCHES, _LEAST_MATCHES_OF_A_SCALE = 200, 70
_DISTANCE = 1.0
# By these the target is shrunk (less than 1), or the source (by the reciprocal of more than 1).
_RATIOS = (0.5, 0.6, 0.88, 1.0, 1.33, 1.66, 2.0)
# Matches that agree with the best homography, to a pixel of the target.
_LEAST_SCORE = 0.002
# The best turn is sought among images of this longer side, by the confidence within so many pixels.
_SMALL_SIDE, _RADIUS_OF_A_TURN = 320, 5.0
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


def match_by_rotation(
    backend: Backend, source: np.ndarray, target: np.ndarray, size: tuple[int, int]
) -> Outputs:
    """Runs the network on a turned source, and again on the source warped by the homography found.

    Args:
        backend, source, target, size: see `match_direct`.

    Returns:
        What `Backend.run` does.
    """
    first = match_direct(backend, source, target, size)
    turn = _find_turn(backend, source, target, size)
    if turn:
        first = _match_warped(backend, source, target, _turning(turn, size), first)
    return _match_again(backend, source, target, first)


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
    "rotation": match_by_rotation,
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


def _turning(turn: int, size: tuple[int, int]) -> np.ndarray:
    """Returns the matrix that turns an image by so many quarter turns and fits it to its frame."""
    height, width = size
    scale = min(height / width, width / height) if turn % 2 else 1.0
    centre = ((width - 1) / 2, (height - 1) / 2)
    return np.vstack([cv2.getRotationMatrix2D(centre, 90 * turn, scale), [0, 0, 1]])


def _find_turn(
    backend: Backend, source: np.ndarray, target: np.ndarray, size: tuple[int, int]
) -> int:
    """Returns the number of quarter turns of the source that the network is most confident with."""
    reduction = min(1.0, _SMALL_SIDE / max(size))
    size = backend.working_size(*(round(side * reduction) for side in size))
    source, target = resize_image(source, size), resize_image(target, size)

    def confidence(turn: int) -> float:
        turned = cv2.warpPerspective(source, _turning(turn, size), size[::-1])
        outputs = backend.run(turned, target)
        of_pixels = backend.mixture.confidence(
            outputs["log_variance"], outputs["logits"], _RADIUS_OF_A_TURN
        )
        return float(np.mean(of_pixels))

    return max(range(4), key=confidence)


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
    backend: Backend, outputs: Outputs, least_matches: int
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
    found = fit_homography(matches, _DISTANCE)
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
