"""What an exported file says of itself."""

import dataclasses
import hashlib
from importlib import metadata

import keras
import numpy as np

from tfdense.config import Config
from tfdense.tflite_files import FORMAT

RADIUS = 1.0

CONVENTIONS = {
    "images": "source, target: RGB, uint8, channels last",
    "flow": (
        "(dx, dy) per target pixel, target to source: target(x, y) shows what "
        "source(x + dx, y + dy) shows; pixels of the source, centres at integers"
    ),
    "confidence": (
        "P_R: the probability that the true match lies within `radius` pixels of the source "
        "of the estimated one, in x and in y"
    ),
    "log_variance": "of each component of the mixture, in log px² of the source",
    "logits": "of the components' weights, before the softmax",
}


def describe(
    model: keras.Model,
    config: Config,
    size: tuple[int, int] | None,
    licence: str | None = None,
) -> dict:
    """Describes an exported network, as JSON can hold it.

    Args:
        model: the network.
        config: what it was trained with.
        size: the (height, width) that the file is bound to, None if any will do.
        licence: of its weights, None if it is not known.
    """
    mixture = {"name": type(model.mixture).__name__, **dataclasses.asdict(model.mixture)}
    return {
        "format": FORMAT,
        "preset": config.model.preset,
        "mixture": mixture,
        "size": size if size is None else list(size),
        "stride": model.stride,
        "minimum_size": model.minimum_size,
        "radius": RADIUS,
        "conventions": CONVENTIONS,
        "weights_sha256": hash_weights(model),
        "licence": licence,
        "version": metadata.version("tfdense"),
    }


def hash_weights(model: keras.Model) -> str:
    """Returns the SHA-256 of all weights: shape and little-endian float32 values, in order."""
    digest = hashlib.sha256()
    for weight in model.weights:
        values = weight.numpy().astype("<f4")
        digest.update(np.array(values.shape, "<i8").tobytes())
        digest.update(values.tobytes())
    return digest.hexdigest()
