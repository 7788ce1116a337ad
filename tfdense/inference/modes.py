"""The ways to match two images with a network that was made for moderate changes.

- *direct*: the network runs once.
- *homography*: a first run gives the homography of most of the image. The source is warped by it,
  the network runs again on what is left of the change, and both are joined.
- *multiscale*: as homography, but the first run is repeated with the source or the target shrunk by
  several ratios, and the homography that most agree with is taken: one image may show what the
  other does from a much larger distance.
- *wide-baseline*: as homography, but twelve runs at a small size come first, with the source turned
  by quarter turns and either image shrunk; see `tfdense.inference.wide_baseline`.
- *plane*: as wide-baseline, but the flow is that of the homography everywhere: for pictures of a
  plane, such as documents and maps, and from a camera that only turned.

The numbers of homography and multiscale are those of PDC-Net's authors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from tfdense.inference.plane import match_plane
from tfdense.inference.refinement import (
    Outputs,
    find_homography,
    match_direct,
    match_warped,
    without_refinement,
)
from tfdense.inference.resizing import resize_image
from tfdense.inference.wide_baseline import match_wide_baseline

if TYPE_CHECKING:  # The command line takes the modes' names from here before it loads TensorFlow.
    from tfdense.inference.backends import Backend

Mode = Literal["direct", "homography", "multiscale", "wide-baseline", "plane"]

_LEAST_MATCHES, _LEAST_MATCHES_OF_A_SCALE = 200, 70
# By these the target is shrunk (less than 1), or the source (by the reciprocal of more than 1).
_RATIOS = (0.5, 0.6, 0.88, 1.0, 1.33, 1.66, 2.0)
# Matches that agree with the best homography, to a pixel of the target.
_LEAST_SCORE = 0.002


def match_by_homography(
    backend: Backend, source: np.ndarray, target: np.ndarray, size: tuple[int, int]
) -> Outputs:
    """Runs the network, and again on the source warped by the homography found.

    Args:
        backend, source, target, size: see `match_direct`.

    Returns:
        What `Backend.run` does; that of a single run if no homography is found.
    """
    seeker = without_refinement(backend)
    first = match_direct(seeker, source, target, size)
    homography = find_homography(seeker, first, _LEAST_MATCHES)
    if seeker is not backend:
        first = match_direct(backend, source, target, size)
    if homography is None:
        return first
    return match_warped(backend, source, target, homography[0], first)


def match_at_scales(
    backend: Backend, source: np.ndarray, target: np.ndarray, size: tuple[int, int]
) -> Outputs:
    """Runs the network at several scales, and again on the source warped by the best homography.

    Args:
        backend, source, target, size: see `match_direct`.

    Returns:
        What `Backend.run` does; that of a single run if no homography is found.
    """
    seeker = without_refinement(backend)
    small_source, small_target = resize_image(source, size), resize_image(target, size)
    best, best_score = None, _LEAST_SCORE
    for ratio in _RATIOS:
        shrunk_source, of_source = _shrink(small_source, min(1.0, 1 / ratio))
        shrunk_target, of_target = _shrink(small_target, min(1.0, ratio))
        outputs = seeker.run(shrunk_source, shrunk_target)
        if ratio == 1:
            first = outputs
        found = find_homography(backend, outputs, _LEAST_MATCHES_OF_A_SCALE)
        if found is None:
            continue
        homography, inliers = found
        score = inliers / (size[0] * size[1] * np.linalg.det(of_target))
        if score > best_score:
            best, best_score = np.linalg.inv(of_target) @ homography @ of_source, score
    if seeker is not backend:
        first = match_direct(backend, source, target, size)
    if best is None:
        return first
    return match_warped(backend, source, target, best / best[2, 2], first)


MODES: dict[str, Callable[..., Outputs]] = {
    "direct": match_direct,
    "homography": match_by_homography,
    "multiscale": match_at_scales,
    "wide-baseline": match_wide_baseline,
    "plane": match_plane,
}


def _shrink(image: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Shrinks an image towards its upper left corner; what it leaves is black.

    Returns:
        The image, of its former size, and the matrix from its former pixels to the new ones.
    """
    height, width = image.shape[:2]
    scaling = np.diag([int(ratio * width) / width, int(ratio * height) / height, 1.0])
    return cv2.warpPerspective(image, scaling, (width, height)), scaling
