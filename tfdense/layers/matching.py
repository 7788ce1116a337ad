"""Matching features: over the whole image, and around a first guess of the flow."""

import math
import numbers

import keras
import tensorflow as tf

from tfdense.geometry import pixel_grid, spatial_size
from tfdense.layers.attention import NORM_SCALE
from tfdense.layers.operations import LocalCorrelation
from tfdense.ops import correlation, warping
from tfdense.ops.checks import check_floating


@keras.saving.register_keras_serializable("tfdense")
class GlobalMatching(keras.layers.Layer):
    """Finds each target position's match among all source positions.

    The correlation with every source position becomes a probability by a softmax with a learned
    temperature; the match is the mean position in a Gaussian window around the maximum, which is
    precise to a fraction of a cell and does not mix distant modes (the kernel soft arg max of
    SFNet, Lee et al., CVPR 2019).

    Attributes:
        window: standard deviation of the Gaussian window, in cells, positive.

    For example:

    >>> target, source = (UnitMeanSquare()(keras.Input((16, 16, 96))) for _ in range(2))
    >>> flow, certainty, log_probability = GlobalMatching()(target, source)
    >>> flow.shape, certainty.shape, log_probability.shape
    ((None, 16, 16, 2), (None, 16, 16, 4), (None, 16, 16, 256))
    """

    def __init__(self, window: float = 1.5, **kwargs):
        if not isinstance(window, numbers.Real) or not 0 < window < math.inf:
            raise ValueError(f"`window` must be positive and finite. Received: {window=}")
        super().__init__(**kwargs)
        self.window = float(window)

    def build(self, target_shape, source_shape=None):
        self.log_temperature = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(3.0), name="log_temperature"
        )

    def call(self, target, source):
        """Matches two feature maps whose mean square over the channels is 1.

        Args:
            target: [batch, height, width, channels].
            source: [batch, source height, source width, channels].

        Returns:
            The flow in cells, float32 [batch, height, width, 2]; four measures of its certainty,
            [batch, height, width, 4]: the probability of the maximum, the probability within the
            window, the entropy relative to that of a uniform distribution, and the largest
            probability of being each other's match; and the log-probability of each source
            position, [batch, height, width, source positions].
        """
        target, source = tf.cast(target, tf.float32), tf.cast(source, tf.float32)
        similarity = correlation.all_pairs(target, source) / target.shape[-1]
        score = similarity * tf.exp(tf.cast(self.log_temperature, tf.float32))
        probability, log_probability = _softmax(score, -1)

        positions = tf.reshape(pixel_grid(*spatial_size(source)), [-1, 2])
        best = tf.argmax(similarity, axis=-1, output_type=tf.int32)
        # With one axis, as GPUs need it.
        best = tf.gather(positions, tf.reshape(best, [-1]))
        best = tf.reshape(best, tf.concat([tf.shape(similarity)[:-1], [2]], axis=0))
        # |p - best|² without the difference itself, which would be a five-dimensional tensor.
        squared_distance = (
            tf.reduce_sum(tf.square(positions), axis=-1)
            - 2.0 * tf.einsum("bhwc,nc->bhwn", best, positions)
            + tf.reduce_sum(tf.square(best), axis=-1, keepdims=True)
        )
        windowed = probability * tf.exp(squared_distance * (-0.5 / self.window**2))
        within = tf.reduce_sum(windowed, axis=-1, keepdims=True)
        mean = tf.einsum("bhwn,nc->bhwc", windowed, positions) / within
        flow = mean - pixel_grid(*spatial_size(target))

        entropy = -tf.reduce_sum(probability * log_probability, axis=-1, keepdims=True)
        # A single position leaves no doubt: 0, but not of log 1.
        entropy /= tf.math.log(tf.cast(tf.maximum(tf.shape(positions)[0], 2), tf.float32))
        peak = tf.reduce_max(probability, axis=-1, keepdims=True)
        _, backward = _softmax(score, (1, 2))
        mutual = tf.exp(tf.reduce_max(log_probability + backward, axis=-1, keepdims=True))
        return flow, tf.concat([peak, within, entropy, mutual], axis=-1), log_probability

    def compute_output_shape(self, target_shape, source_shape=None):
        rows, columns = (source_shape or target_shape)[1:3]
        cells = None if None in (rows, columns) else rows * columns
        return tuple((*target_shape[:3], channels) for channels in (2, 4, cells))

    def get_config(self):
        return {**super().get_config(), "window": self.window}


