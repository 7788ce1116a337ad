"""The step *propose*: the homography of the best of several views of two images."""

import cv2
import numpy as np

from tfdense.inference.fitting import find_homography
from tfdense.inference.looks import Look, confidence_within, to_size
from tfdense.inference.modes import PLAIN, Search, View
from tfdense.inference.resizing import resize_image

# Of each fourth pixel more than so many confident ones are needed.
_LEAST_MATCHES = 70


def find_best_view(first: Look, search: Search) -> tuple[View, np.ndarray] | None:
    """Returns the view with the highest score, and the homography that its matches follow.

    Args:
        first: a look at the images as they are.
        search: the views, and how they are judged.

    Returns:
        The view, and the homography at the working size, [3, 3]; None if none is found.
    """
    backend, source, target, size = first.pair
    frame = size
    if search.side is not None:
        ratio = min(1.0, search.side / max(size))
        frame = backend.working_size(*(round(side * ratio) for side in size))
    show = {"middle": _in_the_middle, "corner": _in_the_corner}[search.frame]
    best, best_score = None, search.least_score
    for view in search.views:
        seen_source, of_source, _ = show(source, frame, view.source_scale, view.turns)
        seen_target, of_target, (y, x) = show(target, frame, view.target_scale)
        known = view == PLAIN and frame == size
        outputs = first.outputs if known else backend.run(seen_source, seen_target)
        outputs = {name: values[y, x] for name, values in outputs.items()}
        outputs["flow"] = outputs["flow"] + np.float32([x.start, y.start])
        found = find_homography(backend.mixture, outputs, _LEAST_MATCHES, search.distance)
        if found is None:
            continue
        homography, inliers = found
        area = np.linalg.det(of_target[:2, :2]) * target.shape[0] * target.shape[1]
        score = inliers / area
        if search.weighted:
            score *= confidence_within(backend.mixture, outputs).mean()
        if score > best_score:
            homography = np.linalg.inv(of_target) @ _shift(x.start, y.start) @ homography
            best, best_score = (view, homography @ of_source), score
    if best is None:
        return None
    view, homography = best
    homography = to_size(target, size) @ homography @ np.linalg.inv(to_size(source, size))
    return view, homography / homography[2, 2]


def _in_the_middle(
    image: np.ndarray, size: tuple[int, int], scale: float, turns: int = 0
) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
    """Shows an image shrunk, and turned by quarter turns, in the middle of a black one.

    Returns:
        uint8 [*size, channels], the matrix from the image's pixels to the new ones, and where the
        matches are that count.
    """
    height, width = size
    if turns % 2:
        scale *= min(height / width, width / height)
    rows, columns = (max(1, round(side * scale)) for side in size)
    turned = np.rot90(resize_image(image, (rows, columns)), turns)
    # About the middles of the image before and after.
    turning = (
        _shift((turned.shape[1] - 1) / 2, (turned.shape[0] - 1) / 2)
        @ np.linalg.matrix_power([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], turns)
        @ _shift((1 - columns) / 2, (1 - rows) / 2)
    )
    y, x = ((whole - part) // 2 for whole, part in zip(size, turned.shape, strict=False))
    place = slice(y, y + turned.shape[0]), slice(x, x + turned.shape[1])
    shown = np.zeros((*size, image.shape[2]), np.uint8)
    shown[place] = turned
    return shown, _shift(x, y) @ turning @ to_size(image, (rows, columns)), place


def _in_the_corner(
    image: np.ndarray, size: tuple[int, int], scale: float, turns: int = 0
) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
    """Shows an image shrunk towards the upper left corner, as the authors do; see above."""
    height, width = size
    scaling = np.diag([int(scale * width) / width, int(scale * height) / height, 1.0])
    shown = cv2.warpPerspective(resize_image(image, size), scaling, (width, height))
    return shown, scaling @ to_size(image, size), (slice(0, height), slice(0, width))


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
