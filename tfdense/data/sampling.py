"""Sampling an image of any size at other places, bilinear, pixel centres at integers."""

import tensorflow as tf

from tfdense.geometry import map_to_flow
from tfdense.ops import warp


def sample_mirrored(image, positions) -> tf.Tensor:
    """Samples an image that is continued beyond its outermost pixels by its mirror images.

    Args:
        image: float32 [height, width, channels].
        positions: float32 [rows, columns, 2], (x, y) in pixels of the image.

    Returns:
        float32 [rows, columns, channels].
    """
    last = tf.cast(tf.shape(image)[1::-1] - 1, tf.float32)
    positions = last - tf.abs(last - tf.math.floormod(positions, 2.0 * last))
    return warp.bilinear(image[None], map_to_flow(positions)[None])[0]


def sample_affine(image, transform, height, width, fill="CONSTANT") -> tf.Tensor:
    """Samples an image on an affine grid; a third of the time that the general case takes.

    Args:
        image: float32 [rows, columns, channels].
        transform: float32 [2, 3] or [3, 3], from pixels of the result to pixels of the image.
        height, width: of the result.
        fill: ``CONSTANT`` for zeros beyond the image, ``NEAREST`` for its outermost pixels.

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
        fill_mode=fill,
    )[0]
    return tf.ensure_shape(sampled, [height, width, image.shape[-1]])
