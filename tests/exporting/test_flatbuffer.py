"""Kernels of float16 in a .tflite file."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfdense.exporting.flatbuffer import halve_kernels, round_kernels
from tfdense.exporting.tflite import convert


@pytest.fixture(scope="module")
def kernel():
    return np.random.default_rng(0).normal(size=(1, 1, 16, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def content(kernel):
    """A file with a kernel, and with constants that float16 cannot hold."""

    def function(x):
        y = tf.minimum(tf.nn.conv2d(x, kernel, 1, "SAME"), 520.0**2)
        return {"y": y, "z": x / tf.maximum(x, 1e-8)}

    return convert(function, {"x": tf.TensorSpec([1, 4, 6, 16], tf.float32)})


@pytest.mark.parametrize("change", [halve_kernels, round_kernels])
def test_only_kernels_are_rounded(content, kernel, change):
    x = np.random.default_rng(1).normal(size=(1, 4, 6, 16)).astype(np.float32)
    x[0, 0, 0] = 0.0
    x[0, 0, 1] = 1e7 * kernel[0, 0, :, 0]
    runner = Interpreter(model_content=change(content)).get_signature_runner("match")
    answer = runner(x=x)
    rounded = kernel[0, 0].astype(np.float16).astype(np.float64)
    expected = np.minimum(x @ rounded, 520.0**2)
    # Large terms may cancel: sums in float32 are exact to a part of the terms, not of the sum.
    assert (np.abs(answer["y"] - expected) <= 2e-6 * (np.abs(x) @ np.abs(rounded))).all()
    assert answer["y"].max() == 520.0**2
    np.testing.assert_array_equal(answer["z"], x / np.maximum(x, np.float32(1e-8)))


def test_kernels_take_half_the_room(content, kernel):
    assert kernel.tobytes() not in halve_kernels(content)
    saved = len(round_kernels(content)) - len(halve_kernels(content))
    assert 0.7 < saved / (kernel.nbytes / 2) < 1.0
