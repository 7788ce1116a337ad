"""Exporting to a .tflite file, which LiteRT runs on devices."""

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert_phase import ConverterError

from tfdense.errors import InputError
from tfdense.exporting.flatbuffer import (
    add_metadata,
    halve_kernels,
    merge,
    quantize_kernels,
    round_kernels,
    round_kernels_to_bytes,
)
from tfdense.exporting.metadata import describe
from tfdense.exporting.signatures import check_size, match_fixed
from tfdense.exporting.verification import ExportReport, Run, keras_run, verify
from tfdense.files import check_outputs, check_suffix, replacing, reporting
from tfdense.lite import LiteMatcher
from tfdense.models import load
from tfdense.models.presets import licence_of
from tfdense.networks import run_files
from tfdense.tflite_files import (
    SIGNATURE,
    count_operations,
    foreign_operations,
    read_operations,
    signature_names,
)

PRECISIONS = ("float32", "float16", "int8")


def export_tflite(
    name: str | Path,
    path: str | Path,
    size: tuple[int, int] | Sequence[tuple[int, int]] = (256, 256),
    precision: str = "float32",
) -> ExportReport:
    """Writes a network as a .tflite file of operations that are built into LiteRT.

    Its signature `match` takes "source" and "target", uint8 [1, height, width, 3], and answers
    "flow" [1, height, width, 2], "confidence" [1, height, width] (R = 1 px), "log_variance" and
    "logits" [1, height, width, components]. `tfdense.lite.LiteMatcher` is a client.

    Args:
        name: what `tfdense.models.load` takes.
        path: of the file, which ends in .tflite.
        size: (height, width), which the file is bound to; or several, of each of which it then has
            a signature such as `match_384x512`, with the weights in common; `match` is the first.
        precision: of the kernels; "float32", "float16" for a file of half the size, see
            `halve_kernels`, or "int8" for one of a third, see `quantize_kernels`. All are computed
            with in float32.

    Returns:
        What was written, after running it in LiteRT and comparing it with Keras.

    Raises:
        InputError: if there is no such network, it does not take this size or uses an operation
            that is not built into LiteRT, the file would replace one of the network's, or its name
            does not end in .tflite.
        OutputError: if the file cannot be written.
        VerificationError: if the difference exceeds its bound; then no file is left.
    """
    if precision not in PRECISIONS:
        raise InputError(f"Expected a precision of {PRECISIONS}. Received: {precision!r}")
    path = Path(path)
    check_outputs([path], run_files(name))
    check_suffix(path, ".tflite")
    model, config = load(name)
    sizes = _check_sizes(model, size)
    description = {
        **describe(model, config, sizes[0], licence_of(name)),
        "sizes": sizes,
        "precision": precision,
    }
    plain = _convert_sizes(model, sizes, list(signature_names(description).values()))
    content = add_metadata(plain, description)
    chain = [(_run(content), keras_run(model))]
    if precision != "float32":
        changes = (round_kernels, halve_kernels)
        if precision == "int8":
            changes = (round_kernels_to_bytes, quantize_kernels)
        rounded, content = (add_metadata(change(plain), description) for change in changes)
        chain.append((_run(content), _run(rounded)))
    operations = count_operations(read_operations(content, graph=0))
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        return verify(path, temporary, chain, sizes, precision, operations)


def _convert_sizes(
    model: keras.Model, sizes: Sequence[tuple[int, int]], names: Sequence[str]
) -> bytes:
    """Converts a network for each size, into one file with signatures of these names."""
    contents = []
    for size in sizes:
        spec = tf.TensorSpec([1, *size, 3], tf.uint8)
        function = functools.partial(match_fixed, model)
        contents.append(convert(function, {"source": spec, "target": spec}))
    return merge(contents, names) if len(contents) > 1 else contents[0]


def convert(
    function: Callable[..., dict[str, tf.Tensor]], inputs: dict[str, tf.TensorSpec]
) -> bytes:
    """Converts a function of tensors to a .tflite file with the signature `match`.

    Args:
        function: takes the inputs by name and returns tensors by name.
        inputs: static shapes.

    Raises:
        InputError: if an operation is not built into LiteRT.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(**inputs)
    module = tf.Module()
    module.model_variables = list(traced.graph.variables)
    with tempfile.TemporaryDirectory() as folder:
        with reporting(folder, tf.errors.OpError):
            tf.saved_model.save(
                module,
                folder,
                signatures={SIGNATURE: traced},
                # Gradients would need the weights as variables, which would not be converted.
                options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
            )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        try:
            content = converter.convert()
        except ConverterError as error:
            raise InputError(f"LiteRT cannot run this network: {error}") from None
    if foreign := list(foreign_operations(count_operations(read_operations(content)))):
        raise InputError(f"These operations are not built into LiteRT: {', '.join(foreign)}")
    return content


def _run(content: bytes) -> Run:
    """Returns the function of two images that a file with this content computes in LiteRT."""
    with reporting(tempfile.gettempdir()), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        path.write_bytes(content)
        return LiteMatcher(path).run


def _check_sizes(model: keras.Model, size) -> list[tuple[int, int]]:
    """Returns the sizes asked for, one or several.

    Raises:
        InputError: if the network does not take one, or one is there twice.
    """
    sizes = [tuple(each) for each in (size if np.ndim(size) == 2 else [size])]
    for each in sizes:
        check_size(model, each)
    if len({*sizes}) < len(sizes):
        received = ", ".join(f"{height}x{width}" for height, width in sizes)
        raise InputError(f"Expected each size once. Received: {received}")
    return sizes
