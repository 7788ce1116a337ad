"""Refinement of a flow by an unrolled variational method with learned weights.

The flow minimises a data term (what both images show agrees, linearised around the flow so far), a
smoothness term (neighbours move alike, less so across edges), and a term that keeps it near where
it began. The first two are robust: their weights follow from what is left of them, as in
iteratively reweighted least squares (Brox et al., ECCV 2004; normalised by the gradient as by
Zimmer et al., EMMCVPR 2009). How much each counts is learned, for each pixel.

Fields are planes, [batch, channels, height, width]: with one or two channels, a device computes
them many times faster than [batch, height, width, channels].
"""

import math

import keras
import numpy as np
import tensorflow as tf

from tfdense.geometry import resize_bilinear, spatial_size
from tfdense.ops import warping
from tfdense.ops.correlation import is_differentiated

# Of the local contrast, in grey levels: where there is less, there is hardly more than noise.
_NOISE = 4.0
# Of what is between two pixels: makes it that of the second, or of the first, along x and y.
_MARGINS = (
    ([[0, 0], [0, 0], [0, 0], [1, 0]], [[0, 0], [0, 0], [0, 0], [0, 1]]),
    ([[0, 0], [0, 0], [1, 0], [0, 0]], [[0, 0], [0, 0], [0, 1], [0, 0]]),
)


def normalised_grey(image) -> tf.Tensor:
    """Returns the grey image without its local mean, divided by its local contrast.

    Args:
        image: [batch, height, width, 3], RGB in 0..255, sides divisible by 4.

    Returns:
        float32 [batch, 1, height, width]. Mean and standard deviation are those of some 12x12 px
        around, so it hardly changes with the light.
    """
    grey = tf.reduce_mean(tf.cast(image, tf.float32), axis=-1, keepdims=True) - 128.0
    mean, square = (_local_mean(x) for x in (grey, tf.square(grey)))
    variance = tf.maximum(square - tf.square(mean), 0.0)
    return to_planes((grey - mean) * tf.math.rsqrt(variance + _NOISE**2))


def _local_mean(x) -> tf.Tensor:
    coarse = tf.nn.avg_pool2d(tf.nn.avg_pool2d(x, 4, 4, "SAME"), 3, 1, "SAME")
    return resize_bilinear(coarse, spatial_size(x))


def to_planes(x) -> tf.Tensor:
    """Turns [batch, height, width, channels] into [batch, channels, height, width]."""
    if x.shape[-1] == 1:
        height, width = spatial_size(x)
        return tf.reshape(x, [tf.shape(x)[0], 1, height, width])
    return tf.transpose(x, [0, 3, 1, 2])


def from_planes(x) -> tf.Tensor:
    """Undoes `to_planes`."""
    return tf.transpose(x, [0, 2, 3, 1])


