"""The parts of TensorFlow Addons that matching networks were built with, under their old names.

TensorFlow Addons ended in May 2024; its compiled operations load under TensorFlow 2.15 at most.
These take the same arguments and give the same numbers and gradients as version 0.23 on a CPU, but
are made of TensorFlow's own operations: they run with any current TensorFlow, on any device, under
XLA, and convert to TFLite. Their conventions are those of TensorFlow Addons, not of the rest of
tfdense: `docs/tensorflow_addons.md` says what differs.
"""

import keras
import tensorflow as tf

from tfdense.geometry import pixel_grid, spatial_size
from tfdense.ops import correlation, warping
from tfdense.ops.checks import check_floating

_FORMATS = ("channels_last", "channels_first")


@keras.saving.register_keras_serializable("tfdense")
class CorrelationCost(keras.layers.Layer):
    """Correlates patches of one feature map with those at displacements in another.

    ``tfa.layers.CorrelationCost`` (FlowNetC: Dosovitskiy et al., ICCV 2015, section 3). With
    r = max_displacement // stride_2, k = (kernel_size - 1) / 2 and c channels, zero outside:

    ``output[b, y, x, (2 r + 1) (v + r) + u + r] = mean over |j|, |i| <= k and c of
    a[b, Y + j, X + i, c] * b[b, Y + stride_2 v + j, X + stride_2 u + i, c]`` where
    ``Y = stride_1 (y - pad) + max_displacement + k``, X likewise. So `pad` counts pixels of the
    *output*, which makes a difference from a `stride_1` of 2 on.

    Args:
        kernel_size: height and width of the patches, odd.
        max_displacement: largest displacement along each axis, in px.
        stride_1: step from one output pixel to the next, in px of the inputs.
        stride_2: step from one displacement to the next, in px.
        pad: zeros around the inputs.
        data_format: "channels_last" or "channels_first", of inputs and output.

    Call:
        inputs: a list of two tensors of the same shape and floating dtype, [batch, height, width,
            channels] or [batch, channels, height, width].
        Returns the inputs' dtype, [batch, rows, columns, (2 r + 1)²] or [batch, (2 r + 1)², rows,
        columns], with ``rows = ceil((height + 2 (pad - max_displacement - k)) / stride_1)``.

    Raises:
        ValueError: if an argument or the number, dtype or size of the inputs does not fit.

    For example:

    >>> layer = CorrelationCost(1, 4, 1, 1, 4, "channels_first")
    >>> layer([keras.Input((16, 32, 40)), keras.Input((16, 32, 40))]).shape
    (None, 81, 32, 40)
    """

    def __init__(
        self,
        kernel_size: int,
        max_displacement: int,
        stride_1: int,
        stride_2: int,
        pad: int,
        data_format: str,
        **kwargs,
    ):
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"`kernel_size` must be odd. Received: kernel_size={kernel_size}")
        if min(stride_1, stride_2) < 1 or min(max_displacement, pad) < 0:
            raise ValueError(
                "The strides must be positive, `max_displacement` and `pad` not negative. "
                f"Received: {stride_1=}, {stride_2=}, {max_displacement=}, {pad=}"
            )
        if data_format not in _FORMATS:
            raise ValueError(
                f"`data_format` must be one of {_FORMATS}. Received: data_format={data_format!r}"
            )
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.max_displacement = max_displacement
        self.stride_1 = stride_1
        self.stride_2 = stride_2
        self.pad = pad
        self.data_format = data_format

    def call(self, inputs):
        if not isinstance(inputs, (list, tuple)) or len(inputs) != 2:
            raise ValueError(f"Expected a list of two tensors. Received: {inputs}")
        a, b = (tf.convert_to_tensor(x) for x in inputs)
        check_floating(a=a, b=b)
        if self.data_format == "channels_first":
            a, b = (tf.transpose(x, [0, 2, 3, 1]) for x in (a, b))
        output = self._correlate(a, b)
        if self.data_format == "channels_first":
            output = tf.transpose(output, [0, 3, 1, 2])
        return output

    def compute_output_shape(self, input_shape):
        batch, *shape = input_shape[0]
        channels = (2 * (self.max_displacement // self.stride_2) + 1) ** 2
        if self.data_format == "channels_first":
            return (batch, channels, *(self._length(side) for side in shape[1:]))
        return (batch, *(self._length(side) for side in shape[:2]), channels)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "max_displacement": self.max_displacement,
            "stride_1": self.stride_1,
            "stride_2": self.stride_2,
            "pad": self.pad,
            "data_format": self.data_format,
        }

    def _length(self, side):
        """Returns how long a side of the output is, as integer or tensor; None if not known."""
        if side is None:
            return None
        border = self.max_displacement + (self.kernel_size - 1) // 2
        length = -(-(side + 2 * (self.pad - border)) // self.stride_1)
        if isinstance(length, int) and length < 1:
            raise ValueError(
                f"A side of {side} px is too short for a border of {border} px and a padding of "
                f"{self.pad} px."
            )
        return length

    def _correlate(self, a, b):
        """Correlates pixels everywhere, then averages over the patches that are asked for."""
        scores = _dilated_correlation(a, b, self.max_displacement // self.stride_2, self.stride_2)
        # Outside of a nothing correlates: what is padded are zeros, and it is the scores' padding.
        first = self.max_displacement - self.pad * self.stride_1
        paddings, begin, size = [[0, 0]], [0], [-1]
        for side in spatial_size(a):
            length = (self._length(side) - 1) * self.stride_1 + self.kernel_size
            paddings.append([max(-first, 0), _at_least_0(first + length - side)])
            begin.append(max(first, 0))
            size.append(length)
        scores = tf.slice(tf.pad(scores, [*paddings, [0, 0]]), [*begin, 0], [*size, -1])
        if self.kernel_size == 1:
            return scores[:, :: self.stride_1, :: self.stride_1]
        return tf.nn.avg_pool2d(scores, self.kernel_size, self.stride_1, "VALID")


def _dilated_correlation(a, b, radius: int, step: int):
    """Correlates at every `step`-th displacement: each phase of the grid of pixels on its own."""
    if step == 1:
        return correlation.local(a, b, radius)
    margins = [[0, -side % step] for side in spatial_size(a)]
    a, b = (tf.space_to_batch(x, [step, step], margins) for x in (a, b))
    return tf.batch_to_space(correlation.local(a, b, radius), [step, step], margins)


def _at_least_0(length):
    return max(length, 0) if isinstance(length, int) else tf.maximum(length, 0)


def dense_image_warp(image, flow, name: str | None = None) -> tf.Tensor:
    """Samples an image at positions that a flow is *subtracted* from, rows first.

    ``tfa.image.dense_image_warp``: ``output[b, y, x] = image[b, y - flow[b, y, x, 0],
    x - flow[b, y, x, 1]]``, bilinear. Outside of the image the nearest pixel of its border counts.
    In terms of `tfdense.ops.warp`, whose flow is (dx, dy), added, and which is zero outside:
    ``flow = -its[..., ::-1]``.

    Args:
        image: [batch, height, width, channels], any floating dtype.
        flow: [batch, height, width, 2], (dy, dx) in px, any floating dtype.
        name: of the operation.

    Returns:
        [batch, height, width, channels], of the image's dtype. Differentiable in both arguments.

    Raises:
        ValueError: if the image is not of a floating dtype, or the shapes do not fit, as far as
            they are known.

    For example:

    >>> image = tf.reshape(tf.range(12.0), [1, 3, 4, 1])
    >>> right = tf.constant([0.0, -1.0]) * tf.ones([1, 3, 4, 1])
    >>> dense_image_warp(image, right)[0, 0, :, 0].numpy()
    array([1., 2., 3., 3.], dtype=float32)
    """
    with tf.name_scope(name or "dense_image_warp"):
        image, flow = tf.convert_to_tensor(image), tf.convert_to_tensor(flow)
        check_floating(image=image)
        if image.shape.rank != 4 or not flow.shape.is_compatible_with([*image.shape[:-1], 2]):
            raise ValueError(
                "Expected an image [batch, height, width, channels] and a flow [batch, height, "
                f"width, 2]. Received: {image.shape} and {flow.shape}"
            )
        flow = warping.at_least_float32(flow)
        positions = pixel_grid(*spatial_size(image), flow.dtype)[..., ::-1] - flow
        positions = tf.reshape(positions, [tf.shape(image)[0], -1, 2])
        warped = tf.reshape(interpolate_bilinear(image, positions), tf.shape(image))
        return tf.ensure_shape(warped, image.shape)


def interpolate_bilinear(
    grid, query_points, indexing: str = "ij", name: str | None = None
) -> tf.Tensor:
    """Samples an image at some positions, bilinearly; beyond its border that goes on.

    ``tfa.image.interpolate_bilinear``.

    Args:
        grid: [batch, height, width, channels], any floating dtype.
        query_points: [batch, n, 2], in px, any floating dtype.
        indexing: "ij" if the positions are (y, x), "xy" if they are (x, y).
        name: of the operation.

    Returns:
        [batch, n, channels], of the grid's dtype. Differentiable in grid and positions; NaN at a
        position that is NaN.

    Raises:
        ValueError: if `indexing` is neither, the grid is not of a floating dtype, or the number of
            axes does not fit.

    For example:

    >>> grid = tf.reshape(tf.range(12.0), [1, 3, 4, 1])
    >>> interpolate_bilinear(grid, [[[1.5, 0.25], [9.0, 9.0]]])[0, :, 0].numpy()
    array([ 6.25, 11.  ], dtype=float32)
    """
    if indexing not in ("ij", "xy"):
        raise ValueError(f"`indexing` must be 'ij' or 'xy'. Received: indexing={indexing!r}")
    with tf.name_scope(name or "interpolate_bilinear"):
        grid, query_points = tf.convert_to_tensor(grid), tf.convert_to_tensor(query_points)
        check_floating(grid=grid)
        if grid.shape.rank != 4 or query_points.shape.rank != 3:
            raise ValueError(
                "Expected a grid [batch, height, width, channels] and query points [batch, n, 2]. "
                f"Received: {grid.shape} and {query_points.shape}"
            )
        if indexing == "xy":
            query_points = query_points[..., ::-1]
        height, width = spatial_size(grid)
        last = tf.maximum(tf.stack([height, width]) - 2, 0)
        query_points = warping.at_least_float32(query_points)
        corner = tf.clip_by_value(query_points, 0, tf.cast(last, query_points.dtype))
        # Once more as integers, since NaN may have become any.
        corner = tf.clip_by_value(tf.cast(tf.floor(corner), tf.int32), 0, last)
        fraction = tf.cast(query_points - tf.cast(corner, query_points.dtype), grid.dtype)
        # With this order the gradient is zero at whole positions, as it is there.
        fraction = tf.minimum(tf.maximum(tf.zeros([], grid.dtype), fraction), 1)
        down, right = fraction[..., :1], fraction[..., 1:]

        pixels = tf.reshape(grid, [-1, grid.shape[-1]])
        first_pixel = tf.range(tf.shape(grid)[0])[:, None] * (height * width)
        index = first_pixel + corner[..., 0] * width + corner[..., 1]
        # A grid of one row or column is its own neighbour.
        to_right, below = tf.minimum(width - 1, 1), tf.minimum(height - 1, 1) * width

        def row(start):
            left = tf.gather(pixels, start)
            return left + right * (tf.gather(pixels, start + to_right) - left)

        upper = row(index)
        return upper + down * (row(index + below) - upper)


def resampler(data, warp, name: str | None = None) -> tf.Tensor:
    """Samples an image at positions (x, y), bilinearly; zero outside.

    ``tfa.image.resampler``.

    Args:
        data: [batch, height, width, channels], any floating dtype.
        warp: [batch, ..., 2], (x, y) in px, any floating dtype.
        name: of the operation.

    Returns:
        [batch, ..., channels], of the data's dtype. Each of the four neighbours that lies outside
        counts as zero. Differentiable in both arguments.

    Raises:
        ValueError: if the data are not of a floating dtype.

    For example:

    >>> data = tf.reshape(tf.range(12.0), [1, 3, 4, 1])
    >>> resampler(data, [[[0.25, 1.5], [3.5, 2.0]]])[0, :, 0].numpy()
    array([6.25, 5.5 ], dtype=float32)
    """
    with tf.name_scope(name or "resampler"):
        data, warp = tf.convert_to_tensor(data), tf.convert_to_tensor(warp)
        check_floating(data=data)
        height, width = spatial_size(data)
        size = tf.cast(tf.stack([width, height]), warp.dtype)
        # Where nothing is sampled there is no gradient either.
        near = (warp > -1) & (warp < size)
        positions = tf.where(near, warp, tf.constant(-2, warp.dtype))
        positions = tf.reshape(positions, [tf.shape(warp)[0], -1, 1, 2])
        shape = tf.concat([tf.shape(warp)[:-1], tf.shape(data)[-1:]], axis=0)
        sampled = tf.reshape(warping.sample(data, positions), shape)
        return tf.ensure_shape(sampled, [*warp.shape[:-1], data.shape[-1]])
