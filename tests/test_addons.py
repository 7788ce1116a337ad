"""The drop-ins for TensorFlow Addons against their definition, written out in NumPy.

`tests/addons` compares them with TensorFlow Addons itself, where that runs.
"""

import re

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense import addons

# kernel_size, max_displacement, stride_1, stride_2, pad
_ARGUMENTS = [
    (1, 2, 1, 1, 2),
    (1, 3, 1, 2, 3),
    (3, 2, 1, 1, 3),
    (3, 2, 2, 2, 4),
    (1, 2, 2, 1, 2),
    (1, 2, 1, 1, 0),
    (1, 1, 1, 1, 3),
    (5, 2, 3, 1, 3),
]


def _features(shape, count=2):
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape).astype(np.float32) for _ in range(count)]


def _correlation(a, b, kernel, displacement, stride_1, stride_2, pad):
    """The sums as they are written."""
    batch, height, width, channels = a.shape
    k, r = (kernel - 1) // 2, displacement // stride_2
    rows, columns = (-(-(n + 2 * (pad - displacement - k)) // stride_1) for n in (height, width))
    output = np.zeros((batch, rows, columns, (2 * r + 1) ** 2))
    for place in np.ndindex(rows, columns, 2 * r + 1, 2 * r + 1, kernel, kernel):
        first = stride_1 * (np.array(place[:2]) - pad) + displacement + np.array(place[4:])
        second = first + stride_2 * (np.array(place[2:4]) - r)
        if all((p >= 0).all() and (p < a.shape[1:3]).all() for p in (first, second)):
            products = a[:, first[0], first[1]] * b[:, second[0], second[1]]
            channel = place[2] * (2 * r + 1) + place[3]
            output[:, place[0], place[1], channel] += products.sum(axis=-1)
    return output / (kernel**2 * channels)


@pytest.mark.parametrize("arguments", _ARGUMENTS, ids=str)
def test_correlation_cost_is_its_definition(arguments):
    a, b = _features((2, 7, 8, 3))
    expected = _correlation(a, b, *arguments)
    last = addons.CorrelationCost(*arguments, "channels_last")
    np.testing.assert_allclose(last([a, b]), expected, atol=1e-5)
    assert last.compute_output_shape([a.shape, b.shape]) == expected.shape
    first = addons.CorrelationCost(*arguments, "channels_first")
    a, b = (tf.constant(x.transpose(0, 3, 1, 2)) for x in (a, b))
    np.testing.assert_allclose(first([a, b]), expected.transpose(0, 3, 1, 2), atol=1e-5)
    assert first.compute_output_shape([a.shape, b.shape]) == first([a, b]).shape


def test_correlation_cost_of_any_size_and_under_xla():
    a, b = _features((1, 9, 10, 4))
    for arguments in ((3, 3, 2, 2, 1), (1, 2, 1, 1, 3)):
        layer = addons.CorrelationCost(*arguments, "channels_last")
        signature = [tf.TensorSpec([None, None, None, 4])] * 2
        dynamic = tf.function(lambda a, b, layer=layer: layer([a, b]), input_signature=signature)
        np.testing.assert_allclose(dynamic(a, b), layer([a, b]), atol=1e-6)
        compiled = tf.function(layer, jit_compile=True)
        np.testing.assert_allclose(compiled([a, b]), layer([a, b]), atol=1e-6)


@pytest.mark.parametrize("arguments", _ARGUMENTS, ids=str)
def test_gradient_of_correlation_cost(arguments):
    # The output is linear in each input, so that its change is known exactly.
    a, b, a_change, b_change = (tf.constant(x) for x in _features((1, 7, 8, 2), 4))
    layer = addons.CorrelationCost(*arguments, "channels_last")
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        output = layer([a, b])
        (upstream,) = _features(output.shape, 1)
        total = tf.reduce_sum(output * upstream)
    gradients = tape.gradient(total, [a, b])
    for gradient, change, changed in (
        (gradients[0], a_change, layer([a_change, b])),
        (gradients[1], b_change, layer([a, b_change])),
    ):
        expected = tf.reduce_sum(changed * upstream)
        np.testing.assert_allclose(tf.reduce_sum(gradient * change), expected, rtol=1e-4, atol=1e-4)


def test_correlation_cost_in_a_model_that_is_saved(tmp_path):
    inputs = [keras.Input((9, 8, 3)), keras.Input((9, 8, 3))]
    layer = addons.CorrelationCost(3, 2, 1, 2, 3, data_format="channels_last")
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, 9, 8, 9)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    features = _features((1, 9, 8, 3))
    np.testing.assert_array_equal(again(features), model(features))


def test_a_model_that_was_saved_with_addons_is_loaded(tmp_path):
    inputs = [keras.Input((9, 8, 3)), keras.Input((9, 8, 3))]
    layer = addons.CorrelationCost(1, 2, 1, 1, 2, data_format="channels_last")
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "a") as file:
        config = file.attrs["model_config"]
        file.attrs["model_config"] = config.replace("tfdense>Corr", "Addons>Corr")
    assert "Addons>CorrelationCost" in h5py.File(tmp_path / "model.h5").attrs["model_config"]
    again = keras.models.load_model(tmp_path / "model.h5", compile=False)
    assert any(isinstance(layer, addons.CorrelationCost) for layer in again.layers)
    features = _features((1, 9, 8, 3))
    np.testing.assert_array_equal(again(features), model(features))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 2, 1, 1, 2, "channels_last"), "`kernel_size` must be odd"),
        ((1, 2, 0, 1, 2, "channels_last"), "strides must be positive.*stride_1=0"),
        ((1, 2, 1, 1, -1, "channels_last"), "not negative.*pad=-1"),
        ((1, 2, 1, 1, 2, "NHWC"), "'NHWC'"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        addons.CorrelationCost(*arguments)


def test_refused_inputs():
    layer = addons.CorrelationCost(1, 4, 1, 1, 0, "channels_last")
    features = _features((1, 6, 20, 3))
    with pytest.raises(ValueError, match="list of two tensors"):
        layer(features[:1])
    with pytest.raises(ValueError, match="6 px is too short for a border of 4 px"):
        layer(features)
    with pytest.raises(ValueError, match="'yx'"):
        addons.interpolate_bilinear(features[0], np.zeros((1, 2, 2), np.float32), "yx")
    with pytest.raises(ValueError, match=r"Received: .* and \(1, 2\)"):
        addons.interpolate_bilinear(features[0], np.zeros((1, 2), np.float32))


def _bilinear(image, y, x, clamp: bool):
    """One position: with the nearest pixel outside, or with zero."""
    height, width, channels = image.shape
    if clamp:
        y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left, value = int(np.floor(y)), int(np.floor(x)), np.zeros(channels)
    for row, column in np.ndindex(2, 2):
        weight = abs(1 - row - (y - top)) * abs(1 - column - (x - left))
        if 0 <= top + row < height and 0 <= left + column < width:
            value += weight * image[top + row, left + column]
    return value


def _positions(count):
    """Positions (y, x) inside of an image of 5x7 px, around it, at its pixels and far away."""
    generator = np.random.default_rng(1)
    positions = generator.uniform((-3, -3), (8, 10), (2, count, 2))
    positions[:, :4] = np.round(positions[:, :4])
    positions[0, 4], positions[1, 5] = (1e9, -2.0), (-1e9, 3e9)
    return positions.astype(np.float32)


def test_interpolation_goes_on_beyond_the_border():
    (image,) = _features((2, 5, 7, 3), 1)
    positions = _positions(40)
    expected = [
        [_bilinear(i, *p, clamp=True) for p in ps] for i, ps in zip(image, positions, strict=True)
    ]
    np.testing.assert_allclose(addons.interpolate_bilinear(image, positions), expected, atol=1e-5)
    turned = addons.interpolate_bilinear(image, positions[..., ::-1], indexing="xy")
    np.testing.assert_allclose(turned, expected, atol=1e-5)


def test_dense_image_warp_subtracts_rows_first():
    (image,) = _features((1, 5, 7, 2), 1)
    (flow,) = 3 * np.array(_features((1, 5, 7, 2), 1))
    expected = np.zeros_like(image)
    for y, x in np.ndindex(5, 7):
        dy, dx = flow[0, y, x]
        expected[0, y, x] = _bilinear(image[0], y - dy, x - dx, clamp=True)
    warped = addons.dense_image_warp(image, flow)
    np.testing.assert_allclose(warped, expected, atol=1e-5)
    half = addons.dense_image_warp(image.astype(np.float16), flow)
    assert half.dtype == tf.float16
    np.testing.assert_allclose(half, expected, atol=1e-2)


def test_resampler_is_zero_outside():
    (image,) = _features((2, 5, 7, 3), 1)
    positions = _positions(40)
    expected = [
        [_bilinear(i, *p, clamp=False) for p in ps] for i, ps in zip(image, positions, strict=True)
    ]
    warp = positions[..., ::-1].reshape(2, 4, 1, 10, 2)
    sampled = addons.resampler(image, warp)
    assert sampled.shape == (2, 4, 1, 10, 3)
    np.testing.assert_allclose(sampled, np.reshape(expected, sampled.shape), atol=1e-5)
    one_each = addons.resampler(image, positions[:, 7, ::-1])
    np.testing.assert_allclose(one_each, np.array(expected)[:, 7], atol=1e-5)


@pytest.mark.parametrize("sample", [addons.interpolate_bilinear, addons.resampler])
def test_gradients_of_sampling(sample):
    (image,) = _features((1, 4, 5, 2), 1)
    # Away from whole positions, where the slope jumps; also outside.
    positions = np.random.default_rng(2).integers(-2, 6, (1, 12, 2)) + 0.37
    theirs, ours = tf.test.compute_gradient(sample, [image.astype(np.float64), positions], 1e-4)
    for analytic, numeric in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(analytic, numeric, atol=1e-8)


@pytest.mark.parametrize(
    ("image", "flow"),
    [
        ((1, 4, 5, 3), (4, 5, 2)),
        ((4, 5, 3), (4, 5, 2)),
        ((1, 4, 5, 3), (1, 4, 6, 2)),
        ((1, 4, 5, 3), (2, 4, 5, 2)),
        ((1, 4, 5, 3), (1, 4, 5, 3)),
    ],
)
def test_dense_image_warp_names_shapes_that_do_not_fit(image, flow):
    with pytest.raises(ValueError, match=re.escape(f"Received: {image} and {flow}")):
        addons.dense_image_warp(np.zeros(image, np.float32), np.zeros(flow, np.float32))


def test_broken_positions_cost_only_their_own_pixel():
    (image,) = _features((1, 4, 5, 2), 1)
    positions = np.array([[[np.nan, 1.0], [1.0, 1.0]]], np.float32)
    sampled = addons.interpolate_bilinear(image, positions).numpy()
    assert np.isnan(sampled[0, 0]).all()
    np.testing.assert_allclose(sampled[0, 1], image[0, 1, 1])
    np.testing.assert_allclose(addons.resampler(image, positions)[0, 0], 0.0)


def test_all_convert_to_tflite():
    shapes = [(1, 8, 9, 4), (1, 8, 9, 4), (1, 8, 9, 2)]
    a, b = _features(shapes[0])
    (flow,) = _features(shapes[2], 1)
    layer = addons.CorrelationCost(3, 2, 2, 2, 3, "channels_first")

    @tf.function(input_signature=[tf.TensorSpec(shape) for shape in shapes])
    def all_of_them(a, b, flow):
        first = [tf.transpose(x, [0, 3, 1, 2]) for x in (a, b)]
        return layer(first), addons.dense_image_warp(a, flow), addons.resampler(b, flow + 3.0)

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [all_of_them.get_concrete_function()], layer
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=converter.convert())
    runner = interpreter.get_signature_runner()
    answers = runner(a=a, b=b, flow=flow)
    for answer, expected in zip(sorted(answers), all_of_them(a, b, flow), strict=True):
        np.testing.assert_allclose(answers[answer], expected, atol=1e-5)