@keras.saving.register_keras_serializable("tfdense")
class WarpedCorrelation(LocalCorrelation):
    """Correlates target features with a window of the source around the current flow.

    Attributes:
        radius: of the window, in cells.

    For example:

    >>> target, source, flow = (keras.Input((32, 32, channels)) for channels in (64, 64, 2))
    >>> WarpedCorrelation(radius=4)(target, source, flow).shape
    (None, 32, 32, 81)
    """

    def build(self, target_shape, source_shape=None, flow_shape=None):
        """Has no weights; tells `summary()` the shape."""

    def call(self, target, source, flow):
        """Warps the source features by the flow and correlates (PDC-Net, section 4.1).

        Args:
            target, source: [batch, height, width, channels].
            flow: [batch, height, width, 2], in cells.

        Returns:
            [batch, height, width, (2 radius + 1)²].
        """
        return correlation.local(target, warping.bilinear(source, flow), self.radius)

    def compute_output_shape(self, target_shape, source_shape=None, flow_shape=None):
        return super().compute_output_shape(target_shape, source_shape)


@keras.saving.register_keras_serializable("tfdense")
class UnitMeanSquare(keras.layers.Layer):
    """Scales features to a mean square of 1 over the channels, so that correlation is a cosine.

    Call:
        features: [..., channels], any floating dtype.
        Returns the same shape and dtype.

    For example:

    >>> UnitMeanSquare()(tf.constant([[3.0, 4.0]])).numpy().round(3)
    array([[0.849, 1.131]], dtype=float32)
    """

    def call(self, features):
        features = tf.convert_to_tensor(features)
        check_floating(features=features)
        scaled = NORM_SCALE * tf.cast(features, tf.float32)
        power = tf.reduce_mean(tf.square(scaled), axis=-1, keepdims=True)
        power += 1e-6 * NORM_SCALE**2
        return tf.cast(scaled * tf.math.rsqrt(power), features.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("tfdense")
class JoinedDescriptors(keras.layers.Layer):
    """Joins descriptors, each of mean square 1, so that their cosines add up by learned weights.

    For example:

    >>> JoinedDescriptors()([tf.ones([1, 2, 2, 96]), tf.ones([1, 2, 2, 64])]).shape
    TensorShape([1, 2, 2, 160])
    """

    def build(self, shapes):
        self.scales = self.add_weight(shape=(len(shapes),), initializer="ones", name="scales")

    def call(self, descriptors):
        """Returns [..., sum of all channels].

        Args:
            descriptors: a list of [..., channels].
        """
        total = sum(x.shape[-1] for x in descriptors)
        scales = tf.unstack(tf.cast(self.scales, self.compute_dtype))
        return tf.concat(
            [
                scale * (total / x.shape[-1]) ** 0.5 * x
                for scale, x in zip(scales, descriptors, strict=True)
            ],
            axis=-1,
        )

    def compute_output_shape(self, shapes):
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


def _softmax(x, axis) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the softmax over any axes, and its logarithm.

    GPUs of devices have no log-softmax, which TFLite's converter would make of a difference of
    logarithms.
    """
    x -= tf.stop_gradient(tf.reduce_max(x, axis, keepdims=True))
    power = tf.exp(x)
    scale = 1.0 / tf.reduce_sum(power, axis, keepdims=True)
    return power * scale, x + tf.math.log(scale)
