"""What a network can be given."""

import keras

from tfdense.errors import InputError


def check_sides(model: keras.Model, images) -> None:
    """Refuses images that do not fit a network's strides, where their size is known.

    Args:
        model: with ``stride`` and ``minimum_size``.
        images: [batch, height, width, 3].

    Raises:
        InputError: if a side is too short or not divisible by the stride.
    """
    sides = [side for side in images.shape[1:3] if side is not None]
    if any(side % model.stride or side < model.minimum_size for side in sides):
        raise InputError(
            f"Expected images with sides divisible by {model.stride} and of at least "
            f"{model.minimum_size} px. Received: {images.shape}"
        )
