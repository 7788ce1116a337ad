"""Warping by dense image sampling: four flat gathers, which every run-time has."""

import tensorflow as tf

from tfdense.geometry import flow_to_map, spatial_size


def bilinear(image, flow) -> tf.Tensor:
    """Samples an image at the positions that a flow points to.

    ``output(x, y) = image(x + dx, y + dy)``, bilinear, pixel centres at integers. Each of the four
    neighbours that lies outside the image counts as zero (PDC-Net; the same as PyTorch's
    ``grid_sample`` with zeros padding and ``align_corners=True``).

    Args:
        image: [batch, height, width, channels], any floating dtype.
        flow: [batch, rows, columns, 2], float32, in pixels of `image`; the grid that it is given
            on may differ in size from the image's.

    Returns:
        [batch, rows, columns, channels], of the image's dtype. Differentiable in both arguments.
        Where the flow is huge or infinite it is zero; where the flow is NaN, so is this pixel.
    """
    height, width = spatial_size(image)
    position = flow_to_map(tf.cast(flow, tf.float32))
    corner, fraction = _corner(position, height, width)
    pixels = tf.reshape(image, [-1, image.shape[-1]])
    first_pixel = tf.range(tf.shape(image)[0])[:, None, None] * (height * width)
    sampled = 0.0
    for step_y in (0, 1):
        y, weight_y = _neighbour(corner[..., 1], fraction[..., 1], step_y, height)
        for step_x in (0, 1):
            x, weight_x = _neighbour(corner[..., 0], fraction[..., 0], step_x, width)
            neighbour = tf.gather(pixels, first_pixel + y * width + x)
            sampled += neighbour * tf.cast(weight_y * weight_x, image.dtype)[..., None]
    return sampled


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


def _corner(position, height, width) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits positions into the upper left neighbour (int32) and the fraction beyond it."""
    # Far outside all neighbours count as zero, so clipping there changes nothing; without it the
    # conversion to integers would be undefined for huge flows.
    last = tf.cast(tf.stack([width, height]), tf.float32)
    position = tf.clip_by_value(position, -2.0, last + 1.0)
    corner = tf.floor(position)
    return tf.cast(corner, tf.int32), position - corner


def _neighbour(corner, fraction, step, size) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the index of a neighbour, moved inside, and its weight, zero if it was outside."""
    index = corner + step
    weight = fraction if step else 1.0 - fraction
    # Counted from 1: clipping to [0, 6], TFLite's converter would make a ReLU6 of integers of it,
    # which no run-time has.
    clipped = tf.clip_by_value(index + 1, 1, size) - 1
    return clipped, weight * tf.cast(tf.equal(index, clipped), tf.float32)
