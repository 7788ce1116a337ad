"""The operations in LiteRT: converted with builtin operations only, and equal to TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfdense.ops import correlation, warp


def run_in_lite_runtime(function, *arguments):
    signature = [tf.TensorSpec(x.shape, x.dtype) for x in arguments]
    concrete = tf.function(function, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    for details, argument in zip(interpreter.get_input_details(), arguments, strict=True):
        interpreter.set_tensor(details["index"], argument)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def random_features(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("radius", [1, 4])
def test_local_correlation(radius):
    target, source = (random_features((1, 6, 9, 8), seed) for seed in (0, 1))

    def function(target, source):
        return correlation.local(target, source, radius)

    result = run_in_lite_runtime(function, target, source)
    np.testing.assert_allclose(result, function(target, source), atol=1e-5)


def test_all_pairs():
    target, source = random_features((1, 4, 5, 8), 0), random_features((1, 3, 6, 8), 1)
    result = run_in_lite_runtime(correlation.all_pairs, target, source)
    np.testing.assert_allclose(result, correlation.all_pairs(target, source), atol=1e-5)


# Sides of 2 and 7: the converter may take a clipping to [0, 1] or [0, 6] for a kind of ReLU.
@pytest.mark.parametrize("size", [(7, 9), (2, 7), (12, 2)])
def test_bilinear_warp(size):
    image, flow = random_features((1, *size, 3), 0), 4 * random_features((1, 5, 6, 2), 1)
    flow[0, 0, 0] = 1e9
    flow[0, 0, 1] = -1e9
    result = run_in_lite_runtime(warp.bilinear, image, flow)
    np.testing.assert_allclose(result, warp.bilinear(image, flow), atol=1e-5)
