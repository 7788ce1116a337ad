"""Single operations, and whether a GPU delegate takes them.

What is expected is what LiteRT's WebGPU delegate says of such files, or what it computes wrongly,
but for what only the older delegate refuses.
"""

import numpy as np
import pytest
import tensorflow as tf

from tfdense.exporting.flatbuffer import halve_kernels
from tfdense.exporting.gpu_delegate import Left, left_to_cpu
from tfdense.exporting.tflite import convert
from tfdense.tflite_files import read_operations

_INDICES = np.array([4, 0, 2], np.int32)
_REST = [[0, 0], [1, 2], [0, 1], [0, 0]]

LEFT = {
    "log-softmax": (tf.nn.log_softmax, "LOG_SOFTMAX", "no delegate"),
    "gather_nd": (lambda x: tf.gather_nd(x, [[0, 1]]), "GATHER_ND", "no delegate"),
    "broadcast": (lambda x: tf.broadcast_to(x, [3, 6, 8, 4]), "BROADCAST_TO", "no delegate"),
    "indices with two axes": (
        lambda x: tf.gather(tf.reshape(x, [48, 4]), _INDICES[None]),
        "GATHER",
        "not exactly one axis",
    ),
    "an index without axes": (lambda x: tf.gather(x, 3, axis=1), "GATHER", "not exactly one axis"),
    "dropped axis": (lambda x: x[:, 2], "STRIDED_SLICE", "shrink_axis_mask"),
    "difference from itself": (lambda x: x - x, "SUB", "the same tensor twice"),
    "five axes": (lambda x: 2.0 * x[:, None], "MUL", "more than 4 axes"),
    "int64": (lambda x: tf.argmax(x, axis=-1), "ARG_MAX", "int64"),
    "bool": (lambda x: x > 0.0, "GREATER", "bool"),
    "three axes": (lambda x: tf.pad(x[:, 0], [[0, 0], [1, 1], [0, 0]]), "PAD", "not four axes"),
    "repeated border": (lambda x: tf.pad(x, _REST, "SYMMETRIC"), "MIRROR_PAD", "SYMMETRIC"),
    "broadcast matrices": (
        lambda x: tf.matmul(x, x[:, :1], transpose_b=True),
        "BATCH_MATMUL",
        "not equally many",
    ),
    "overflow": (lambda x: tf.minimum(x, 520.0**2), "MINIMUM", "infinite or zero"),
    "underflow": (lambda x: x + 1e-8, "ADD", "infinite or zero"),
}

TAKEN = {
    "softmax": tf.nn.softmax,
    "gather": lambda x: tf.gather(x, _INDICES, axis=2),
    "slice": lambda x: x[:, 1:3, :, 2:3],
    "sum": lambda x: x + 2.0 * x,
    "square": lambda x: x * x,
    "maximum": lambda x: tf.reduce_max(x, axis=-1, keepdims=True),
    "index of the maximum": lambda x: tf.argmax(x, axis=-1, output_type=tf.int32),
    "matrices": lambda x: tf.matmul(x, x[:, ::-1], transpose_b=True),
    "pad": lambda x: tf.pad(x, _REST),
    "reflected border": lambda x: tf.pad(x, _REST, "REFLECT"),
    "resize": lambda x: tf.image.resize(x, [9, 9]),
    "large and small constants": lambda x: x * [1e-9, 1.0, 60000.0, -60000.0],
}


def left(function):
    image = tf.TensorSpec([1, 6, 8, 4], tf.float32)
    return left_to_cpu(read_operations(convert(lambda x: {"y": function(x)}, {"x": image})))


@pytest.mark.parametrize("case", LEFT)
def test_left(case):
    function, name, reason = LEFT[case]
    found = {each.name: each for each in left(function)}
    assert found[name].count == 1 and reason in found[name].reason


@pytest.mark.parametrize("case", TAKEN)
def test_taken(case):
    assert left(TAKEN[case]) == []


def test_operations_of_one_reason_are_counted_together():
    def function(x):
        return tf.concat([tf.exp(x[:, i]) for i in range(3)] + [tf.nn.log_softmax(x)[:, 0]], -1)

    slices, logarithm = left(function)
    assert slices[:1] + slices[2:] == ("STRIDED_SLICE", 4)
    assert logarithm == Left("LOG_SOFTMAX", "no delegate has this operation", 1)


def test_kernels_of_float16_are_taken():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 8)).astype(np.float32)
    image = tf.TensorSpec([1, 6, 8, 4], tf.float32)
    content = convert(lambda x: {"y": tf.nn.conv2d(x, kernel, 1, "SAME")}, {"x": image})
    operations = read_operations(halve_kernels(content))
    assert [each.name for each in operations] == ["DEQUANTIZE", "CONV_2D"]
    assert left_to_cpu(operations) == []
