"""Grids, flows and homographies: the conventions of the whole project, as pure functions.

- Images are [batch, height, width, 3], RGB, 0..255.
- ``flow[b, y, x] = (dx, dy)`` is in pixels and maps target to source: ``target(x, y)`` shows what
  ``source(x + dx, y + dy)`` shows. So ``warp(source, flow)`` looks like the target.
- A *map* is the flow plus its own position: ``map(x, y) = (x + dx, y + dy)``.
- Pixel centres are at integer coordinates: the image spans [-0.5, width - 0.5] in x.
- Resizing uses half-pixel centres (``align_corners=False``), without anti-aliasing.
"""

import tensorflow as tf


def pixel_grid(height, width, dtype=tf.float32) -> tf.Tensor:
    """Returns the position (x, y) of each pixel, [height, width, 2]."""
    x, y = tf.meshgrid(tf.range(width), tf.range(height))
    return tf.cast(tf.stack([x, y], axis=-1), dtype)


def flow_to_map(flow) -> tf.Tensor:
    """Adds to a flow [..., height, width, 2] the position of each pixel."""
    return flow + pixel_grid(*spatial_size(flow), flow.dtype)


def map_to_flow(mapping) -> tf.Tensor:
    """Subtracts from a map [..., height, width, 2] the position of each pixel."""
    return mapping - pixel_grid(*spatial_size(mapping), mapping.dtype)


def spatial_size(x) -> tuple:
    """Returns height and width of [..., height, width, channels]: integers where they are known."""
    dynamic = tf.shape(x)
    height, width = x.shape[-3], x.shape[-2]
    return (
        dynamic[-3] if height is None else height,
        dynamic[-2] if width is None else width,
    )


def resize_bilinear(x, size) -> tf.Tensor:
    """Resizes [batch, height, width, channels] to `size` = (height, width), half-pixel centres."""
    # Of 16-bit floats XLA's gradient would be of another type than TensorFlow holds it to be.
    wide = tf.cast(x, tf.float32)
    return tf.cast(tf.image.resize(wide, size, method="bilinear", antialias=False), x.dtype)


def resize_area(x, size) -> tf.Tensor:
    """Resizes [batch, height, width, channels] by averaging boxes (adaptive average pooling).

    Output index i averages the input indices from ``floor(i n / m)`` to ``ceil((i + 1) n / m) - 1``
    where n is the size and m the new one, each with the same weight. It enlarges too, by
    replicating pixels and averaging pairs. The original networks reduce their images in this way.

    Args:
        x: any floating dtype.
        size: (height, width) of the result, integers or integer tensors.
    """
    height, width = spatial_size(x)
    rows = _averaging_matrix(height, size[0], x.dtype)
    columns = _averaging_matrix(width, size[1], x.dtype)
    return tf.einsum("yh,bhwc,xw->byxc", rows, x, columns)


def _averaging_matrix(size, new_size, dtype) -> tf.Tensor:
    """Returns the weights [new_size, size] of adaptive average pooling along one axis."""
    output = tf.range(new_size)[:, None]
    position = tf.range(size)
    first = output * size // new_size
    end = -(-(output + 1) * size // new_size)
    within = tf.logical_and(position >= first, position < end)
    return tf.cast(within, dtype) / tf.cast(end - first, dtype)


def resize_flow(flow, size) -> tf.Tensor:
    """Resizes a flow and scales its values, so that they are pixels of the new size.

    Args:
        flow: [batch, height, width, 2], in pixels of its own size.
        size: (height, width) of the result.
    """
    height, width = spatial_size(flow)
    scale = tf.stack([size[1] / width, size[0] / height])
    return resize_bilinear(flow, size) * tf.cast(scale, flow.dtype)


def homography_flow(homography, height, width) -> tf.Tensor:
    """Returns the flow of a homography that maps target pixels to source pixels.

    Args:
        homography: [..., 3, 3].
        height, width: of the target.

    Returns:
        [..., height, width, 2]. A point that the homography sends to infinity or behind the
        camera (denominator not positive) gets a flow far outside any image.
    """
    homography = tf.convert_to_tensor(homography)
    grid = pixel_grid(height, width, homography.dtype)
    positions = tf.reshape(grid, [-1, 2])
    homogeneous = tf.concat([positions, tf.ones_like(positions[:, :1])], axis=-1)
    mapped = tf.matmul(homogeneous, homography, transpose_b=True)
    denominator = mapped[..., 2:]
    far = tf.constant(1e6, homography.dtype)
    safe = tf.where(denominator > 1e-8, denominator, tf.ones_like(denominator))
    mapped = tf.where(denominator > 1e-8, mapped[..., :2] / safe, far)
    shape = tf.concat([tf.shape(homography)[:-2], [height, width, 2]], axis=0)
    return tf.reshape(mapped, shape) - grid
