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

_PIXELS = "{} image, RGB [batch, height, width, 3], of any size"
_PIXELS_MASK = (
    "which pixels of the {} count, [batch, height, width]: those above half of the "
    "mask's largest; with height and width 1 it holds for all pixels"
)
_FILE = "{} image, the bytes of a JPEG or PNG file; each pair of a batch has sizes of its own"
_FILE_MASK = (
    "which pixels of the {} count, the bytes of a PNG or JPEG file of the image's size, "
    "white where they do; empty: all"
)
_DENSE = {
    "flow": (
        "[batch, height, width, 2] at the target's size: (dx, dy) from a pixel of the target to "
        "its place in the source, in px of the source"
    ),
    "confidence": (
        "[batch, height, width]: the probability that the true place lies within 1 px of the "
        "source of it, in x and in y; 0 where masked"
    ),
    "log_variance": "[batch, height, width, components] of the mixture, in log px² of the source",
    "logits": "[batch, height, width, components]: weights of the components, before the softmax",
}

_SIGNATURES = {
    "match": {
        "inputs": {role: _PIXELS.format(role) for role in ("source", "target")},
        "outputs": _DENSE,
    },
    "match_encoded": {
        "inputs": {role: _FILE.format(role) for role in ("source", "target")},
        "outputs": {
            **{name: f"{text}; beyond target_size 0" for name, text in _DENSE.items()},
            "target_size": "[batch, 2]: height and width of each pair's answer",
        },
    },
    "match_points": {
        "inputs": {
            **{role: _FILE.format(role) for role in ("source", "target")},
            "target_points": "[batch, count, 2]: points (x, y) in px of the target",
        },
        "outputs": {
            "source_points": "[batch, count, 2]: their places (x, y) in px of the source",
            "confidence": (
                "[batch, count]: the probability that the true place lies within 1 px of it, in x "
                "and in y; 0 where masked or outside of the target"
            ),
        },
    },
}


def _masked(name: str) -> dict[str, dict[str, str]]:
    """Describes the twin of a signature that takes masks too."""
    text = _PIXELS_MASK if name == "match" else _FILE_MASK
    masks = {f"{role}_mask": text.format(role) for role in ("source", "target")}
    signature = _SIGNATURES[name]
    return {**signature, "inputs": {**signature["inputs"], **masks}}


SIGNATURES = {
    **_SIGNATURES,
    **{f"{name}_masked": _masked(name) for name in _SIGNATURES},
}
"""What the inputs and outputs of a SavedModel's signatures are; their types are in its graph."""


def describe(
    model: keras.Model,
    config: Config,
    size: tuple[int, int] | None,
    licence: str | None = None,
    signatures: dict | None = None,
) -> dict:
    """Describes an exported network, as JSON can hold it.

    Args:
        model: the network.
        config: what it was trained with.
        size: the (height, width) that the file is bound to, None if any will do.
        licence: of its weights, None if it is not known.
        signatures: `SIGNATURES`, if the file has them.
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
        **({} if signatures is None else {"signatures": signatures}),
    }


def hash_weights(model: keras.Model) -> str:
    """Returns the SHA-256 of all weights: shape and little-endian float32 values, in order."""
    digest = hashlib.sha256()
    for weight in model.weights:
        values = weight.numpy().astype("<f4")
        digest.update(np.array(values.shape, "<i8").tobytes())
        digest.update(values.tobytes())
    return digest.hexdigest()
