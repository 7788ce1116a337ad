"""Bringing images to the size of the network, and its answer back to theirs."""

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


def rescale_flow(flow: np.ndarray, source: tuple, target: tuple) -> np.ndarray:
    """Brings a flow between two images at a working size to the images' own sizes.

    The flow is interpolated rather than the places it points to: beyond the centres of the
    outermost working pixels it stays constant, as a place would not.

    Args:
        flow: [height, width, 2], in working pixels.
        source, target: shapes of the images.

    Returns:
        float32 [height, width, 2] at the target's size, in px of the source.
    """
    result = resize_smooth(flow, target)
    for axis in (0, 1):
        working, own, aim = flow.shape[1 - axis], target[1 - axis], source[1 - axis]
        position = np.arange(own)
        # The target's pixel is at p = (position + 0.5) working / own - 0.5 of the working size,
        # and p + flow is at (p + flow + 0.5) aim / working - 0.5 of the source.
        at_rest = (position + 0.5) * (aim / own) - 0.5 - position
        result[..., axis] *= np.float32(aim / working)
        result[..., axis] += np.expand_dims(at_rest.astype(np.float32), axis)
    return result
