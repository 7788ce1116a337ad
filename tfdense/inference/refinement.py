"""Matching once, and matching again after a homography.

All of it happens at the working size, and "pixel" means one of these; a homography maps the
source's to the target's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from tfdense.inference.resizing import resize_image
from tfdense.inference.two_view import Matches, fit_homography, map_points
from tfdense.pixels import pixel_positions

if TYPE_CHECKING:  # The command line takes the modes' names before it loads TensorFlow.
    from tfdense.inference.backends import Backend

Outputs = dict[str, np.ndarray]

# A homography is sought among the matches at each fourth pixel with a P_1 of at least 0.05.
_STEP, _LEAST_CONFIDENCE = 4, 0.05
_DISTANCE, _AFFINE_DISTANCE = 1.0, 3.0
# R of the confidence that tells a match from none.
_RADIUS = 5.0
# Of what a homography does to lengths along x and y.
_LEAST_STRETCH, _LARGEST_STRETCH = 0.001, 100
# Share of a bilinear sample that comes from inside of the image.
_LEAST_COVERAGE = 0.98


def without_refinement(backend: Backend) -> Backend:
    """Returns a backend's network without the level at full resolution, else the backend.

    Modes seek homographies by it: the level moves a match by a few pixels at most, and takes a
    third of the time.
    """
    return getattr(backend, "coarse", backend)


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


def match_warped(
    backend: Backend,
    source: np.ndarray,
    target: np.ndarray,
    homography: np.ndarray,
    first: Outputs,
) -> Outputs:
    """Matches the source warped by a homography, and joins that with the first match.

    Args:
        backend, source, target: see `match_direct`.
        homography: [3, 3].
        first: what stays where the warped source has nothing to show.

    Returns:
        What `Backend.run` does.
    """
    size = first["flow"].shape[:2]
    # From the source itself: where it is enlarged it has more to show than at the working size.
    warped = cv2.warpPerspective(
        source,
        np.linalg.inv(to_size(target, size)) @ homography @ to_size(source, size),
        target.shape[1::-1],
    )
    return compose(first, match_direct(backend, warped, target, size), homography)


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
    grid = pixel_positions(second["flow"].shape[:2])
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


def find_homography(
    backend: Backend, outputs: Outputs, least_matches: int, distance: float = _DISTANCE
) -> tuple[np.ndarray, int] | None:
    """Finds the homography that most confident matches agree with.

    Args:
        backend: whose answer the outputs are.
        outputs: what `Backend.run` answers.
        least_matches: more than so many confident ones are needed, of each fourth pixel.
        distance: the largest of one that agrees, in px.

    Returns:
        The homography [3, 3], and how many agree with it; None without a plausible one.
    """
    matches = _confident_matches(backend, outputs)
    if len(matches.source) <= least_matches:
        return None
    found = fit_homography(matches, distance)
    if found is None or not _is_plausible(found.matrix):
        return None
    return found.matrix, len(found.inliers.source)


def find_affine_map(backend: Backend, outputs: Outputs, least_matches: int) -> np.ndarray | None:
    """Finds the affine map that most confident matches agree with, to three pixels.

    Of matches in a small part of the image it goes on more sensibly than a homography does.

    Args:
        backend, outputs, least_matches: see `find_homography`.

    Returns:
        The map as a homography, [3, 3]; None without a plausible one.
    """
    matches = _confident_matches(backend, outputs)
    if len(matches.source) <= least_matches:
        return None
    affine, _ = cv2.estimateAffine2D(
        matches.source, matches.target, ransacReprojThreshold=_AFFINE_DISTANCE
    )
    if affine is None or not _is_plausible(affine):
        return None
    return np.vstack([affine, [0, 0, 1]])


def _confident_matches(backend: Backend, outputs: Outputs) -> Matches:
    """Returns the matches that a homography is sought among, the most confident first."""
    flow, log_variance, logits = (
        outputs[name][::_STEP, ::_STEP] for name in ("flow", "log_variance", "logits")
    )
    confidence = np.asarray(backend.mixture.confidence(log_variance, logits))
    rows, columns = np.nonzero(confidence >= _LEAST_CONFIDENCE)
    order = np.argsort(-confidence[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    places = np.stack([columns, rows], axis=-1).astype(np.float32) * _STEP
    return Matches(places + flow[rows, columns], places, confidence[rows, columns])


def confidence_within(backend: Backend, outputs: Outputs, radius: float = _RADIUS) -> np.ndarray:
    """Returns P_R: the probability that the flow is right to a radius, in px, [height, width]."""
    return np.asarray(
        backend.mixture.confidence(outputs["log_variance"], outputs["logits"], radius)
    )


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


def to_size(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the matrix [3, 3] from an image's pixels to those of a size (height, width)."""
    x, y = size[1] / image.shape[1], size[0] / image.shape[0]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1.0]])
