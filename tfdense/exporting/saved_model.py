"""Exporting to a SavedModel, which TensorFlow Serving loads."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf

from tfdense.exporting import encoded_pairs, signatures
from tfdense.exporting.metadata import SIGNATURES, describe
from tfdense.exporting.verification import (
    LARGEST,
    Difference,
    ExportReport,
    VerificationError,
    keras_run,
    read_pair,
    verify,
)
from tfdense.exporting.warm_up import write_warm_up_requests
from tfdense.files import adding_version, check_folder
from tfdense.models import load
from tfdense.models.presets import licence_of
from tfdense.saved_models import SavedModel

_VERIFIED_SIDE = 256
_WITHOUT_MASKS = ("match", "match_encoded", "match_points")
_IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8)
_MASKS = tf.TensorSpec([None, None, None], tf.uint8)
_ENCODED = tf.TensorSpec([None], tf.string)
_POINTS = tf.TensorSpec([None, None, 2], tf.float32)
# Read by TensorFlow Serving with --enable_per_model_batching_params. Requests join a batch only
# if their tensors have the same shapes, which those of encoded images always have.
_BATCHING = """\
max_batch_size { value: 8 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 16 }
num_batch_threads { value: 2 }
"""


def export_saved_model(name: str | Path, folder: str | Path) -> ExportReport:
    """Writes a network as SavedModel with the signatures `match`, `match_encoded`, `match_points`.

    Each has a twin that takes masks too, `match_masked` and so on.
    `tfdense.exporting.metadata.SIGNATURES` says what they take and answer, and so does
    ``assets.extra/tfdense.json`` in the folder; `match` is also the default. The network sees the
    target's size, whatever it is: a server should bound what it accepts. Each version comes into
    its place in one step, when it is complete and was compared with Keras.

    Args:
        name: what `tfdense.models.load` takes.
        folder: for the numbered versions; this one gets the next number.

    Returns:
        What was written, after running the signatures without masks and comparing them with Keras.

    Raises:
        InputError: if there is no such network.
        OutputError: if the folder is a file or cannot be written to.
        VerificationError: if a difference exceeds its bound; then this version is not kept.
    """
    folder = Path(folder)
    check_folder(folder)
    model, config = load(name)
    size = _verified_size(model)
    description = describe(model, config, None, licence_of(name), SIGNATURES)
    with adding_version(folder, tf.errors.OpError) as version:
        temporary = version.path
        _save(model, temporary)
        _write_extra_assets(temporary, folder.resolve().name, model, description)
        loaded = SavedModel(temporary)
        runs = [functools.partial(_run, loaded, name) for name in _WITHOUT_MASKS[:2]]
        report = verify(folder, temporary, [(run, keras_run(model)) for run in runs], [size])
        _check_points(loaded, *read_pair(size))
    return dataclasses.replace(report, path=version.path)


def _verified_size(model: keras.Model) -> tuple[int, int]:
    side = -(-max(_VERIFIED_SIDE, model.minimum_size) // model.stride) * model.stride
    return side, side


def _save(model: keras.Model, folder: Path) -> None:
    module = tf.Module()
    module.model_variables = [weight.value for weight in model.weights]
    functions = _functions(model)
    tf.saved_model.save(
        module, str(folder), signatures={"serving_default": functions["match"], **functions}
    )


def _functions(model: keras.Model) -> dict[str, Callable]:
    """Returns the functions of the signatures; they call each other, so that each is stored once.

    Inputs that may be left out would do with half as many, but `tf.saved_model.load` knows none.
    """
    match = _function(functools.partial(signatures.match, model), *[_IMAGES] * 2)
    masked = functools.partial(signatures.match_masked, match)
    masked = _function(masked, *[_IMAGES] * 2, *[_MASKS] * 2)
    pair = functools.partial(encoded_pairs.match_pair, masked)
    pair = _function(pair, *[tf.TensorSpec([], tf.string)] * 4)
    encoded = functools.partial(encoded_pairs.match_encoded, pair)
    encoded = _function(encoded, *[_ENCODED] * 4)
    points = functools.partial(encoded_pairs.match_points, pair)
    points = _function(points, *[_ENCODED] * 2, _POINTS, *[_ENCODED] * 2)

    def match_encoded(source, target):
        return encoded(source, target, *[tf.constant([b""])] * 2)

    def match_points(source, target, target_points):
        return points(source, target, target_points, *[tf.constant([b""])] * 2)

    return {
        "match": match,
        "match_masked": masked,
        "match_encoded": _function(match_encoded, *[_ENCODED] * 2),
        "match_encoded_masked": encoded,
        "match_points": _function(match_points, *[_ENCODED] * 2, _POINTS),
        "match_points_masked": points,
    }


def _function(function: Callable, *specs: tf.TensorSpec) -> Callable:
    return tf.function(function, input_signature=specs, autograph=False)


def _write_extra_assets(folder: Path, name: str, model: keras.Model, description: dict) -> None:
    """Writes what belongs to a SavedModel but TensorFlow does not know of."""
    (folder / "batching_params.pbtxt").write_text(_BATCHING)
    extra = folder / "assets.extra"
    extra.mkdir()
    content = json.dumps(description, indent=2)
    (extra / "tfdense.json").write_text(content, encoding="utf-8")
    pair = read_pair(_verified_size(model))
    requests = {signature: _inputs(signature, *pair) for signature in _WITHOUT_MASKS}
    write_warm_up_requests(extra / "tf_serving_warmup_requests", name, requests)


def _check_points(loaded: SavedModel, source: np.ndarray, target: np.ndarray) -> None:
    """Compares what `match_points` says of some pixels with what `match_encoded` does.

    Raises:
        VerificationError: if they differ.
    """
    dense, points = (_run(loaded, f"match_{x}", source, target) for x in ("encoded", "points"))
    x, y = _some_points(target).astype(int).T
    places = dense["flow"][y, x] + np.stack([x, y], axis=-1)
    difference = Difference(
        np.abs(points["source_points"] - places).max(),
        np.abs(points["confidence"] - dense["confidence"][y, x]).max(),
    )
    if not difference.within(LARGEST):
        raise VerificationError(f"match_points and match_encoded differ: {difference}. Not kept.")


def _some_points(target: np.ndarray) -> np.ndarray:
    height, width = target.shape[:2]
    return np.float32([[0, 0], [width - 1, height - 1], [width // 2, height // 3]])


def _run(
    loaded: SavedModel, signature: str, source: np.ndarray, target: np.ndarray
) -> dict[str, np.ndarray]:
    """Answers two images uint8 [height, width, 3] by a signature."""
    answer = loaded.run(signature, _inputs(signature, source, target))
    return {name: values[0] for name, values in answer.items()}


def _inputs(signature: str, source: np.ndarray, target: np.ndarray) -> dict:
    """Returns what a signature takes for two images: a batch of one each."""
    if signature == "match":
        return {"source": source[None], "target": target[None]}
    images = {"source": [_png(source)], "target": [_png(target)]}
    if signature == "match_points":
        return {**images, "target_points": _some_points(target)[None]}
    return images


def _png(image: np.ndarray) -> bytes:
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()
