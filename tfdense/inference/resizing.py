"""Bringing images to the size of the network, and its answer back to theirs, with OpenCV."""

import cv2
import numpy as np


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes with half-pixel centres; averages areas along an axis that shrinks."""
    height, width = size
    for new in ((width, image.shape[0]), (width, height)):
        shrinks = new[0] < image.shape[1] or new[1] < image.shape[0]
        image = cv2.resize(
            image, new, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
    return image


def resize_smooth(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return cv2.resize(values, shape[1::-1], interpolation=cv2.INTER_LINEAR)
