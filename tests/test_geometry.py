"""Grids, homographies and resizing against OpenCV, brute force and the original network."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense import geometry
from tfdense.ops import warping

HOMOGRAPHY = np.array([[1.1, 0.2, -3.0], [-0.1, 0.9, 4.0], [0.004, -0.006, 1.0]])


def test_pixel_grid_holds_x_then_y():
    grid = geometry.pixel_grid(3, 4)
    assert grid.dtype == tf.float32
    for y, x in np.ndindex(3, 4):
        np.testing.assert_array_equal(grid[y, x], [x, y])


def test_map_and_flow_are_inverse():
    flow = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float32)
    mapping = geometry.flow_to_map(tf.constant(flow))
    np.testing.assert_allclose(mapping[1, 2, 3], flow[1, 2, 3] + [3, 2], atol=1e-6)
    np.testing.assert_allclose(geometry.map_to_flow(mapping), flow, atol=1e-6)


def test_homography_flow_equals_opencv():
    flow = geometry.homography_flow(HOMOGRAPHY, 20, 30)
    x, y = np.meshgrid(np.arange(30.0), np.arange(20.0))
    grid = np.stack([x, y], axis=-1)
    mapped = cv2.perspectiveTransform(grid.reshape(-1, 1, 2), HOMOGRAPHY).reshape(20, 30, 2)
    np.testing.assert_allclose(flow, mapped - grid, atol=1e-9)


def test_homography_flow_of_a_batch():
    shift = np.array([[1, 0, 2.5], [0, 1, -1.5], [0, 0, 1]])
    batch = tf.constant(np.stack([HOMOGRAPHY, shift]), tf.float32)
    flow = geometry.homography_flow(batch, 5, 6)
    assert flow.shape == (2, 5, 6, 2)
    np.testing.assert_allclose(flow[0], geometry.homography_flow(HOMOGRAPHY, 5, 6), atol=1e-4)
    np.testing.assert_allclose(flow[1], np.broadcast_to([2.5, -1.5], (5, 6, 2)), atol=1e-6)


def test_homography_flow_behind_the_camera_is_far_outside():
    # The denominator 1 - x / 4 is positive for x < 4 only.
    homography = tf.constant([[1.0, 0, 0], [0, 1, 0], [-0.25, 0, 1]])
    flow = geometry.homography_flow(homography, 3, 8).numpy()
    assert np.isfinite(flow).all()
    assert (np.abs(flow[:, :4]) < 100).all()
    assert (flow[:, 4:] > 1e5).all()


def test_warping_by_a_homography_and_back():
    y, x = np.mgrid[:40, :50].astype(np.float32)
    image = np.stack([x, y, 0.5 * x + y], axis=-1)[None]
    warped = warping.bilinear(image, geometry.homography_flow(HOMOGRAPHY, 40, 50)[None])
    back = warping.bilinear(
        warped, geometry.homography_flow(np.linalg.inv(HOMOGRAPHY), 40, 50)[None]
    ).numpy()
    np.testing.assert_allclose(back[0, 12:28, 10:35], image[0, 12:28, 10:35], atol=0.05)


def brute_force_area(image, size):
    result = np.zeros((*size, image.shape[-1]))
    for i, j in np.ndindex(*size):
        box = image[_box(i, image.shape[0], size[0]), _box(j, image.shape[1], size[1])]
        result[i, j] = box.mean(axis=(0, 1))
    return result


def _box(index, size, new_size):
    return slice(index * size // new_size, int(np.ceil((index + 1) * size / new_size)))


@pytest.mark.parametrize("size", [(4, 5), (3, 7), (13, 4), (6, 10), (9, 16), (1, 1)])
def test_resize_area_equals_brute_force(size):
    image = np.random.default_rng(0).normal(size=(2, 6, 10, 3)).astype(np.float32)
    expected = np.stack([brute_force_area(x, size) for x in image])
    np.testing.assert_allclose(geometry.resize_area(tf.constant(image), size), expected, atol=1e-6)


def test_resize_area_in_a_graph_of_unknown_shape():
    function = tf.function(
        lambda image, size: geometry.resize_area(image, (size[0], size[1])),
        input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([2], tf.int32)],
    )
    image = np.random.default_rng(0).normal(size=(1, 6, 10, 3)).astype(np.float32)
    np.testing.assert_allclose(
        function(image, [4, 7])[0], brute_force_area(image[0], (4, 7)), atol=1e-6
    )


@pytest.mark.parametrize("size", [(13, 17), (4, 5)])
def test_resize_bilinear_equals_opencv(size):
    image = np.random.default_rng(0).normal(size=(1, 6, 10, 3)).astype(np.float32)
    expected = cv2.resize(image[0], size[::-1], interpolation=cv2.INTER_LINEAR)
    result = geometry.resize_bilinear(tf.constant(image), size)
    np.testing.assert_allclose(result[0], expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16, tf.float32])
def test_resize_bilinear_compiles_with_its_gradient(dtype):
    """A network with 16-bit activations is trained through it."""

    @tf.function(jit_compile=True)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(geometry.resize_bilinear(3.0 * x, (8, 12)))
        return tape.gradient(total, x)

    answer = gradient(tf.zeros([1, 4, 6, 3], dtype))
    assert answer.dtype == dtype
    assert float(tf.reduce_sum(tf.cast(answer, tf.float32))) == pytest.approx(
        3 * 8 * 12 * 3, rel=0.01
    )


def test_resize_bilinear_keeps_the_dtype():
    assert geometry.resize_bilinear(tf.zeros([1, 4, 4, 1], tf.float16), (8, 8)).dtype == tf.float16


def test_resize_flow_scales_each_axis():
    flow = tf.broadcast_to(tf.constant([3.0, -2.0]), [1, 4, 6, 2])
    result = geometry.resize_flow(flow, (8, 30))
    np.testing.assert_allclose(result, np.broadcast_to([15.0, -4.0], (1, 8, 30, 2)), atol=1e-5)


def test_resized_flow_describes_the_same_motion():
    # An affine flow stays affine: in pixels of the new size, centre p is at (p + 0.5) s - 0.5.
    affine = np.array([[1.2, 0.1, -2.0], [-0.1, 0.8, 1.0], [0, 0, 1]])
    flow = geometry.homography_flow(tf.constant(affine, tf.float32), 12, 18)[None]
    scale = np.array([[2.0, 0, 0.5], [0, 3.0, 1.0], [0, 0, 1]])
    expected = geometry.homography_flow(scale @ affine @ np.linalg.inv(scale), 36, 36)
    result = geometry.resize_flow(flow, (36, 36))[0]
    np.testing.assert_allclose(result[3:-3, 3:-3], expected[3:-3, 3:-3], atol=1e-3)


def test_resize_flow_in_a_graph_of_unknown_shape():
    function = tf.function(
        lambda flow: geometry.resize_flow(flow, (8, 30)),
        input_signature=[tf.TensorSpec([None, None, None, 2])],
    )
    result = function(np.broadcast_to(np.float32([3, -2]), (1, 4, 6, 2)))
    np.testing.assert_allclose(result, np.broadcast_to([15.0, -4.0], (1, 8, 30, 2)), atol=1e-5)


@pytest.mark.reference
def test_resizing_equals_the_original(reference):
    vectors = np.load(reference / "ops" / "resize.npz")
    vectors = {name: vectors[name].transpose(0, 2, 3, 1) for name in vectors.files}
    image = tf.constant(vectors.pop("x"))
    for name, expected in vectors.items():
        resize = geometry.resize_area if name.startswith("area") else geometry.resize_bilinear
        result = resize(image, expected.shape[1:3])
        np.testing.assert_allclose(result, expected, atol=1e-5, err_msg=name)
