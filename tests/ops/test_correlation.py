"""Correlation against brute force, numeric gradients and the original network."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfdense.ops import correlation


def random_pair(shape, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape), generator.normal(size=shape)


def brute_force_local(target, source, radius):
    batch, height, width, _ = target.shape
    size = 2 * radius + 1
    result = np.zeros((batch, height, width, size * size))
    for b, y, x in np.ndindex(batch, height, width):
        for k in range(size * size):
            row, column = y + k // size - radius, x + k % size - radius
            if 0 <= row < height and 0 <= column < width:
                result[b, y, x, k] = np.mean(target[b, y, x] * source[b, row, column])
    return result


def plain_local(target, source, radius):
    """The same by convolution patches, which TensorFlow differentiates itself."""
    size = 2 * radius + 1
    patches = tf.image.extract_patches(
        source, [1, size, size, 1], [1, 1, 1, 1], [1, 1, 1, 1], "SAME"
    )
    batch, height, width, channels = target.shape
    patches = tf.reshape(patches, [batch, height, width, size * size, channels])
    return tf.einsum("bhwc,bhwkc->bhwk", target, patches) / channels


@pytest.mark.parametrize("radius", [0, 1, 2, 4, 9])
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 6, 2, 1), (1, 3, 16, 2), (2, 2, 37, 2)])
def test_local_equals_brute_force(shape, radius):
    target, source = random_pair(shape)
    result = correlation.local(tf.constant(target), tf.constant(source), radius)
    assert result.dtype == tf.float64
    np.testing.assert_allclose(result, brute_force_local(target, source, radius), atol=1e-12)


def test_local_of_features_of_unknown_shape():
    target, source = random_pair((2, 4, 18, 3))
    function = tf.function(
        functools.partial(correlation.local, radius=2),
        input_signature=[tf.TensorSpec([None] * 4, tf.float64)] * 2,
    )
    expected = brute_force_local(target, source, 2)
    np.testing.assert_allclose(function(target, source), expected, atol=1e-12)
    assert function(target[:, :, :0], source[:, :, :0]).shape == (2, 4, 0, 25)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(tf.float32, 1e-6), (tf.float16, 5e-3), (tf.bfloat16, 4e-2)]
)
def test_local_keeps_the_dtype_forward_and_backward(dtype, tolerance):
    target, source = random_pair((1, 5, 6, 8))
    upstream = np.random.default_rng(1).normal(size=(1, 5, 6, 25))
    results = {}
    for kind in (tf.float64, dtype):
        inputs = tf.cast(target, kind), tf.cast(source, kind)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = correlation.local(*inputs, 2)
        gradients = tape.gradient(output, inputs, output_gradients=tf.cast(upstream, kind))
        assert {x.dtype for x in (output, *gradients)} == {kind}
        results[kind] = [tf.cast(x, tf.float64).numpy() for x in (output, *gradients)]
    for low, exact in zip(results[dtype], results[tf.float64], strict=True):
        np.testing.assert_allclose(low, exact, atol=tolerance * np.abs(exact).max())


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_local_gradient_equals_finite_differences(radius):
    target, source = random_pair((1, 3, 4, 2))
    analytic, numeric = tf.test.compute_gradient(
        tf.function(lambda target, source: correlation.local(target, source, radius)),
        [tf.constant(target), tf.constant(source)],
        delta=1e-4,
    )
    for ours, theirs in zip(analytic, numeric, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize(("shape", "radius"), [((2, 6, 9, 5), 4), ((1, 8, 3, 4), 2)])
def test_local_gradient_equals_automatic_differentiation(shape, radius):
    target, source = (tf.constant(x) for x in random_pair(shape))
    upstream = tf.constant(
        np.random.default_rng(1).normal(size=(*shape[:3], (2 * radius + 1) ** 2))
    )

    def gradients(function):
        with tf.GradientTape() as tape:
            tape.watch([target, source])
            output = function(target, source, radius)
        return tape.gradient(output, [target, source], output_gradients=upstream)

    for ours, theirs in zip(gradients(correlation.local), gradients(plain_local), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_local_in_a_graph_of_unknown_shape():
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])] * 2)
    def output_and_gradient(target, source):
        output = correlation.local(target, source, 1)
        return output, tf.gradients(tf.reduce_sum(output**2), source)[0]

    for shape in [(1, 4, 6, 3), (2, 3, 5, 3)]:
        target, source = (x.astype(np.float32) for x in random_pair(shape))
        output, gradient = output_and_gradient(target, source)
        expected = brute_force_local(target, source, 1)
        np.testing.assert_allclose(output, expected, atol=1e-6)
        step = np.zeros_like(source)
        step[0, 1, 2, 1] = 1e-2
        difference = np.sum(brute_force_local(target, source + step, 1) ** 2) - np.sum(
            brute_force_local(target, source - step, 1) ** 2
        )
        np.testing.assert_allclose(gradient[0, 1, 2, 1], difference / 2e-2, rtol=1e-3, atol=1e-5)


def test_local_refuses_a_negative_radius():
    with pytest.raises(ValueError, match="radius=-1"):
        correlation.local(tf.zeros([1, 4, 4, 2]), tf.zeros([1, 4, 4, 2]), -1)


def test_local_refuses_different_shapes():
    with pytest.raises(ValueError, match=r"\(1, 4, 4, 2\) and \(1, 4, 5, 2\)"):
        correlation.local(tf.zeros([1, 4, 4, 2]), tf.zeros([1, 4, 5, 2]), 1)


def test_all_pairs_equals_brute_force():
    generator = np.random.default_rng(0)
    target, source = generator.normal(size=(2, 3, 5, 4)), generator.normal(size=(2, 4, 2, 4))
    result = correlation.all_pairs(tf.constant(target), tf.constant(source))
    expected = np.zeros((2, 3, 5, 8))
    for b, y, x, j in np.ndindex(expected.shape):
        expected[b, y, x, j] = np.dot(target[b, y, x], source[b, j // 2, j % 2])
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_all_pairs_in_a_graph_of_unknown_shape():
    function = tf.function(correlation.all_pairs, input_signature=[tf.TensorSpec([None] * 4)] * 2)
    generator = np.random.default_rng(0)
    target = generator.normal(size=(2, 3, 5, 4)).astype(np.float32)
    source = generator.normal(size=(2, 4, 2, 4)).astype(np.float32)
    np.testing.assert_allclose(
        function(target, source), correlation.all_pairs(target, source), atol=1e-6
    )


@pytest.mark.reference
def test_local_equals_the_original(reference):
    vectors = np.load(reference / "ops" / "local_corr.npz")
    target, source, output, upstream, transpose = (
        tf.constant(vectors[name].transpose(0, 2, 3, 1))
        for name in ("target", "source", "out", "g", "out_transpose")
    )
    with tf.GradientTape() as tape:
        tape.watch(target)
        result = correlation.local(target, source, 4)
    np.testing.assert_allclose(result, output, atol=1e-6)
    gradient = tape.gradient(result, target, output_gradients=upstream)
    np.testing.assert_allclose(gradient, transpose, atol=1e-6)


@pytest.mark.reference
def test_all_pairs_equals_the_original(reference):
    vectors = np.load(reference / "ops" / "global_corr.npz")
    target, source, raw = (
        vectors[name].transpose(0, 2, 3, 1) for name in ("l2_target", "source", "raw")
    )
    # The original's raw correlation is of features of unit length.
    source /= np.sqrt(np.sum(source**2, axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(correlation.all_pairs(target, source), raw, atol=1e-6)
