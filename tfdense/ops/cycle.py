"""Going to the other image and back."""

import tensorflow as tf

from tfdense.geometry import spatial_size
from tfdense.ops import warping


def forward_backward_error(forward, backward) -> tf.Tensor:
    """Returns how far from each pixel one arrives by going to the source and back.

    ``|f(x) + b(x + f(x))|`` with f the forward and b the backward flow, read bilinearly: near 0
    where both agree, large where a pixel is hidden in the source (Sundaram, Brox, Keutzer, ECCV
    2010, section 4).

    Args:
        forward: flow from target to source, [batch, height, width, 2], in px of the source.
        backward: flow from source to target, [batch, source height, source width, 2], in px of the
            target. Both of the same floating dtype.

    Returns:
        [batch, height, width], in px of the target, of the flows' dtype; infinite where the forward
        flow leaves the source (in TFLite the largest finite number), and with a gradient of zero
        there.

    For example:

    >>> there = tf.fill([1, 4, 6, 2], 1.0)
    >>> error = forward_backward_error(there, -there)
    >>> error.shape, float(error[0, 0, 0]), float(error[0, 3, 5])
    (TensorShape([1, 4, 6]), 0.0, inf)
    """
    forward, backward = tf.convert_to_tensor(forward), tf.convert_to_tensor(backward)
    inside = warping.inside(forward, *spatial_size(backward)) > 0
    # What is not used must not spoil the gradient.
    forward = tf.where(inside[..., None], forward, 0)
    squared = tf.reduce_sum(tf.square(forward + warping.bilinear(backward, forward)), axis=-1)
    positive = squared > 0
    error = tf.where(positive, tf.sqrt(tf.where(positive, squared, 1)), 0)
    return tf.where(inside, error, tf.constant(float("inf"), error.dtype))
