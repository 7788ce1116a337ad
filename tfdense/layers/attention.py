"""Attention within and between the feature maps of two images."""

import keras
import tensorflow as tf

from tfdense.geometry import spatial_size


class ContextLayer(keras.layers.Layer):
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
        self.normalisations = [
            keras.layers.LayerNormalization(epsilon=1e-5, name=f"normalisation_{i}")
            for i in range(3)
        ]
        self.attentions = [
            keras.layers.MultiHeadAttention(heads, channels // heads, name=name)
            for name in ("within", "between")
        ]
        self.expand = keras.layers.Conv2D(expansion * channels, 1, name="expand")
        self.neighbours = keras.layers.DepthwiseConv2D(
            3, padding="same", activation="relu", name="neighbours"
        )
        self.reduce = keras.layers.Conv2D(channels, 1, name="reduce")

    def build(self, own_shape, other_shape=None):
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
        hidden = self.neighbours(self.expand(self.normalisations[2](own)))
        return own + third * self.reduce(hidden)

    def _attend(self, i: int, own, other) -> tf.Tensor:
        batch, (height, width) = tf.shape(own)[0], spatial_size(own)
        rows, columns = spatial_size(other)
        queries = tf.reshape(self.normalisations[i](own), [batch, height * width, self.channels])
        keys = tf.reshape(self.normalisations[i](other), [batch, rows * columns, self.channels])
        attended = self.attentions[i](queries, keys)
        return tf.reshape(attended, [batch, height, width, self.channels])

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "heads": self.heads,
            "expansion": self.expansion,
        }
