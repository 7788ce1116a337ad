"""What all networks have in common."""

import keras

from tfdense.errors import InputError
from tfdense.ops.correlation import forward_only

_SERVED = ("flow", "log_variance", "logits")


class MatchingNetwork(keras.Model):
    """A network that matches two images, see `tfdense.models`.

    Its weights are there once it is constructed, since none of their shapes depends on the images.
    """

    def export(
        self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs
    ):
        """Writes ``flow``, ``log_variance`` and ``logits`` for other run-times, at any image size.

        Arguments as of `keras.Model.export`. `tfdense.exporting` writes a SavedModel that takes
        uint8 images and encoded ones and gives the confidence too.
        """
        images = {name: keras.Input((None, None, 3), name=name) for name in ("source", "target")}
        with forward_only():
            outputs = self(images)
            # What is written can hold no list, as that of the levels is.
            served = keras.Model(images, {name: outputs[name] for name in _SERVED}, name=self.name)
            served.export(filepath, format, verbose, input_signature, **kwargs)


def feature_shape(channels: int | None) -> tuple:
    """Returns the shape of features of any size."""
    return (None, None, None, channels)


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
