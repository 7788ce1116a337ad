"""Exporting to a .tflite file, which LiteRT runs on devices."""

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tensorflow.lite.python.convert_phase import ConverterError

from tfdense.errors import InputError
from tfdense.exporting.metadata import describe
from tfdense.exporting.signatures import match_fixed
from tfdense.exporting.verification import BOUNDS, ExportReport, verify
from tfdense.files import replacing
from tfdense.lite import METADATA_NAME, LiteMatcher, count_operations, foreign_operations
from tfdense.models import load

SIGNATURE = "match"
PRECISIONS = tuple(BOUNDS)
_FILE_IDENTIFIER = b"TFL3"


def export_tflite(
    name: str | Path,
    path: str | Path,
    size: tuple[int, int] = (256, 256),
    precision: str = "float32",
) -> ExportReport:
    """Writes a network as a .tflite file of operations that are built into LiteRT.

    Its signature `match` takes "source" and "target", uint8 [1, height, width, 3], and answers
    "flow" [1, height, width, 2], "confidence" [1, height, width] (R = 1 px), "log_variance" and
    "logits" [1, height, width, components]. `tfdense.lite.LiteMatcher` is a client.

    Args:
        name: what `tfdense.models.load` takes.
        path: of the file.
        size: (height, width), which the file is bound to.
        precision: "float32", or "float16" for weights of half the size.

    Returns:
        What was written, after running it in LiteRT and comparing it with Keras.

    Raises:
        InputError: if there is no such network, it does not take this size or uses an operation
            that is not built into LiteRT.
        VerificationError: if the difference exceeds its bound; then no file is left.
    """
    if precision not in PRECISIONS:
        raise InputError(f"Expected a precision of {PRECISIONS}. Received: {precision!r}")
    path = Path(path)
    if path.is_dir():
        raise InputError(f"Expected the path of a file. Received: {path}, which is a folder.")
    model, config = load(name)
    _check_size(model, size)
    spec = tf.TensorSpec([1, *size, 3], tf.uint8)
    function = functools.partial(match_fixed, model)
    content = convert(function, {"source": spec, "target": spec}, precision)
    content = add_metadata(content, describe(model, config, size))
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        return verify(
            path,
            temporary,
            LiteMatcher(temporary).run,
            model,
            size,
            precision,
            count_operations(content),
        )


def convert(
    function: Callable[..., dict[str, tf.Tensor]],
    inputs: dict[str, tf.TensorSpec],
    precision: str = "float32",
) -> bytes:
    """Converts a function of tensors to a .tflite file with the signature `match`.

    Args:
        function: takes the inputs by name and returns tensors by name.
        inputs: static shapes.
        precision: of the constants, "float32" or "float16".

    Raises:
        InputError: if an operation is not built into LiteRT.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(**inputs)
    module = tf.Module()
    module.model_variables = list(traced.graph.variables)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(
            module,
            folder,
            signatures={SIGNATURE: traced},
            # Gradients would need the weights as variables, which would then not be converted.
            options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        if precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        try:
            content = converter.convert()
        except ConverterError as error:
            raise InputError(f"LiteRT cannot run this network: {error}") from None
    if foreign := foreign_operations(count_operations(content)):
        raise InputError(f"These operations are not built into LiteRT: {', '.join(foreign)}")
    return content


def add_metadata(content: bytes, description: dict) -> bytes:
    """Writes a description into a .tflite file, as the buffer TFDENSE_METADATA."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(description).encode(), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)
    builder = _AlignedBuilder(len(content))
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


class _AlignedBuilder(flatbuffers.Builder):
    """Places bytes at multiples of 16, as the schema demands of buffers but Python forgets."""

    def CreateNumpyVector(self, x):
        if x.dtype != np.uint8:
            return super().CreateNumpyVector(x)
        self.StartVector(1, x.size, 16)
        self.head -= x.size
        self.Bytes[self.head : self.head + x.size] = x.tobytes()
        return self.EndVector()


def _check_size(model: keras.Model, size: tuple[int, int]) -> None:
    if any(side % model.stride or side < model.minimum_size for side in size):
        raise InputError(
            f"Expected a height and width divisible by {model.stride} and at least "
            f"{model.minimum_size}. Received: {tuple(size)}"
        )
