"""Warping by dense image sampling: four flat gathers, which every run-time has."""

import tensorflow as tf

from tfdense.geometry import flow_to_map, spatial_size
from tfdense.ops.checks import check_floating, check_shape


def bilinear(image, flow) -> tf.Tensor:
    """Samples an image at the positions that a flow points to.

    ``output(x, y) = image(x + dx, y + dy)``, bilinear, pixel centres at integers. Each of the four
    neighbours that lies outside the image counts as zero (PDC-Net; the same as PyTorch's
    ``grid_sample`` with zeros padding and ``align_corners=True``).

    Args:
        image: [batch, height, width, channels], any floating dtype.
        flow: [batch, rows, columns, 2], any floating dtype, in pixels of `image`; the grid that it
            is given on may differ in size from the image's. Positions are float32 at least.

    Returns:
        [batch, rows, columns, channels], of the image's dtype. Differentiable in both arguments.
        Where the flow is huge or infinite it is zero; where the flow is NaN, so is this pixel.

    Raises:
        ValueError: if the image is not of a floating dtype or the flow has not two channels.

    For example:

    >>> image = tf.reshape(tf.range(12.0), [1, 3, 4, 1])
    >>> right = tf.constant([1.0, 0.0]) * tf.ones([1, 3, 4, 1])
    >>> bilinear(image, right)[0, 0, :, 0].numpy()
    array([1., 2., 3., 0.], dtype=float32)
    """
    image, flow = tf.convert_to_tensor(image), tf.convert_to_tensor(flow)
    check_floating(image=image)
    check_shape("`flow`", flow, [None, None, None, 2])
    return sample(image, flow_to_map(at_least_float32(flow)))


def sample(image, position) -> tf.Tensor:
    """Samples an image at positions, as `bilinear` does.

    Args:
        image: [batch, height, width, channels], any floating dtype.
        position: [batch, rows, columns, 2], (x, y) in px, any floating dtype. Positions are float32
            at least.

    Returns:
        [batch, rows, columns, channels], of the image's dtype. Differentiable in both arguments.
    """
    height, width = spatial_size(image)
    x, y, from_left, from_top = _corner(at_least_float32(position), height, width)
    padded = tf.pad(image, [[0, 0], [1, 1], [1, 1], [0, 0]])
    channels = tf.shape(image)[-1] if image.shape[-1] is None else image.shape[-1]
    pixels = tf.reshape(padded, [-1, channels])
    row = width + 2
    first_pixel = tf.range(tf.shape(image)[0])[:, None, None, None] * ((height + 2) * row)
    # With one axis, as GPUs need it.
    index = tf.reshape(first_pixel + y * row + x, [-1])
    shape = tf.concat([tf.shape(position)[:-1], [channels]], axis=0)
    sampled = 0.0
    for below, weight_y in ((0, 1.0 - from_top), (row, from_top)):
        for right, weight_x in ((0, 1.0 - from_left), (1, from_left)):
            neighbour = tf.reshape(tf.gather(pixels, index + (below + right)), shape)
            sampled += neighbour * tf.cast(weight_y * weight_x, image.dtype)
    return sampled


def plane(image, flow) -> tuple[tf.Tensor, tf.Tensor]:
    """Samples a grey image at the positions that a flow points to; it goes on beyond its border.

    The same interpolation as `bilinear`, for one channel, several times faster on devices: all
    but the four gathers is arithmetic of whole planes.

    Args:
        image: float32 [batch, 1, height, width].
        flow: float32 [batch, 2, height, width], in px, dx first.

    Returns:
        The image there, [batch, 1, height, width], outside the value of the nearest pixel; and how
        far inside the position is, likewise: 1 inside, 0 from 1 px outside on. Differentiable in
        both arguments. What it is where the flow is not finite is undefined.
    """
    height, width = image.shape[-2:]
    if None in (height, width):
        height, width = tf.unstack(tf.shape(image)[-2:])
    last_x, last_y = (tf.cast(size - 1, tf.float32) for size in (width, height))
    x = flow[:, :1] + tf.range(width, dtype=tf.float32)
    y = flow[:, 1:] + tf.range(height, dtype=tf.float32)[:, None]
    nearest_x, nearest_y = tf.clip_by_value(x, 0.0, last_x), tf.clip_by_value(y, 0.0, last_y)
    beyond = tf.abs(x - nearest_x) + tf.abs(y - nearest_y)
    left, upper = (
        tf.minimum(tf.floor(position), last - 1.0)
        for position, last in ((nearest_x, last_x), (nearest_y, last_y))
    )
    along_x, along_y = nearest_x - left, nearest_y - upper
    count = height * width
    pixels = tf.reshape(image, [-1])
    index = tf.cast(upper * tf.cast(width, tf.float32) + left, tf.int32)
    # Only a flow that is not a number could lead outside.
    index = tf.clip_by_value(index, 0, count - width - 2)
    # With one axis, as GPUs need it.
    first_pixel = tf.range(tf.shape(image)[0])[:, None, None, None] * count
    index = tf.reshape(index + first_pixel, [-1])
    first, second, third, fourth = (
        tf.reshape(tf.gather(pixels, index + step), tf.shape(image))
        for step in (0, 1, width, width + 1)
    )
    first += along_x * (second - first)
    third += along_x * (fourth - third)
    return first + along_y * (third - first), tf.maximum(1.0 - beyond, 0.0)


def inside(flow, height, width) -> tf.Tensor:
    """Tells where a flow points into an image.

    Args:
        flow: [..., rows, columns, 2], in pixels of the image that it points into.
        height, width: of that image.

    Returns:
        float32 [..., rows, columns]: 1 where the position lies within the outermost pixel centres
        (so that bilinear sampling sees no padding), else 0.
    """
    position = flow_to_map(flow)
    last = tf.cast(tf.stack([width - 1, height - 1]), flow.dtype)
    within = tf.logical_and(position >= 0, position <= last)
    return tf.cast(tf.logical_and(within[..., 0], within[..., 1]), tf.float32)


def at_least_float32(x) -> tf.Tensor:
    """Returns positions in a precision in which they can be told apart."""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def _corner(position, height, width) -> tuple[tf.Tensor, ...]:
    """Finds the upper left neighbour of positions in an image with a border of 1 px around it.

    Returns:
        Its column and row in the image with the border, int32 [..., 1], and how far to the right
        and below of it the position is, in px, [..., 1]. Beyond the border it is on the border.
    """
    size = tf.stack([width, height])
    position = tf.clip_by_value(position, -1.0, tf.cast(size, position.dtype))
    corner = tf.cast(tf.floor(position), tf.int32)
    # Also where the flow is NaN, which may have become any integer. Counted from 1: clipping to
    # [0, 6], TFLite's converter would make a ReLU6 of integers of it, which no run-time has.
    corner = tf.clip_by_value(corner + 2, 1, size + 1) - 1
    fraction = position - tf.cast(corner - 1, position.dtype)
    return corner[..., :1], corner[..., 1:], fraction[..., :1], fraction[..., 1:]
