"""Each operation of the project, in LiteRT against TensorFlow."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfdense.exporting.tflite import convert
from tfdense.geometry import resize_area, resize_bilinear, resize_flow
from tfdense.mixture import GaussianUniformMixture, LaplaceMixture
from tfdense.ops import correlation, forward_backward_error, warping

FEATURES = (1, 12, 10, 8)

CASES = {
    "local correlation": (functools.partial(correlation.local, radius=4), FEATURES, FEATURES),
    "all pairs": (correlation.all_pairs, FEATURES, (1, 6, 7, 8)),
    "warp": (warping.bilinear, FEATURES, (1, 9, 13, 2)),
    # Clipping to [0, 6] or [0, 1], the converter may take for a kind of ReLU.
    "warp of sides 7 and 2": (warping.bilinear, (1, 7, 2, 8), (1, 9, 13, 2)),
    # For infinity LiteRT gives the largest number.
    "cycle": (
        lambda *x: tf.minimum(forward_backward_error(*x), 1e3),
        (1, 12, 10, 2),
        (1, 9, 13, 2),
    ),
    "bilinear resize": (lambda x: resize_bilinear(x, (31, 17)), FEATURES),
    "area resize": (lambda x: resize_area(x, (5, 17)), FEATURES),
    "flow resize": (lambda x: resize_flow(x, (31, 17)), (1, 12, 10, 2)),
    "laplace confidence": (LaplaceMixture(900.0).confidence, (1, 9, 9, 2), (1, 9, 9, 2)),
    "gaussian confidence": (GaussianUniformMixture(30.0).confidence, (1, 9, 9, 2), (1, 9, 9, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_operation(case):
    function, *shapes = CASES[case]
    names = ["first", "second"][: len(shapes)]
    random = np.random.default_rng(1)
    inputs = {
        name: random.normal(size=shape).astype(np.float32)
        for name, shape in zip(names, shapes, strict=True)
    }
    if case == "warp":
        inputs["second"] *= 5
        far = [[1e9, 0], [-1e9, 3], [0, 1e30], [-1e30, -1e30], [9, 11], [-1, -1], [0, 0]]
        inputs["second"][0, 0, : len(far)] = far

    def named(**tensors):
        return {"output": function(*(tensors[name] for name in names))}

    content = convert(named, {name: tf.TensorSpec(x.shape) for name, x in inputs.items()})
    runner = Interpreter(model_content=content).get_signature_runner("match")
    answer = runner(**inputs)["output"]
    expected = function(*inputs.values()).numpy()
    assert answer.shape == expected.shape and np.ptp(expected) > 0.1
    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)
