"""What single matches and the geometry of two views are. Needs numpy alone."""

from typing import NamedTuple

import numpy as np


class Matches(NamedTuple):
    """Single matches, the most confident first.

    Attributes:
        source: (x, y) in the source, in px, float32 [count, 2].
        target: (x, y) in the target, in px, float32 [count, 2].
        confidence: float32 [count].
    """

    source: np.ndarray
    target: np.ndarray
    confidence: np.ndarray

    def select(self, which: np.ndarray) -> "Matches":
        """Returns those at some indices, or where a bool [count] is true."""
        return Matches(*(values[which] for values in self))

    def swap(self) -> "Matches":
        """Returns them with source and target exchanged."""
        return Matches(self.target, self.source, self.confidence)


class Homography(NamedTuple):
    """A homography between two images.

    Attributes:
        matrix: maps the source's (x, y, 1) to the target's, float64 [3, 3], 1 at the lower right:
            ``cv2.warpPerspective(source, matrix, size)`` looks like the target.
        inliers: the matches that agree with it.
    """

    matrix: np.ndarray
    inliers: Matches

    def swap(self) -> "Homography":
        """Returns it with source and target exchanged."""
        matrix = np.linalg.inv(self.matrix)
        return Homography(matrix / matrix[2, 2], self.inliers.swap())


class Pose(NamedTuple):
    """How the camera of the target stands to that of the source.

    A point X in the source camera's coordinates is at ``rotation @ X + translation`` in the
    target camera's; two images do not tell the unit of length.

    Attributes:
        rotation: float64 [3, 3].
        translation: of length 1, float64 [3].
        inliers: the matches that agree with it and lie before both cameras, or far away.
    """

    rotation: np.ndarray
    translation: np.ndarray
    inliers: Matches
