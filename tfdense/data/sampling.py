"""Sampling an image of any size at other places, bilinear, pixel centres at integers."""

import functools

import tensorflow as tf

compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
"""Decorates functions of many small operations on each pixel: XLA makes one loop of them, which
takes a fifth of the time. Each shape of the arguments is compiled anew, so they must be fixed."""


def sample_mirrored(image, positions, largest_area) -> tf.Tensor:
    """Samples an image that is continued beyond its outermost pixels by its mirror images.

    Args:
        image: uint8 [height, width, 3], of any size of at least 2x2 pixels.
        positions: float32 [rows, columns, 2], (x, y) in pixels of the image.
        largest_area: number of pixels that the largest image may have.

    Returns:
        float32 [rows, columns, 3].
    """
    size = tf.shape(image)[:2]
    pixels = tf.pad(tf.reshape(image, [-1, 3]), [[0, largest_area - tf.reduce_prod(size)], [0, 0]])
    return _sample(tf.ensure_shape(pixels, [largest_area, 3]), size, positions)


@compiled
def _sample(pixels, size, positions) -> tf.Tensor:
    width = size[1]
    last = tf.cast(size[::-1] - 1, tf.float32)
    positions = last - tf.abs(last - tf.math.floormod(positions, 2.0 * last))
    # On the last pixel too there is a neighbour beyond the corner, with no weight.
    corner = tf.minimum(tf.floor(positions), last - 1.0)
    x, y = tf.split(positions - corner, 2, axis=-1)
    column, row = tf.unstack(tf.cast(corner, tf.int32), axis=-1)
    first = row * width + column

    def pixel(offset):
        return tf.cast(tf.gather(pixels, first + offset), tf.float32)

    above = (1.0 - x) * pixel(0) + x * pixel(1)
    below = (1.0 - x) * pixel(width) + x * pixel(width + 1)
    return (1.0 - y) * above + y * below


def sample_affine(image, transform, height, width) -> tf.Tensor:
    """Samples an image on an affine grid; beyond it everything is zero.

    Args:
        image: float32 [rows, columns, channels].
        transform: float32 [3, 3], from pixels of the result to pixels of the image.
        height, width: of the result.

    Returns:
        float32 [height, width, channels].
    """
    rows = tf.concat([tf.reshape(transform[:2], [1, 6]), [[0.0, 0.0]]], axis=1)
    sampled = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=rows,
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]
    return tf.ensure_shape(sampled, [height, width, image.shape[-1]])
