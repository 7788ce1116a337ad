"""Pairs of images with ground truth, whatever data set they come from."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from tfdense.checks import camera_matrix
from tfdense.errors import InputError
from tfdense.pixels import pixel_positions
from tfdense.two_view.estimation import map_points

# Of rotations in the files of data sets, which are rounded.
_NOT_ORTHOGONAL = 0.01


class Cameras(NamedTuple):
    """The cameras of two images.

    A point X in the source camera's coordinates is at ``rotation @ X + translation`` in the
    target camera's.

    Attributes:
        source, target: intrinsic matrices, [3, 3].
        rotation: [3, 3].
        translation: [3].
    """

    source: np.ndarray
    target: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray

    def check(self, name: str) -> None:
        """Raises an InputError that names the pair if these are no two cameras apart."""
        camera_matrix(f"the source's camera of the pair {name}", self.source)
        camera_matrix(f"the target's camera of the pair {name}", self.target)
        rotation, translation = self.rotation, self.translation
        turns = np.isfinite(rotation).all() and np.linalg.det(rotation) > 0
        if not (turns and np.allclose(rotation @ rotation.T, np.eye(3), atol=_NOT_ORTHOGONAL)):
            raise InputError(f"The pose of the pair {name} holds no rotation: {rotation.tolist()}")
        if not (np.isfinite(translation).all() and translation.any()):
            raise InputError(
                f"The cameras of the pair {name} are not apart: {translation.tolist()}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationPair:
    """Two images and the true place in the source of some points, or all pixels, of the target.

    Where only the cameras are known, or that nothing matches, there are no points.

    Attributes:
        name: unique within the data set.
        source, target: uint8 [height, width, 3]; their sizes may differ.
        points: (x, y) in the target, in px, [n, 2]; not always whole numbers.
        true_flow: the source's (x, y) minus the target's at each point, in px, [n, 2].
        homography: from target to source, [3, 3], where the ground truth is one.
        cameras: where they are known.
        unmatched: (x, y) in the target of pixels that are known to have no match, [m, 2].
        tolerance: the endpoint error up to which a point counts as right where the data set has a
            rule of its own for it, in px.
        weights: of the points in training, [n], at least 0; None counts all alike. Evaluation does
            not look at them.
    """

    name: str
    source: np.ndarray
    target: np.ndarray
    points: np.ndarray
    true_flow: np.ndarray
    homography: np.ndarray | None = None
    cameras: Cameras | None = None
    unmatched: np.ndarray | None = None
    tolerance: float | None = None
    weights: np.ndarray | None = None

    def __post_init__(self):
        if not len(self.points) and self.cameras is None and self.unmatched is None:
            raise InputError(f"The pair {self.name} has no point with ground truth.")
        size = np.array(self.target.shape[1::-1])
        # Protocols that round may reach the border.
        inside = (self.points >= -1) & (self.points <= size)
        if not (inside.all() and np.isfinite(self.true_flow).all()):
            raise InputError(
                f"The ground truth of the pair {self.name} names a point outside of the target, "
                f"which has {size[0]}x{size[1]} px, or a place that is not finite."
            )
        if self.cameras is not None:
            self.cameras.check(self.name)

    def limited(self, max_side: int) -> "EvaluationPair":
        """Returns the pair with either image shrunk so that its longer side is at most this.

        The points stay the same places of the scene: their coordinates are scaled with
        half-pixel centres, and no ground truth is interpolated.
        """
        source, target = (_limit(image, max_side) for image in (self.source, self.target))
        points = scale_points(self.points, self.target.shape, target.shape)
        matches = scale_points(self.points + self.true_flow, self.source.shape, source.shape)
        source_scale = resize_matrix(self.source.shape, source.shape)
        target_scale = resize_matrix(self.target.shape, target.shape)
        homography, cameras, unmatched = self.homography, self.cameras, self.unmatched
        if homography is not None:
            homography = source_scale @ homography @ np.linalg.inv(target_scale)
        if cameras is not None:
            cameras = cameras._replace(
                source=source_scale @ cameras.source, target=target_scale @ cameras.target
            )
        if unmatched is not None:
            unmatched = scale_points(unmatched, self.target.shape, target.shape)
        tolerance = self.tolerance
        if tolerance is not None:
            tolerance *= max(source.shape[:2]) / max(self.source.shape[:2])
        return dataclasses.replace(
            self,
            source=source,
            target=target,
            points=points,
            true_flow=matches - points,
            homography=homography,
            cameras=cameras,
            unmatched=unmatched,
            tolerance=tolerance,
        )


class UnreadPair(NamedTuple):
    """A pair that is read when its turn comes, so that a broken one does not cost the others.

    Attributes:
        name: of the pair.
        read: returns the pair, or None if the data set's protocol leaves it out; raises InputError
            if a file is missing or broken.
        scene: what it shows, by a name: training and validation do not share one. Empty if no other
            pair shows the same.
    """

    name: str
    read: Callable[[], EvaluationPair | None]
    scene: str = ""


def dense_pair(
    name: str, source: np.ndarray, target: np.ndarray, flow: np.ndarray, valid: np.ndarray
) -> EvaluationPair:
    """Makes a pair from a flow at the target's size.

    Args:
        name: of the pair.
        source, target: uint8 [height, width, 3].
        flow: [height, width, 2], in px.
        valid: where it is known, boolean [height, width].

    Raises:
        InputError: if the sizes of target, flow and mask differ or nothing is valid.
    """
    sizes = target.shape[:2], flow.shape[:2], valid.shape
    if len(set(sizes)) > 1:
        raise InputError(
            f"Expected the target of the pair {name}, its flow and its mask to be of one size. "
            "Received: " + ", ".join(f"{width}x{height}" for height, width in sizes)
        )
    rows, columns = np.nonzero(valid)
    points = np.stack([columns, rows], axis=-1).astype(np.float64)
    return EvaluationPair(name, source, target, points, flow[rows, columns].astype(np.float64))


def homography_pair(
    name: str, source: np.ndarray, target: np.ndarray, homography: np.ndarray
) -> EvaluationPair:
    """Makes a pair from the homography [3, 3] that maps target pixels to source pixels.

    A pixel of the target is valid if the homography sends it into the source, between the centres
    of its outermost pixels. The upper left corner of the target is in front of the camera.
    """
    homography = homography / homography[2, 2]
    grid = pixel_positions(target.shape[:2])
    mapped, _ = map_points(homography, grid)
    limit = np.array(source.shape[1::-1]) - 1
    valid = ((mapped >= 0) & (mapped <= limit)).all(axis=-1)
    pair = dense_pair(name, source, target, mapped - grid, valid)
    return dataclasses.replace(pair, homography=homography)


def scale_points(points: np.ndarray, shape: tuple, new_shape: tuple) -> np.ndarray:
    """Moves points (x, y) [n, 2] of an image along with its resizing, half-pixel centres.

    Args:
        points: in px.
        shape, new_shape: of the image before and after, (height, width, ...).
    """
    scale = np.array(new_shape[1::-1]) / np.array(shape[1::-1])
    return (points + 0.5) * scale - 0.5


def resize_matrix(shape: tuple, new_shape: tuple) -> np.ndarray:
    """Returns the homography [3, 3] that moves points as `scale_points` does."""
    x, y = np.array(new_shape[1::-1]) / np.array(shape[1::-1])
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image to (height, width) as is usual with OpenCV: by areas if it shrinks."""
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=interpolation)


def _limit(image: np.ndarray, max_side: int) -> np.ndarray:
    scale = max_side / max(image.shape[:2])
    if scale >= 1:
        return image
    return resize(image, tuple(round(side * scale) for side in image.shape[:2]))
