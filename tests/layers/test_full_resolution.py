"""The level at full resolution, untrained: it starts as an interpolation with a refinement."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tfdense.exporting.tflite import convert
from tfdense.geometry import resize_bilinear
from tfdense.layers.full_resolution import FullResolution, _bilinear_logits, _enlarge

SIZE, CELLS = 64, 16
NAMES = ("flow", "raw", "state", "target", "source")


@pytest.fixture
def inputs(texture):
    """A shift of (2, 1) px, known to the network but for some noise, and a mixture."""
    random = np.random.default_rng(0)
    large = texture(SIZE + 8, SIZE + 8)
    flow = np.float32([2, 1]) + random.normal(scale=0.4, size=(1, CELLS, CELLS, 2))
    return {
        "flow": flow.astype(np.float32),
        "raw": random.normal(size=(1, CELLS, CELLS, 4)).astype(np.float32),
        "state": random.normal(size=(1, CELLS, CELLS, 8)).astype(np.float32),
        "target": large[None, 4:-4, 4:-4],
        "source": large[None, 3:-5, 2:-6],
    }


def level(passes=1, inputs=None):
    keras.utils.set_random_seed(0)
    layer = FullResolution(passes, channels=8)
    if inputs is not None:
        layer(**inputs)
    return layer


def test_enlarging_starts_as_bilinear_interpolation():
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    logits = np.broadcast_to(_bilinear_logits(), (2, 5, 7, 144))
    enlarged = np.moveaxis(_enlarge(x, logits), 1, -1)
    assert enlarged.shape == (2, 20, 28, 3)
    # Each weight is 0.01 too large.
    np.testing.assert_allclose(enlarged, resize_bilinear(x, (20, 28)), atol=0.2)
    assert np.abs(enlarged - resize_bilinear(x, (20, 28))).mean() < 0.05


@pytest.mark.parametrize("neighbour", range(9))
def test_each_pixel_can_take_any_of_the_nine_cells(neighbour):
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 1)).astype(np.float32)
    logits = np.full((1, 4, 4, 9, 16), -15.0, np.float32)
    logits[..., neighbour, 6] = 15.0  # the third pixel of the second row of each cell
    taken = _enlarge(x, logits.reshape(1, 4, 4, 144))[0, 0, 1::4, 2::4].numpy()
    dy, dx = np.divmod(neighbour, 3)
    expected = np.pad(x[0, ..., 0], 1, "edge")[dy : dy + 4, dx : dx + 4]
    np.testing.assert_allclose(taken, expected, atol=1e-5)


def test_the_untrained_level_improves_a_noisy_flow(inputs):
    flow, raw = level()(**inputs)[0]
    assert flow.shape == (1, SIZE, SIZE, 2) and raw.shape == (1, SIZE, SIZE, 4)
    before = np.abs(resize_bilinear(inputs["flow"], (SIZE, SIZE)) - [2.0, 1.0])
    after = np.abs(flow - [2.0, 1.0])
    inner = np.s_[:, 6:-6, 6:-6]
    assert after[inner].mean() < 0.25 * before[inner].mean()


def test_passes_share_their_weights_and_the_first_is_the_same(inputs):
    one, three = level(1, inputs), level(3, inputs)
    assert [w.shape for w in one.weights] == [w.shape for w in three.weights]
    three.set_weights(one.get_weights())
    answers = three(**inputs)
    assert len(answers) == 3
    for expected, answer in zip(one(**inputs)[0], answers[0], strict=True):
        np.testing.assert_array_equal(expected, answer)
    assert np.abs(answers[1][0] - answers[0][0]).max() > 1e-4


def gradients_of(layer):
    def gradients(**inputs):
        with tf.GradientTape() as tape:
            flow, raw = layer(**inputs)[-1]
            loss = tf.reduce_mean(tf.square(flow - [2.0, 1.0])) + tf.reduce_mean(tf.square(raw))
        return loss, tape.gradient(loss, [v.value for v in layer.trainable_variables])

    return gradients


def test_every_weight_gets_a_gradient_and_xla_computes_the_same(inputs):
    layer = level(1, inputs)
    loss, expected = gradients_of(layer)(**inputs)
    compiled_loss, compiled = tf.function(gradients_of(layer), jit_compile=True)(**inputs)
    np.testing.assert_allclose(compiled_loss, loss, rtol=1e-4)
    for variable, one, other in zip(layer.trainable_variables, expected, compiled, strict=True):
        assert one is not None and np.any(one != 0), variable.path
        scale = np.abs(one).max()
        np.testing.assert_allclose(one / scale, other / scale, atol=1e-2, err_msg=variable.path)


def test_litert_answers_the_same_with_tensors_of_four_axes_at_most(inputs):
    layer = level(1, inputs)

    def answer(**tensors):
        flow, raw = layer(**tensors)[0]
        return {"flow_out": flow, "raw_out": raw}

    content = convert(answer, {name: tf.TensorSpec(inputs[name].shape) for name in NAMES})
    interpreter = Interpreter(model_content=content)
    assert max(len(x["shape"]) for x in interpreter.get_tensor_details()) <= 4
    runner = interpreter.get_signature_runner("match")
    expected, result = answer(**inputs), runner(**inputs)
    for name, values in expected.items():
        np.testing.assert_allclose(result[name], values, atol=2e-4)


def test_the_configuration_rebuilds_the_level():
    config = FullResolution(2, channels=8, fields=3).get_config()
    assert FullResolution.from_config(config).get_config() == config
