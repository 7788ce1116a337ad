"""Going to the other image and back."""

import tensorflow as tf

from tfdense.geometry import spatial_size
from tfdense.ops import warping
from tfdense.ops.checks import check_floating, check_shape


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
        there. NaN where the backward flow is NaN.

    Raises:
        ValueError: if a flow is not of a floating dtype or the shapes do not fit.

    For example:

    >>> there = tf.fill([1, 4, 6, 2], 1.0)
    >>> error = forward_backward_error(there, -there)
    >>> error.shape, float(error[0, 0, 0]), float(error[0, 3, 5])
    (TensorShape([1, 4, 6]), 0.0, inf)
    """
    forward, backward = tf.convert_to_tensor(forward), tf.convert_to_tensor(backward)
    check_floating(forward=forward, backward=backward)
    check_shape("`forward`", forward, [None, None, None, 2])
    check_shape("`backward`", backward, [forward.shape[0], None, None, 2])
    inside = warping.inside(forward, *spatial_size(backward)) > 0
    # What is not used must not spoil the gradient.
    forward = tf.where(inside[..., None], forward, 0)
    squared = tf.reduce_sum(tf.square(forward + warping.bilinear(backward, forward)), axis=-1)
    # The root of 0 has no gradient. What is not a number is not 0, and stays what it is.
    positive = squared != 0
    error = tf.where(positive, tf.sqrt(tf.where(positive, squared, 1)), 0)
    return tf.where(inside, error, tf.constant(float("inf"), error.dtype))
