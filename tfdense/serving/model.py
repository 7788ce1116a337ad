"""One version of an exported network, as the server runs it."""

import dataclasses
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfdense.saved_models import SavedModel, Signature, TensorSpec
from tfdense.serving.logs import log
from tfdense.serving.protocols.rest import DEFAULT_SIGNATURE
from tfdense.serving.refusal import Refusal, wrong


class Model(Protocol):
    """What a server needs of a network.

    Attributes:
        signatures: by name.
        definitions: by name, what TensorFlow stores of each (``SignatureDef``).
        description: what the export says of itself.
    """

    signatures: dict[str, Signature]
    definitions: dict[str, Any]
    description: dict

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calls a signature, see `tfdense.saved_models.SavedModel.run`."""


class ServedModel:
    """A SavedModel that refuses what it cannot compute; see `Model`.

    Its signatures take the masks of their twins too, and each mask may be left out.
    """

    def __init__(self, folder: Path, threads: int | None = None):
        self._model = SavedModel(folder, threads)
        self.signatures = {
            name: _with_optional_masks(self._model.signatures[self._computed_by(name)])
            for name in self._model.signatures
        }
        self.definitions = self._model.definitions
        self.description = self._model.description

    def run(self, signature, inputs):
        signature = self._computed_by(signature)
        specs = self._model.signatures[signature].inputs
        masks = {name: _no_mask(spec) for name, spec in specs.items() if _is_mask(name)}
        try:
            return self._model.run(signature, {**masks, **inputs})
        except tf.errors.InvalidArgumentError as error:
            raise wrong(_undecodable(inputs) or _reason(error)) from None
        except (tf.errors.ResourceExhaustedError, MemoryError):
            raise Refusal(503, "Not enough memory for this request now.", 5) from None

    def warm_up(self) -> None:
        """Calls what computes the signatures once: the first call of each takes seconds."""
        image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        encoded = np.array([tf.io.encode_png(image).numpy()], object)
        points = np.zeros([1, 1, 2], np.float32)
        for name, signature in self.signatures.items():
            if name != self._computed_by(name):
                continue
            inputs = {}
            for role, spec in signature.inputs.items():
                if spec.optional:
                    continue
                if spec.dtype.kind == "O":
                    inputs[role] = encoded
                else:
                    inputs[role] = points if role == "target_points" else image[None]
            self.run(name, inputs)

    def _computed_by(self, signature: str) -> str:
        """Returns the signature that computes another, since each that is used is prepared anew."""
        signature = "match" if signature == DEFAULT_SIGNATURE else signature
        twin = f"{signature}_masked"
        return twin if twin in self._model.signatures else signature


def load(folder: Path, threads: int | None = None) -> ServedModel:
    """Loads a version and makes it ready to answer at once."""
    log("loading", path=str(folder))
    model = ServedModel(folder, threads)
    log("warming up", path=str(folder))
    model.warm_up()
    return model


def _with_optional_masks(signature: Signature) -> Signature:
    inputs = {
        name: dataclasses.replace(spec, optional=_is_mask(name))
        for name, spec in signature.inputs.items()
    }
    return Signature(inputs, signature.outputs)


def _is_mask(name: str) -> bool:
    return name.endswith("_mask")


def _no_mask(spec: TensorSpec) -> np.ndarray:
    """Returns a mask by which all pixels of a batch count."""
    if spec.dtype.kind == "O":
        return np.array([b""], object)
    return np.ones([1, 1, 1], spec.dtype)


def _undecodable(inputs: dict[str, np.ndarray]) -> str | None:
    """Returns which file cannot be decoded; TensorFlow's own words hardly tell."""
    for name, values in inputs.items():
        for content in values if values.dtype.kind == "O" else ():
            try:
                if content or not _is_mask(name):
                    tf.io.decode_image(content, 3)
            except tf.errors.InvalidArgumentError:
                return f"{name} cannot be decoded. Expected a whole JPEG or PNG file"
    return None


def _reason(error: Exception) -> str:
    """Returns what TensorFlow says of a wrong request, without the names of its operations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    known = [
        line for line in lines if "has another size than the image" in line or "differ in" in line
    ]
    if known:
        return known[0].partition("assertion failed: ")[2].strip("[]") or known[0]
    text = lines[0] if lines else type(error).__name__
    return text.partition("\n")[0].partition(" [[")[0][:300]
