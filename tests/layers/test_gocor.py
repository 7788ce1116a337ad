"""GOCor against its formulas, position by position in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense.layers.gocor import GlobalGOCor, LocalGOCor, radial_basis


def random_module(layer, shape, seed=0):
    """Gives a module random parameters near those that training starts from."""
    keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    layer.build(shape)
    for variable in layer.variables:
        noise = 0.2 * generator.normal(size=variable.shape)
        variable.assign(variable.numpy() * (1.0 + noise) + 0.3 * noise)
    return layer


def features(shape, seed=0, unit=False):
    """Features after a ReLU, of unit length where the global module needs it."""
    x = np.maximum(np.random.default_rng(seed).normal(size=shape), 0.0) + 0.01
    return x / np.linalg.norm(x, axis=-1, keepdims=True) if unit else x


def parameters(layer):
    return {variable.name: variable.numpy().astype(np.float64) for variable in layer.variables}


def functions_of_distance(p, distance):
    """Interpolates the three learned functions, whose knots lie half a position apart."""
    knots = np.arange(10) * 0.5
    label, weight, mask = (
        np.interp(distance, knots, p[name])
        for name in ("label_map", "spatial_weight", "target_mask")
    )
    return label, weight, 1.0 / (1.0 + np.exp(-mask))


def activate(scores, slope):
    return np.where(scores >= 0, scores, slope * scores), np.where(scores >= 0, 1.0, slope)


def local_by_definition(p, target, source, iterations):
    """One filter at a time, with the features around it unfolded."""
    height, width, channels = target.shape
    steps = np.arange(-4, 5)
    label, weight, slope = functions_of_distance(p, np.hypot(steps[:, None], steps).ravel())
    regularization = max(p["filter_regularization"][0] ** 2, 1e-10) / channels**2
    padded = [np.pad(x, [(4, 4), (4, 4), (0, 0)]) for x in (target, source)]
    scores = np.zeros((height, width, 81))
    for y, x in np.ndindex(height, width):
        around = [image[y : y + 9, x : x + 9].reshape(81, channels) for image in padded]
        own = target[y, x]
        w = p["scaling"][0] * own / (np.mean(own**2) + 1e-6)
        for _ in range(iterations):
            score, derivative = activate(around[0] @ w / channels, slope)
            residual = weight * score - weight * label
            gradient = regularization * w
            gradient = gradient + around[0].T @ (weight * derivative * residual) / channels
            change = weight * derivative * (around[0] @ gradient) / channels
            norm = gradient @ gradient
            curvature = max(change @ change + regularization * norm, 1e-8)
            w = w - np.exp(p["log_step_length"][0]) * norm / curvature * gradient
        scores[y, x] = around[1] @ w / channels
    return scores


def convolution_matrix(kernel, grid):
    """A zero-padded 3x3 convolution as a matrix [..., output position, input position]."""
    positions = np.stack(np.divmod(np.arange(grid[0] * grid[1]), grid[1]), axis=-1)
    offset = positions - positions[:, None] + 1
    near = np.all((offset >= 0) & (offset <= 2), axis=-1)
    row, column = np.moveaxis(np.clip(offset, 0, 2), -1, 0)
    return np.moveaxis(kernel[row, column] * near[..., None, None], (2, 3), (0, 1))


def regularizer_matrix(p, grid):
    """The 4-D convolution as a matrix, whose transpose is the adjoint."""
    over_source = convolution_matrix(p["source_kernel"], grid)[0]
    over_target = convolution_matrix(p["target_kernel"], grid)
    matrix = np.einsum("cjl,coik->oijkl", over_source, over_target)
    count = grid[0] * grid[1]
    return matrix.reshape(-1, count**2)


def global_by_definition(p, target, source, grid, iterations):
    count = grid[0] * grid[1]
    positions = np.stack(np.divmod(np.arange(count), grid[1]), axis=-1)
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    label, weight, slope = functions_of_distance(p, distance)
    matrix = regularizer_matrix(p, grid)
    mean = target.mean(axis=0)
    w = np.zeros_like(target)
    for i, own in enumerate(target):
        f, b, c = own @ own, mean @ mean, own @ mean
        numerator = (p["foreground"] * b - p["background"] * c) * own
        numerator = numerator - (p["foreground"] * c - p["background"] * f) * mean
        w[i] = numerator / max(f * b - c * c, 1e-6)
    regularization = max(p["filter_regularization"][0] ** 2, 1e-10)
    for _ in range(iterations):
        score, derivative = activate(w @ target.T, slope)
        residual = weight * score - weight * label
        z = matrix.T @ (matrix @ (w @ source.T).ravel())
        gradient = (weight * derivative * residual) @ target + regularization * w
        gradient += z.reshape(count, count) @ source
        norm = np.sum(gradient**2)
        curvature = np.sum((weight * derivative * (gradient @ target.T)) ** 2)
        curvature += np.sum((matrix @ (gradient @ source.T).ravel()) ** 2)
        curvature = max(curvature + regularization * norm, 1e-8) + 0.1 * norm
        w = w - np.exp(p["log_step_length"][0]) * norm / curvature * gradient
    return w @ source.T


@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_local_module_equals_its_definition(iterations):
    target, source = features((2, 9, 6, 5)), features((2, 9, 6, 5), seed=1)
    layer = random_module(LocalGOCor(iterations), target.shape)
    scores, plain = layer(target.astype(np.float32), source.astype(np.float32))
    p = parameters(layer)
    expected = [
        local_by_definition(p, *pair, iterations) for pair in zip(target, source, strict=True)
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)
    # A scaling of one and no iterations leave the feature itself, divided by its mean square.
    scale = np.mean(target**2, axis=-1, keepdims=True) + 1e-6
    p["scaling"] = [1.0]
    unoptimised = [local_by_definition(p, *pair, 0) for pair in zip(target, source, strict=True)]
    np.testing.assert_allclose(plain, unoptimised * scale, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("iterations", [0, 1, 3])
@pytest.mark.parametrize("grid", [(3, 3), (2, 4)])
def test_global_module_equals_its_definition(grid, iterations):
    shape = (2, *grid, 6)
    target, source = features(shape, unit=True), features(shape, seed=1, unit=True)
    layer = random_module(GlobalGOCor(iterations), shape)
    scores = layer(target.astype(np.float32), source.astype(np.float32))
    for b in range(2):
        flat = (target[b].reshape(-1, 6), source[b].reshape(-1, 6))
        expected = global_by_definition(parameters(layer), *flat, grid, iterations)
        expected = expected.reshape(*grid, -1)
        np.testing.assert_allclose(scores[b], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("module", [GlobalGOCor, LocalGOCor])
def test_gradients_equal_differences(module):
    shape = (1, 4, 5, 6)
    layer = random_module(module(2), shape)
    generator = np.random.default_rng(3)
    inputs = [tf.constant(features(shape, seed, unit=True), tf.float32) for seed in (1, 2)]
    upstream = None

    def loss(*inputs):
        nonlocal upstream
        scores = layer(*inputs)[0] if module is LocalGOCor else layer(*inputs)
        if upstream is None:
            upstream = generator.normal(size=scores.shape).astype(np.float32)
        return tf.reduce_sum(scores * upstream)

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = loss(*inputs)
    gradients = tape.gradient(value, inputs)
    for k, gradient in enumerate(gradients):
        direction = gradient / tf.norm(gradient)
        step = 1e-3
        moved = [
            loss(*[x + sign * step * direction if i == k else x for i, x in enumerate(inputs)])
            for sign in (1.0, -1.0)
        ]
        difference = (moved[0] - moved[1]) / (2.0 * step)
        np.testing.assert_allclose(difference, tf.norm(gradient), rtol=0.02)


def test_the_ideal_scores_of_the_global_module_are_frozen():
    layer = GlobalGOCor()
    layer.build((None, 4, 4, 8))
    assert "label_map" not in [variable.name for variable in layer.trainable_variables]


def test_basis_interpolates_between_bins():
    basis = radial_basis([0.0, 0.25, 3.7, 4.5, 20.0])
    np.testing.assert_allclose(basis.sum(axis=-1), 1.0, atol=1e-6)
    positions = basis @ (np.arange(10) * 0.5)
    np.testing.assert_allclose(positions, [0.0, 0.25, 3.7, 4.5, 4.5], atol=1e-6)


@pytest.mark.parametrize("module", [GlobalGOCor, LocalGOCor])
def test_negative_iterations_are_refused(module):
    with pytest.raises(ValueError, match="Received: -1"):
        module(-1)
