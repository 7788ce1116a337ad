"""What an image as a whole looks like, in a few numbers: similar images may show the same place."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.images import Photo
from tfdense.inference.backends import KerasBackend
from tfdense.inference.resizing import resize_image

# Side of the square at which images are described, in px: their shape should not count.
_SIDE = 256
# Of the generalised mean over an image, which favours what stands out.
_POWER = 3.0


def describe(backend: KerasBackend, photos: Iterable[Photo]) -> np.ndarray:
    """Describes images by the coarsest features that a network matches.

    Of each channel the generalised mean over the image, once of its positive and once of its
    negative values (GeM: Radenović, Tolias and Chum, "Fine-tuning CNN image retrieval with no human
    annotation", TPAMI 2019). From that the mean over the collection is taken: what all have in
    common tells none apart.

    Args:
        backend: runs the network.
        photos: the images.

    Returns:
        float32 [images, channels], of unit length.
    """
    height, width = backend.working_size(_SIDE, _SIDE)
    described = []
    for photo in photos:
        image = resize_image(photo.pixels, (height, width))
        tensors = tf.nest.flatten(backend.features(image[None]))
        coarsest = min(tensors, key=lambda tensor: tensor.shape[1] * tensor.shape[2])[0].numpy()
        parts = np.maximum(np.concatenate([coarsest, -coarsest], axis=-1), 1e-6)
        described.append((parts**_POWER).mean(axis=(0, 1)) ** (1 / _POWER))
    described = np.array(described).reshape(len(described), -1)
    described = described - described.mean(axis=0)
    length = np.linalg.norm(described, axis=1, keepdims=True)
    return (described / np.maximum(length, 1e-12)).astype(np.float32)


def describable(backend) -> KerasBackend:
    """Returns the backend if it can describe images.

    Raises:
        InputError: if it is not a network of Keras.
    """
    if not getattr(backend, "has_features", False):
        raise InputError(
            "Expected a network with its weights to describe images by its features. Received: an "
            "exported file, which gives nothing but matches. Give a list of pairs."
        )
    return backend
