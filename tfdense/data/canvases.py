"""What pairs are made from: photos and cut-outs on canvases of a fixed size, and seeds.

Everything here depends on the files, the seed and the pair's number alone.
"""

import math

import cv2
import numpy as np
import tensorflow as tf

from tfdense.data.photos import ImageStore, cutout_decoder, photo_decoder, resize
from tfdense.data_config import DataConfig
from tfdense.images import find_images

MARGIN = 4
"""Transparent pixels around a cut-out: even reduced to a quarter it ends with one of them."""

# A photo's canvas is this much larger than a pair, so that a view of 0.55 to 0.85 of the short side
# keeps its sharpness.
_WORKING_SIZE = 1.5
# Corners of a random polygon, and into how many parts OpenCV divides a pixel, in bits.
_CORNERS = 5
_SHIFT = 4


def canvas_side(config: DataConfig) -> int:
    """Returns height and width of the photos that pairs are made from, a multiple of 4."""
    return 4 * math.ceil(_WORKING_SIZE * config.size / 4)


def cutout_side(config: DataConfig) -> int:
    """Returns height and width of the cut-outs, with their margin; a multiple of 4."""
    return 4 * math.ceil((config.objects.size[1] * config.size + 2 * MARGIN) / 4)


def cutout_count(config: DataConfig) -> int:
    """Returns how many cut-outs each pair gets, whether it shows them or not."""
    return config.objects.count[1] if config.objects.probability else 0


def photo_count(config: DataConfig) -> int:
    """Returns how many photos each pair gets."""
    return config.worlds.photos if config.worlds.share else 1


def pair_seed(seed: int, stream: int, number: int) -> np.ndarray:
    """Returns the seed of a pair, int32 [2]."""
    return np.random.SeedSequence([seed % 2**64, stream, number]).generate_state(2).view(np.int32)


class Canvases:
    """Reads what a pair is made from.

    Args:
        photos: the files.
        config: sizes and the folder of cut-outs; without one random shapes are cut from photos.
        side: of the photos' canvases; None takes `canvas_side`.
    """

    def __init__(self, photos: list, config: DataConfig, side: int | None = None):
        self._side = canvas_side(config) if side is None else side
        self._cutout_side = cutout_side(config)
        self._count, self._photo_count = cutout_count(config), photo_count(config)
        self._photos = ImageStore(photos, photo_decoder(self._side))
        self._cutouts = None
        if config.objects.folder is not None:
            paths = find_images(config.objects.folder)
            self._cutouts = ImageStore(paths, cutout_decoder(self._cutout_side, MARGIN))

    def __len__(self) -> int:
        """Returns the number of photos."""
        return len(self._photos)

    def read(self, index, seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Gives what a pair is made from to a TensorFlow graph, see `load`."""
        canvas, cutouts = tf.numpy_function(
            self.load, [index, seed], [tf.uint8] * 2, stateful=False
        )
        canvas_shape = [self._side, self._side, 3]
        if self._photo_count > 1:
            canvas_shape = [self._photo_count, *canvas_shape]
        cutout_shape = [self._count, self._cutout_side, self._cutout_side, 4]
        return (
            tf.ensure_shape(canvas, canvas_shape),
            tf.ensure_shape(cutouts, cutout_shape),
        )

    def load(self, index: int, seed) -> tuple[np.ndarray, np.ndarray]:
        """Returns the photos and the cut-outs of a pair.

        Args:
            index: of the photo.
            seed: of the pair.

        Returns:
            Canvas, uint8 [side, side, 3], or [photos, side, side, 3] if a pair has several, all
            but the first any; and cut-outs, uint8 [objects, side, side, 4]: RGB
            multiplied by alpha, and alpha.
        """
        draw = np.random.default_rng(np.asarray(seed).view(np.uint32))
        canvas = square(self._photos.load(index), draw.random(2), self._side)
        cutouts = np.zeros([self._count, self._cutout_side, self._cutout_side, 4], np.uint8)
        for cutout in cutouts:
            cutout[:] = self._cutout(draw)
        if self._photo_count > 1:
            others = draw.integers(len(self._photos), size=self._photo_count - 1)
            more = [square(self._photos.load(i), draw.random(2), self._side) for i in others]
            canvas = np.stack([canvas, *more])
        return canvas, cutouts

    def _cutout(self, draw: np.random.Generator) -> np.ndarray:
        if self._cutouts is not None:
            return self._cutouts.load(draw.integers(len(self._cutouts)))
        photo = self._photos.load(draw.integers(len(self._photos)))
        side = self._cutout_side - 2 * MARGIN
        length = min(side, *photo.shape[:2])
        top, left = (draw.random(2) * (np.array(photo.shape[:2]) - length + 1)).astype(int)
        colour = resize(photo[top : top + length, left : left + length], side / length)
        alpha = random_shape(draw, side)
        cutout = np.dstack([cv2.multiply(colour, cv2.merge([alpha] * 3), scale=1 / 255), alpha])
        return np.pad(cutout, [(MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)])


def square(image: np.ndarray, place, side: int) -> np.ndarray:
    """Cuts the largest square out of an image and brings it to a size.

    Args:
        image: uint8 [height, width, channels].
        place: (y, x), 0..1 each: where the square lies.
        side: of the result, in pixels.
    """
    shape = np.array(image.shape[:2])
    length = shape.min()
    top, left = (np.asarray(place) * (shape - length + 1)).astype(int)
    return resize(image[top : top + length, left : left + length], side / length)


def random_shape(draw: np.random.Generator, side: int) -> np.ndarray:
    """Draws the union of two polygons, half of the times with rounded corners.

    Returns:
        alpha, uint8 [side, side], smoothed over about one pixel along the edges.
    """
    half = (side - 1) / 2
    angle = 2 * np.pi * (np.arange(_CORNERS) + draw.random([2, _CORNERS])) / _CORNERS
    distance = half * draw.uniform(0.4, 0.95, [2, _CORNERS, 1])
    *offset, rounding = draw.uniform(-1.0, 1.0, 3)
    offset = 0.25 * half * np.multiply.outer([1, -1], [offset])
    corners = half + offset + distance * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    corners = np.round(corners * 2**_SHIFT).astype(np.int32)
    alpha = np.zeros([side, side], np.uint8)
    for polygon in corners:
        cv2.fillPoly(alpha, [polygon], 255, cv2.LINE_AA, _SHIFT)
        # A thick outline has round corners.
        thickness = max(round(rounding * half / 3), 1)
        cv2.polylines(alpha, [polygon], True, 255, thickness, cv2.LINE_AA, _SHIFT)
    return alpha
