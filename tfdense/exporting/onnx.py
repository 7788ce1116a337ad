"""Exporting to ONNX, which ONNX Runtime, OpenVINO, TensorRT and others run."""

import functools
import importlib
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.exporting.metadata import describe
from tfdense.exporting.signatures import check_size, match_fixed
from tfdense.exporting.verification import ExportReport, Run, keras_run, verify
from tfdense.files import check_outputs, check_suffix, replacing
from tfdense.models import load
from tfdense.models.presets import licence_of
from tfdense.networks import run_files

OPSET = 18
DESCRIPTION = "tfdense"
"""The key of the description among the file's own metadata."""

_ROLES = ("source", "target")


def export_onnx(
    name: str | Path, path: str | Path, size: tuple[int, int] = (480, 640)
) -> ExportReport:
    """Writes a network as a .onnx file of ONNX's own operations, from the graph of all exports.

    It takes "source" and "target", uint8 [batch, height, width, 3], and answers "flow"
    [batch, height, width, 2], "confidence" [batch, height, width] (R = 1 px), "log_variance" and
    "logits" [batch, height, width, components].

    Args:
        name: what `tfdense.models.load` takes.
        path: of the file, which ends in .onnx.
        size: (height, width), which the file is bound to.

    Returns:
        What was written, after running it in ONNX Runtime, as a pair alone and within a batch of
        two, and comparing it with Keras.

    Raises:
        InputError: if there is no such network, it does not take this size or uses an operation
            that ONNX does not have, the file would replace one of the network's, its name does not
            end in .onnx, or a package of the extra `onnx` is missing.
        OutputError: if the file cannot be written.
        VerificationError: if the difference exceeds its bound; then no file is left.
    """
    onnx, _, _ = map(_package, ("onnx", "onnxruntime", "tf2onnx"))
    path = Path(path)
    check_outputs([path], run_files(name))
    check_suffix(path, ".onnx")
    model, config = load(name)
    check_size(model, size)
    program = convert(functools.partial(match_fixed, model), [None, *size, 3])
    description = describe(model, config, size, licence_of(name))
    onnx.helper.set_model_props(program, {DESCRIPTION: json.dumps(description)})
    content = program.SerializeToString()
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        runs = [(run, keras_run(model)) for run in _runs(content)]
        return verify(path, temporary, runs, [size], operations=_count(program))


def convert(function, shape: list[int | None]):
    """Converts a function of two batches of images to ONNX.

    Args:
        function: takes the tensors `source` and `target`, and returns tensors by name.
        shape: of either batch, uint8.

    Returns:
        An `onnx.ModelProto`.

    Raises:
        InputError: if an operation is not among ONNX's.
    """
    onnx, tf2onnx = map(_package, ("onnx", "tf2onnx"))
    specs = [tf.TensorSpec(shape, tf.uint8, role) for role in _ROLES]
    program, _ = tf2onnx.convert.from_function(
        tf.function(function, input_signature=specs, autograph=False),
        input_signature=specs,
        opset=OPSET,
        custom_op_handlers={"Expm1": (_expm1, [])},
    )
    names = {node.op_type for node in program.graph.node if not onnx.defs.has(node.op_type)}
    if names:
        raise InputError(f"ONNX does not have these operations: {', '.join(sorted(names))}")
    return program


def _expm1(context, node, name, arguments) -> None:
    """Writes e^x - 1, which tf2onnx does not know. Of probabilities, float32 is exact enough."""
    (argument,), (answer,) = node.input, node.output
    shape, kind = context.get_shape(answer), context.get_dtype(answer)
    context.remove_node(node.name)
    one = context.make_const(f"{name}_one", np.float32(1))
    power = context.make_node("Exp", [argument])
    context.make_node(
        "Sub", [power.output[0], one.output[0]], outputs=[answer], shapes=[shape], dtypes=[kind]
    )


def _runs(content: bytes) -> list[Run]:
    """Returns functions of two images that a file with this content computes in ONNX Runtime."""
    session = _package("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def alone(source, target):
        answer = session.run(None, {"source": source[None], "target": target[None]})
        return {name: values[0] for name, values in zip(names, answer, strict=True)}

    def in_a_batch(source, target):
        pairs = {"source": np.stack([target, source]), "target": np.stack([source, target])}
        return {
            name: values[1] for name, values in zip(names, session.run(None, pairs), strict=True)
        }

    return [alone, in_a_batch]


def _count(program) -> dict[str, int]:
    names = [node.op_type for node in program.graph.node]
    return {name: names.count(name) for name in sorted({*names})}


def _package(name: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"Exporting to ONNX needs the package {name}: pip install 'tfdense[onnx]'."
        ) from None
