"""Matching two images, and the source warped by a homography.

All of it happens at the working size, and "pixel" means one of these; a homography maps the
source's to the target's.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from tfdense.inference.resizing import resize_image
from tfdense.pixels import pixel_positions
from tfdense.results.answers import HasConfidence
from tfdense.two_view.estimation import map_points

if TYPE_CHECKING:
    from tfdense.inference.backends import Backend

Outputs = dict[str, np.ndarray]

# R of the confidence that tells a match from none.
_RADIUS = 5.0
# Share of a bilinear sample that comes from inside of the image.
_LEAST_COVERAGE = 0.98


class Pair(NamedTuple):
    """Two images, and what matches them.

    Attributes:
        backend: runs the network.
        source, target: uint8 [height, width, channels], of any size.
        size: (height, width) to run at.
    """

    backend: Backend
    source: np.ndarray
    target: np.ndarray
    size: tuple[int, int]

    @property
    def coarse(self) -> Pair:
        """The same for the network without its level at full resolution, if it has one.

        The level moves a match by a few pixels at most, and takes a third of the time:
        homographies are sought without it.
        """
        return self._replace(backend=getattr(self.backend, "coarse", self.backend))


class Look:
    """What the network sees of a pair; it runs when that is asked for.

    Args:
        pair: the images.
        homography: the source is warped by, [3, 3]; None if it is not.
        rest: the outputs where the warped source has nothing to show.
    """

    def __init__(
        self, pair: Pair, homography: np.ndarray | None = None, rest: Outputs | None = None
    ):
        self.pair, self.homography, self._rest = pair, homography, rest

    def warped(self, homography: np.ndarray | None) -> Look:
        """Returns a look at the source warped; the rest is the look at it as it is."""
        if homography is None:
            return self
        return Look(self.pair, homography, self.outputs if self._rest is None else self._rest)

    @cached_property
    def outputs(self) -> Outputs:
        """See `Backend.run`."""
        backend, source, target, size = self.pair
        if self.homography is None:
            return backend.run(resize_image(source, size), resize_image(target, size))
        # From the source itself: where it is enlarged it has more to show than at the working size.
        matrix = np.linalg.inv(to_size(target, size)) @ self.homography @ to_size(source, size)
        warped = cv2.warpPerspective(source, matrix, target.shape[1::-1])
        second = Look(self.pair._replace(source=warped)).outputs
        return compose(self._rest, second, self.homography)

    @cached_property
    def confidence(self) -> float:
        """The mean probability that the flow is right to five pixels."""
        return confidence_within(self.pair.backend.mixture, self.outputs).mean()


def confidence_within(
    mixture: HasConfidence, outputs: Outputs, radius: float = _RADIUS
) -> np.ndarray:
    """Returns P_R: the probability that the flow is right to a radius, in px, [height, width]."""
    return np.asarray(mixture.confidence(outputs["log_variance"], outputs["logits"], radius))


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


def _is_inside(places: np.ndarray) -> np.ndarray:
    """Whether a bilinear sample at a place (x, y) of [height, width, 2] is one of the image."""
    limit = np.array(places.shape[1::-1]) - 1
    beyond = np.maximum(np.maximum(-places, places - limit), 0.0)
    return np.clip(1 - beyond, 0, 1).prod(axis=-1) >= _LEAST_COVERAGE


def to_size(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the matrix [3, 3] from an image's pixels to those of a size (height, width)."""
    x, y = size[1] / image.shape[1], size[0] / image.shape[0]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1.0]])
