"""Attention: features learn of each other, and uncertain flow follows certain flow."""

import math

import keras
import tensorflow as tf

from tfdense.geometry import pixel_grid, spatial_size
from tfdense.layers.channels_last import Conv2D, DepthwiseConv2D
from tfdense.layers.freezing import KeepsFrozenParts

# Features are multiplied by it before they are normalised, which else changes nothing: the sum of
# their squares would exceed float16's largest number, 65504, in which GPUs compute on devices.
NORM_SCALE = 0.25


@keras.saving.register_keras_serializable("tfdense")
class ContextLayer(KeepsFrozenParts, keras.layers.Layer):
    """Tells each position of one image's features what is elsewhere, there and in the other image.

    Attention among the image's own positions, attention to the other image's, and a convolutional
    network for each position and its neighbours, in place of an encoding of positions: the layer
    works at any size. Each adds to the features by a learned scale that starts small, so that the
    untrained layer changes little (after LoFTR, Sun et al., CVPR 2021, section 3.2, and CaiT,
    Touvron et al., ICCV 2021, for the scales).

    Attributes:
        channels: of the features.
        heads: of the attention.
        expansion: channels within the network, as multiple of those of the features.
    """

    def __init__(self, channels: int, heads: int = 2, expansion: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.heads = heads
        self.expansion = expansion
        own = {"dtype": self.dtype_policy}
        self.normalisations = [
            keras.layers.LayerNormalization(
                epsilon=1e-5 * NORM_SCALE**2, name=f"normalisation_{i}", **own
            )
            for i in range(3)
        ]
        self.attentions = [
            keras.layers.MultiHeadAttention(heads, channels // heads, name=name, **own)
            for name in ("within", "between")
        ]
        self.expand = Conv2D(expansion * channels, 1, name="expand", **own)
        self.neighbours = DepthwiseConv2D(
            3, padding="same", activation="relu", name="neighbours", **own
        )
        self.reduce = Conv2D(channels, 1, name="reduce", **own)

    def build(self, own_shape, other_shape=None):
        features = (None, None, None, self.channels)
        flat = (None, None, self.channels)
        for normalisation in self.normalisations:
            normalisation.build(features)
        for attention in self.attentions:
            attention.build(flat, flat)
        self.expand.build(features)
        self.neighbours.build((None, None, None, self.expansion * self.channels))
        self.reduce.build((None, None, None, self.expansion * self.channels))
        self.scales = self.add_weight(
            shape=(3, self.channels), initializer=keras.initializers.Constant(0.1), name="scales"
        )

    def call(self, own, other):
        """Returns the features of one image with context.

        Args:
            own: of the image, [batch, height, width, channels].
            other: of the other image, of any size, with as many channels.
        """
        first, second, third = tf.unstack(tf.cast(self.scales, self.compute_dtype))
        own += first * self._attend(0, own, own)
        own += second * self._attend(1, own, other)
        hidden = self.neighbours(self.expand(self._normalise(2, own)))
        return own + third * self.reduce(hidden)

    def _attend(self, i: int, own, other) -> tf.Tensor:
        queries, keys = (_flatten(self._normalise(i, x)) for x in (own, other))
        attended = self.attentions[i](queries, keys)
        height, width = spatial_size(own)
        return tf.reshape(attended, [tf.shape(own)[0], height, width, self.channels])

    def _normalise(self, i: int, features) -> tf.Tensor:
        return self.normalisations[i](NORM_SCALE * features)

    def compute_output_shape(self, own_shape, other_shape=None):
        return own_shape

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "heads": self.heads,
            "expansion": self.expansion,
        }


@keras.saving.register_keras_serializable("tfdense")
class FlowPropagation(KeepsFrozenParts, keras.layers.Layer):
    """Gives positions whose match is uncertain the flow of similar, certain ones nearby.

    Attention among the positions of the target: a position's query and the others' keys come from
    its features, the values are the flow itself (GMFlow, Xu et al., CVPR 2022, section 3.3). In
    addition, a position gives more the more certain its match is, and the nearer it is; and it
    keeps the more of its own flow the more certain that is. All three are learned.

    Attributes:
        channels: of queries and keys.
    """

    def __init__(self, channels: int, **kwargs):
        # The flow keeps its precision.
        super().__init__(autocast=False, **kwargs)
        self.channels = channels
        self.query = keras.layers.Dense(channels, name="query", dtype=self.dtype_policy)
        self.key = keras.layers.Dense(channels, name="key", dtype=self.dtype_policy)
        self.trust = keras.layers.Dense(1, dtype="float32", name="trust")
        # At first nearly all flow is kept.
        self.keep = keras.layers.Dense(
            1,
            activation="sigmoid",
            dtype="float32",
            kernel_initializer="zeros",
            bias_initializer=keras.initializers.Constant(3.0),
            name="keep",
        )

    def build(self, features_shape, flow_shape, certainty_shape):
        for layer in (self.query, self.key):
            layer.build(features_shape)
        for layer in (self.trust, self.keep):
            layer.build(certainty_shape)
        # exp(-distance² / 18): among the nearest three cells or so.
        self.log_narrowness = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(-math.log(18.0)),
            dtype="float32",
            autocast=False,
            name="log_narrowness",
        )

    def call(self, features, flow, certainty):
        """Propagates.

        Args:
            features: of the target, [batch, height, width, features].
            flow: [batch, height, width, 2].
            certainty: measures of it, [batch, height, width, any].

        Returns:
            The flow, float32 [batch, height, width, 2].
        """
        flow, certainty = (tf.cast(x, tf.float32) for x in (flow, certainty))
        size = spatial_size(features)
        query, key, trust, value = (
            _flatten(x)
            for x in (self.query(features), self.key(features), self.trust(certainty), flow)
        )
        positions = tf.reshape(pixel_grid(*size), [-1, 2])
        squares = tf.reduce_sum(tf.square(positions), axis=-1)
        squared_distance = (
            squares[:, None] - 2.0 * tf.matmul(positions, positions, transpose_b=True) + squares
        )
        score = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)
        score *= self.channels**-0.5
        score += tf.linalg.matrix_transpose(trust)
        score -= tf.exp(self.log_narrowness) * squared_distance
        propagated = tf.reshape(tf.matmul(tf.nn.softmax(score), value), tf.shape(flow))
        kept = self.keep(certainty)
        return kept * flow + (1.0 - kept) * propagated

    def compute_output_shape(self, features_shape, flow_shape, certainty_shape):
        return flow_shape

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


def _flatten(x) -> tf.Tensor:
    """Makes one axis of height and width."""
    height, width = spatial_size(x)
    return tf.reshape(x, [tf.shape(x)[0], height * width, x.shape[-1]])
