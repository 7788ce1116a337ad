"""Whether GPUs of devices can run the networks that ship, in float16 too."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tfdense.exporting.gpu_delegate import left_to_cpu
from tfdense.exporting.signatures import match_fixed
from tfdense.exporting.tflite import convert
from tfdense.exporting.verification import read_pair
from tfdense.models import load
from tfdense.tflite_files import read_operations

_SIZE = (128, 160)
_LARGEST = float(np.finfo(np.float16).max)
_SUMS = ("MEAN", "SUM")


@pytest.fixture(scope="module")
def content():
    network, _ = load("pdcnet-lite")
    spec = tf.TensorSpec([1, *_SIZE, 3], tf.uint8)
    return convert(functools.partial(match_fixed, network), {"source": spec, "target": spec})


def test_nothing_is_left_to_the_cpu(content):
    operations = read_operations(content)
    assert len(operations) > 1000 and left_to_cpu(operations) == []


def test_all_values_and_sums_are_within_float16(content):
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    source, target = read_pair(_SIZE)
    interpreter.get_signature_runner("match")(source=source[None], target=target[None])
    indices = {each["name"]: each["index"] for each in interpreter.get_tensor_details()}
    magnitudes = {}
    for operation in read_operations(content):
        for output in operation.outputs:
            magnitudes[output.name] = np.abs(interpreter.get_tensor(indices[output.name])).max()
        if operation.name in _SUMS:
            values, axes = operation.inputs
            terms = np.abs(interpreter.get_tensor(indices[values.name]))
            total = terms.sum(axis=tuple(axes.values.reshape(-1)))
            magnitudes[f"sum of {values.name}"] = total.max()
    assert len(magnitudes) > 1000
    assert not {name: value for name, value in magnitudes.items() if not value < _LARGEST}
