"""Exporting to a SavedModel, which TensorFlow Serving loads."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf

from tfdense.exporting import signatures
from tfdense.exporting.metadata import describe
from tfdense.exporting.verification import ExportReport, keras_run, read_pair, verify
from tfdense.exporting.warm_up import write_warm_up_requests
from tfdense.files import check_folder, replacing
from tfdense.models import load
from tfdense.models.presets import licence_of

_SIGNATURES = ("match", "match_encoded")
_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8)
_ENCODED = tf.TensorSpec([None], tf.string)
_VERIFIED_SIDE = 256


def export_saved_model(name: str | Path, folder: str | Path) -> ExportReport:
    """Writes a network as SavedModel with the signatures `match` and `match_encoded`.

    Both answer "flow" [batch, height, width, 2], "confidence" [batch, height, width] (R = 1 px),
    "log_variance" and "logits" [batch, height, width, components], at the target's size and in px
    of the source. `match`, which is the default, takes "source" and "target" as uint8
    [batch, height, width, 3] of any size; `match_encoded` as the bytes of JPEG or PNG files
    [batch]. The network sees the target's size, whatever it is: a server should bound what it
    accepts.

    Args:
        name: what `tfdense.models.load` takes.
        folder: for the numbered versions; this one gets the next number.

    Returns:
        What was written, after running both and comparing them with Keras.

    Raises:
        InputError: if there is no such network.
        OutputError: if the folder is a file or cannot be written to.
        VerificationError: if a difference exceeds its bound; then this version is not kept.
    """
    folder = Path(folder)
    check_folder(folder)
    model, config = load(name)
    version = folder / str(_next_version(folder))
    size = _verified_size(model)
    description = describe(model, config, None, licence_of(name))
    with replacing(version, tf.errors.OpError) as temporary:
        _save(model, temporary)
        _write_extra_assets(temporary, folder.resolve().name, model, description)
        loaded = tf.saved_model.load(str(temporary))
        runs = [functools.partial(_run, loaded, signature) for signature in _SIGNATURES]
        return verify(version, temporary, [(run, keras_run(model)) for run in runs], [size])


def _next_version(folder: Path) -> int:
    versions = (int(path.name) for path in folder.glob("*/") if path.name.isdecimal())
    return 1 + max(versions, default=0)


def _verified_size(model: keras.Model) -> tuple[int, int]:
    side = -(-max(_VERIFIED_SIDE, model.minimum_size) // model.stride) * model.stride
    return side, side


def _save(model: keras.Model, folder: Path) -> None:
    match = _function(functools.partial(signatures.match, model), _IMAGES)
    match_encoded = _function(functools.partial(signatures.match_encoded, match), _ENCODED)
    module = tf.Module()
    module.model_variables = [weight.value for weight in model.weights]
    tf.saved_model.save(
        module,
        str(folder),
        signatures={"serving_default": match, "match": match, "match_encoded": match_encoded},
    )


def _function(function: Callable, spec: tf.TensorSpec) -> Callable:
    return tf.function(function, input_signature=[spec, spec], autograph=False)


def _write_extra_assets(folder: Path, name: str, model: keras.Model, description: dict) -> None:
    """Writes what belongs to a SavedModel but TensorFlow does not know of."""
    extra = folder / "assets.extra"
    extra.mkdir()
    content = json.dumps(description, indent=2)
    (extra / "tfdense.json").write_text(content, encoding="utf-8")
    pair = read_pair(_verified_size(model))
    requests = {signature: _inputs(signature, *pair) for signature in _SIGNATURES}
    write_warm_up_requests(extra / "tf_serving_warmup_requests", name, requests)


def _run(loaded, signature: str, source: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    """Answers two images uint8 [height, width, 3] by a signature."""
    inputs = _inputs(signature, source, target)
    answer = loaded.signatures[signature](**{name: tf.constant(x) for name, x in inputs.items()})
    return {name: values[0].numpy() for name, values in answer.items()}


def _inputs(signature: str, source: np.ndarray, target: np.ndarray) -> dict:
    """Returns what a signature takes for two images: a batch of one each."""
    if signature == "match_encoded":
        return {"source": [_png(source)], "target": [_png(target)]}
    return {"source": source[None], "target": target[None]}


def _png(image: np.ndarray) -> bytes:
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()