@keras.saving.register_keras_serializable("tfdense")
class VariationalStage(keras.layers.Layer):
    """Some steps of the minimisation, after one warp.

    Attributes:
        outer: how often the robust weights are computed.
        inner: steps after each.
    """

    def __init__(self, outer: int = 2, inner: int = 4, **kwargs):
        # The flow keeps its precision.
        super().__init__(autocast=False, **kwargs)
        self.outer = outer
        self.inner = inner

    def build(
        self, flow_shape, prior_shape=None, target_shape=None, source_shape=None, logs_shape=None
    ):
        def weight(name, values):
            return self.add_weight(
                shape=np.shape(values),
                initializer=keras.initializers.Constant(np.array(values, np.float32)),
                autocast=False,
                name=name,
            )

        # Of brightness and its two derivatives.
        self.log_data = weight("log_data", np.log([0.3, 1.0, 1.0]))
        self.log_data_scale = weight("log_data_scale", np.log([0.3, 0.3, 0.3]))
        self.log_gradient_floor = weight("log_gradient_floor", np.log([0.2, 0.2, 0.2]))
        self.log_smoothness = weight("log_smoothness", math.log(0.8))
        self.log_smoothness_scale = weight("log_smoothness_scale", math.log(0.1))
        self.log_edge = weight("log_edge", math.log(0.5))
        self.relaxation = weight("relaxation", _chebyshev(self.outer * self.inner))

    def call(self, flow, prior, target, source, logs):
        """Refines.

        Args:
            flow: so far, [batch, 2, height, width], in px of its own size.
            prior: the flow that it is kept near to.
            target, source: see `normalised_grey`, of the same size.
            logs: log-weights of the three terms, [batch, 3, height, width].

        Returns:
            The flow's change, [batch, 2, height, width], and what the terms are there: the data's
            residual of each channel divided by its gradient, in px, [batch, 3, height, width], the
            data's and the smoothness's weights, two of [batch, 1, height, width].
        """
        flow, prior, target, source, logs = (
            tf.cast(x, tf.float32) for x in (flow, prior, target, source, logs)
        )
        data, smoothness, attachment = tf.split(tf.clip_by_value(logs, -9.0, 9.0), 3, axis=1)
        attachment = tf.exp(attachment)
        start = tf.stop_gradient(flow)
        warped, inside = warping.plane(source, start)
        first, second = _features(target), _features(warped)
        difference = second - first
        gradient_x, gradient_y = (0.5 * (d(first) + d(second)) for d in (_slope_x, _slope_y))
        floor = tf.exp(2.0 * self.log_gradient_floor)[:, None, None]
        scale = tf.math.rsqrt(tf.square(gradient_x) + tf.square(gradient_y) + floor)
        difference, gradient_x, gradient_y = (
            x * scale for x in (difference, gradient_x, gradient_y)
        )
        data = tf.exp(data) * inside
        edge_x, edge_y = self._edges(target, smoothness)

        # Solved for the change, which is small: of the flow itself float32 would round more.
        slopes = _pair_x(start, -1.0), _pair_y(start, -1.0)
        change = previous = _no_change(flow)
        to_prior = _no_change(prior) if prior is flow else prior - start
        step = 0
        for _ in range(self.outer):
            residual = difference + gradient_x * change[:, :1] + gradient_y * change[:, 1:]
            robust = self._robust(residual, data)
            robust_x = robust * gradient_x
            xx, xy, yy = (
                tf.reduce_sum(product, axis=1, keepdims=True)
                for product in (
                    robust_x * gradient_x,
                    robust_x * gradient_y,
                    robust * gradient_y * gradient_y,
                )
            )
            pull = tf.concat(
                [
                    tf.reduce_sum(robust_x * difference, axis=1, keepdims=True),
                    tf.reduce_sum(robust * gradient_y * difference, axis=1, keepdims=True),
                ],
                axis=1,
            )
            links = self._links(slopes, change, edge_x, edge_y)
            total = links[0] + links[1] + links[2] + links[3] + attachment
            constant = attachment * to_prior - pull + _bend(slopes, links)
            # Relative to the total weight, so that no value leaves the range of float16; written so
            # that rounding cannot make the determinant zero or negative.
            part = 1.0 / total
            x_part, y_part, xy_part = xx * part, yy * part, xy * part
            minor = tf.maximum(x_part * y_part - tf.square(xy_part), 0.0)
            inverse = part / (1.0 + x_part + y_part + minor)
            from_x, from_y = (1.0 + y_part) * inverse, (1.0 + x_part) * inverse
            across = -xy_part * inverse
            for _ in range(self.inner):
                right = constant + _neighbours(change, links)
                x, y = right[:, :1], right[:, 1:]
                solved = tf.concat([from_x * x + across * y, across * x + from_y * y], axis=1)
                change, previous = previous + self.relaxation[step] * (solved - previous), change
                step += 1
        residual = difference + gradient_x * change[:, :1] + gradient_y * change[:, 1:]
        return change, residual, xx + yy, total

    def compute_output_shape(
        self, flow_shape, prior_shape=None, target_shape=None, source_shape=None, logs_shape=None
    ):
        batch, _, *size = flow_shape
        return tuple((batch, channels, *size) for channels in (2, 3, 1, 1))

    def _robust(self, residual, data) -> tf.Tensor:
        weight, scale = (
            tf.exp(x)[:, None, None] for x in (self.log_data, 2.0 * self.log_data_scale)
        )
        return data * weight * tf.math.rsqrt(tf.square(residual) + scale)

    def _edges(self, image, smoothness) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the smoothness between each pixel and its right and lower neighbour."""
        edge = tf.exp(self.log_edge)
        smoothness = smoothness + self.log_smoothness
        return tuple(
            tf.exp(difference(smoothness, 0.5) - edge * tf.abs(difference(image, -1.0)))
            for difference in (_pair_x, _pair_y)
        )

    def _links(self, slopes, change, edge_x, edge_y) -> list[tf.Tensor]:
        """Returns how strongly each pixel is tied to its left, right, upper and lower neighbour."""
        scale = tf.exp(2.0 * self.log_smoothness_scale)
        links = []
        for slope, edge, pair, margins in zip(
            slopes, (edge_x, edge_y), (_pair_x, _pair_y), _MARGINS, strict=True
        ):
            square = tf.square(slope + pair(change, -1.0))
            link = edge * tf.math.rsqrt(tf.reduce_sum(square, axis=1, keepdims=True) + scale)
            links += [tf.pad(link, margin) for margin in margins]
        return links

    def get_config(self):
        return {**super().get_config(), "outer": self.outer, "inner": self.inner}


def _no_change(flow) -> tf.Tensor:
    """Returns zeros that go on with the flow's gradient: GPUs refuse a tensor minus itself."""
    if not is_differentiated():
        return tf.zeros_like(flow)
    return tf.custom_gradient(lambda x: (tf.zeros_like(x), lambda gradient: gradient))(flow)


