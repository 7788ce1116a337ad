"""The values of an image given as an array: needs numpy alone, and so serves on devices too."""

import numpy as np

from tfdense.errors import InputError


def to_bytes(image: np.ndarray, name: str = "image") -> np.ndarray:
    """Rounds the values of an image to 8 bits.

    Args:
        image: of numbers in 0..255, of any shape.
        name: what the image is, for the message.

    Returns:
        uint8, of the same shape; the image itself if it is that already.

    Raises:
        InputError: if values are outside of 0..255 or not finite. Also if they are fractions of
            at most 1: such an image is meant to be in 0..1, and would be matched as a black one.
    """
    if image.dtype == np.uint8:
        return image
    lowest, highest = image.min(), image.max()
    if not (lowest >= 0 and highest <= 255):
        raise InputError(
            f"Expected {name} values in 0..255. Received: {lowest} to {highest} ({image.dtype})."
        )
    if highest <= 1 and ((image > 0) & (image < 1)).any():
        raise InputError(
            f"Expected {name} values in 0..255. Received: {lowest:.3g} to {highest:.3g}, which "
            "look as if white were 1. Multiply them by 255."
        )
    return np.rint(image).astype(np.uint8)
