"""Warping against OpenCV, brute force, numeric gradients and the original network."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.ops import warping


def brute_force(image, flow):
    """Bilinear sampling of one image; a neighbour outside counts as zero."""
    height, width, channels = image.shape
    result = np.zeros((*flow.shape[:2], channels))
    for row, column in np.ndindex(flow.shape[:2]):
        x, y = column + flow[row, column, 0], row + flow[row, column, 1]
        left, top = int(np.floor(x)), int(np.floor(y))
        for i, j in np.ndindex(2, 2):
            if 0 <= top + i < height and 0 <= left + j < width:
                weight = (1 - abs(y - top - i)) * (1 - abs(x - left - j))
                result[row, column] += weight * image[top + i, left + j]
    return result


def random_image_and_flow(batch=2, size=(7, 9), grid=None, deviation=3.0, seed=0):
    generator = np.random.default_rng(seed)
    image = generator.normal(size=(batch, *size, 3)).astype(np.float32)
    flow = generator.normal(scale=deviation, size=(batch, *(grid or size), 2)).astype(np.float32)
    return image, flow


@pytest.mark.parametrize("grid", [(7, 9), (4, 5), (12, 10)])
def test_bilinear_equals_brute_force_on_any_grid(grid):
    image, flow = random_image_and_flow(grid=grid)
    expected = np.stack([brute_force(*pair) for pair in zip(image, flow, strict=True)])
    assert np.count_nonzero(expected == 0), "some flow should point outside"
    np.testing.assert_allclose(warping.bilinear(image, flow), expected, atol=1e-5)


def test_bilinear_equals_opencv_inside():
    image, flow = random_image_and_flow(batch=1, size=(20, 30), deviation=2.0)
    x, y = np.meshgrid(np.arange(30, dtype=np.float32), np.arange(20, dtype=np.float32))
    # OpenCV rounds positions to 1/32 px.
    flow = np.round(flow * 32) / 32
    map_x, map_y = x + flow[0, ..., 0], y + flow[0, ..., 1]
    expected = cv2.remap(image[0], map_x, map_y, cv2.INTER_LINEAR)
    inside = (map_x >= 0) & (map_x <= 29) & (map_y >= 0) & (map_y <= 19)
    assert inside.sum() > 400
    result = warping.bilinear(image, flow)[0].numpy()
    np.testing.assert_allclose(result[inside], expected[inside], atol=1e-5)


def test_bilinear_with_whole_pixels_copies():
    image = np.arange(20, dtype=np.float32).reshape(1, 4, 5, 1)
    flow = np.broadcast_to(np.float32([1, 0]), (1, 4, 5, 2))
    expected = np.zeros_like(image)
    expected[:, :, :-1] = image[:, :, 1:]
    np.testing.assert_array_equal(warping.bilinear(image, flow), expected)


@pytest.mark.parametrize("value", [30.0, 1e9, 3e38, np.inf])
def test_flow_far_outside_gives_zero_and_a_zero_gradient(value):
    image = tf.ones([1, 4, 5, 2])
    for x, y in [(value, 0), (-value, 0), (0, value), (0, -value), (-value, value)]:
        flow = tf.broadcast_to(tf.constant([x, y], tf.float32), [1, 4, 5, 2])
        with tf.GradientTape() as tape:
            tape.watch([image, flow])
            output = warping.bilinear(image, flow)
        np.testing.assert_array_equal(output, np.zeros_like(output))
        for gradient in tape.gradient(output, [image, flow]):
            np.testing.assert_array_equal(tf.convert_to_tensor(gradient), np.zeros(gradient.shape))


def test_a_flow_that_is_not_a_number_spoils_its_own_pixel_only():
    image, flow = random_image_and_flow(batch=1)
    expected = warping.bilinear(image, flow).numpy()
    flow[0, 2, 3, 0] = np.nan
    result = warping.bilinear(image, flow).numpy()
    assert np.isnan(result[0, 2, 3]).all()
    result[0, 2, 3] = expected[0, 2, 3]
    np.testing.assert_array_equal(result, expected)


def test_gradient_equals_finite_differences():
    generator = np.random.default_rng(0)
    image = tf.constant(generator.normal(size=(1, 4, 5, 2)).astype(np.float32))
    # Fractions away from 0: the gradient in the flow jumps where a position is a whole number.
    flow = generator.integers(-2, 3, size=(1, 3, 4, 2)) + generator.uniform(0.2, 0.8, (1, 3, 4, 2))
    analytic, numeric = tf.test.compute_gradient(
        warping.bilinear, [image, tf.constant(flow.astype(np.float32))], delta=0.1
    )
    # Both functions are piecewise linear in each argument: large steps are exact.
    for ours, theirs in zip(analytic, numeric, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(tf.float16, 3e-3), (tf.bfloat16, 3e-2)])
def test_bilinear_keeps_the_dtype_of_the_image(dtype, tolerance):
    image, flow = random_image_and_flow()
    result = warping.bilinear(tf.cast(image, dtype), tf.constant(flow))
    assert result.dtype == dtype
    np.testing.assert_allclose(
        tf.cast(result, tf.float32), warping.bilinear(image, flow), atol=3 * tolerance
    )


def test_bilinear_in_a_graph_of_unknown_shape():
    function = tf.function(
        warping.bilinear,
        input_signature=[
            tf.TensorSpec([None, None, None, None]),
            tf.TensorSpec([None, None, None, 2]),
        ],
    )
    for batch, size, grid in [(2, (7, 9), (4, 5)), (1, (3, 8), (6, 2))]:
        image, flow = random_image_and_flow(batch, size, grid)
        expected = np.stack([brute_force(*pair) for pair in zip(image, flow, strict=True)])
        np.testing.assert_allclose(function(image, flow), expected, atol=1e-5)


def test_inside_says_where_no_padding_is_seen():
    # From the pixels of a 2x3 grid into an image whose last pixel centre is (5, 3).
    flow = np.float32([[[0, 0], [4, 0], [3.01, 0]], [[-0.01, 0], [0, 2], [2, 2.5]]])
    expected = [[1, 1, 0], [0, 1, 0]]
    result = warping.inside(tf.constant(flow), 4, 6)
    assert result.dtype == tf.float32
    np.testing.assert_array_equal(result, expected)


def test_inside_agrees_with_warping_ones():
    _, flow = random_image_and_flow(size=(7, 9))
    inside = warping.inside(tf.constant(flow), 7, 9).numpy()
    ones = warping.bilinear(tf.ones([2, 7, 9, 1]), flow).numpy()[..., 0]
    np.testing.assert_array_equal(inside == 1, ones > 1 - 1e-6)
    assert 0 < inside.sum() < inside.size


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_inside_is_false_for_a_flow_that_points_nowhere(value):
    flow = tf.fill([1, 2, 3, 2], tf.constant(value, tf.float32))
    np.testing.assert_array_equal(warping.inside(flow, 2, 3), np.zeros((1, 2, 3)))


@pytest.mark.reference
def test_bilinear_equals_the_original(reference):
    vectors = np.load(reference / "ops" / "warp.npz")
    image, flow, expected, mapping, mapped = (
        vectors[name].transpose(0, 2, 3, 1)
        for name in ("x", "flow", "out_zeros", "mapping", "out_mapping")
    )
    np.testing.assert_allclose(warping.bilinear(image, flow), expected, atol=1e-5)
    x, y = np.meshgrid(np.arange(6), np.arange(5))
    flow = (mapping - np.stack([x, y], axis=-1)).astype(np.float32)
    np.testing.assert_allclose(warping.bilinear(image, flow), mapped, atol=1e-5)


def random_plane_and_flow(batch=2, size=(7, 9), deviation=3.0, seed=0):
    image, flow = random_image_and_flow(batch, size, deviation=deviation, seed=seed)
    return image[..., :1].transpose(0, 3, 1, 2), flow.transpose(0, 3, 1, 2)


def test_a_plane_goes_on_beyond_its_border():
    image, flow = random_plane_and_flow()
    padded = np.pad(image, [(0, 0), (0, 0), (12, 12), (12, 12)], "edge")
    expected = np.stack(
        [
            brute_force(plane[0, ..., None], np.moveaxis(steps, 0, -1) + 12)[..., 0]
            for plane, steps in zip(padded, flow, strict=True)
        ]
    )
    sampled, _ = warping.plane(image, flow)
    np.testing.assert_allclose(sampled[:, 0], expected, atol=1e-5)


def test_a_plane_tells_how_far_inside_it_was_sampled():
    flow = np.zeros((1, 2, 4, 5), np.float32)
    flow[0, 0, 0] = [0, 3, 2.25, 3, 0.5]  # at x = 0 to 4, the last of which is the border
    flow[0, 1, 3, 0] = 7
    _, inside = warping.plane(np.zeros((1, 1, 4, 5), np.float32), flow)
    np.testing.assert_allclose(inside[0, 0, 0], [1, 1, 0.75, 0, 0.5])
    np.testing.assert_allclose(inside[0, 0, 3], [0, 1, 1, 1, 1])


def test_the_gradient_of_a_plane_is_the_numeric_one():
    image, flow = random_plane_and_flow(1, (4, 5), deviation=1.0)
    # Not where the gradient jumps.
    flow = np.floor(flow) + np.clip(flow - np.floor(flow), 0.2, 0.8)
    weight = np.random.default_rng(1).normal(size=image.shape).astype(np.float32)

    def weighted(image, flow):
        sampled, inside = warping.plane(image, flow)
        return tf.reduce_sum(sampled * weight + inside)

    analytic, numeric = tf.test.compute_gradient(weighted, [image, flow], delta=1e-2)
    for one, other in zip(analytic, numeric, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_a_flow_that_is_no_number_samples_something():
    image, flow = random_plane_and_flow()
    flow[0, 0, 1, 1], flow[1, 1, 2, 2] = np.nan, np.inf
    sampled, _ = warping.plane(image, flow)
    assert np.isfinite(sampled[0, 0, 0]).all()