def _chebyshev(steps: int, radius: float = 0.95) -> list[float]:
    """Returns the factors of the Chebyshev semi-iteration (Golub and Varga, 1961)."""
    factors = [1.0, 2.0 / (2.0 - radius**2)]
    while len(factors) < steps:
        factors.append(1.0 / (1.0 - 0.25 * radius**2 * factors[-1]))
    return factors[:steps]


def _features(image) -> tf.Tensor:
    """Returns an image and its derivatives, [batch, 3, height, width]."""
    return tf.concat([image, _slope_x(image), _slope_y(image)], axis=1)


def _slope_x(x) -> tf.Tensor:
    """The derivative along x, to the fourth order; wrong within two pixels of the border."""
    x = tf.pad(x, [[0, 0], [0, 0], [0, 0], [2, 2]])
    return (x[..., :-4] - x[..., 4:] + 8.0 * (x[..., 3:-1] - x[..., 1:-3])) / 12.0


def _slope_y(x) -> tf.Tensor:
    x = tf.pad(x, [[0, 0], [0, 0], [2, 2], [0, 0]])
    return (x[:, :, :-4] - x[:, :, 4:] + 8.0 * (x[:, :, 3:-1] - x[:, :, 1:-3])) / 12.0


def _pair_x(x, factor: float) -> tf.Tensor:
    """Adds to each pixel its right neighbour; with factor -1 it is the difference, 0.5 the mean."""
    left, right = x[..., :-1], x[..., 1:]
    return right - left if factor < 0 else factor * (left + right)


def _pair_y(x, factor: float) -> tf.Tensor:
    upper, lower = x[:, :, :-1], x[:, :, 1:]
    return lower - upper if factor < 0 else factor * (upper + lower)


def _bend(slopes, links) -> tf.Tensor:
    """Sums the differences of each pixel's four neighbours from it, each times its link."""
    towards = [
        tf.pad(sign * slope, margin)
        for slope, margins in zip(slopes, _MARGINS, strict=True)
        for sign, margin in zip((-1.0, 1.0), margins, strict=True)
    ]
    left, right, upper, lower = (link * x for link, x in zip(links, towards, strict=True))
    return left + right + upper + lower


def _neighbours(x, links) -> tf.Tensor:
    """Sums the four neighbours of each pixel, each times its link."""
    x = tf.pad(x, [[0, 0], [0, 0], [1, 1], [1, 1]])
    left, right, upper, lower = links
    return (
        left * x[:, :, 1:-1, :-2]
        + right * x[:, :, 1:-1, 2:]
        + upper * x[:, :, :-2, 1:-1]
        + lower * x[:, :, 2:, 1:-1]
    )
