"""The networks of PDC-Net that predict how uncertain the flow is."""

import keras
import tensorflow as tf

from tfdense.layers.channels_last import Conv2D
from tfdense.layers.convolution import ConvolutionBlock
from tfdense.layers.freezing import KeepsFrozenParts
from tfdense.mixture import LaplaceMixture


@keras.saving.register_keras_serializable("tfdense")
class MixtureDecoder(KeepsFrozenParts, keras.layers.Layer):
    """Estimates the mixture around a flow (PDC-Net, figure 4).

    Args:
        mixture: turns the raw prediction into variances within its bounds.
        side: of the correlation's little images, see `CorrelationUncertainty`.

    Call:
        correlation: [batch, height, width, side²].
        others: a list of further inputs of the decoder, [batch, height, width, ...].
        Returns {"log_variance", "logits"}, float32 [batch, height, width, 2] each.

    For example:

    >>> decoder = MixtureDecoder(LaplaceMixture(maximum_variance=256.0**2), side=9)
    >>> answer = decoder(keras.Input((32, 32, 81)), [keras.Input((32, 32, 16))])
    >>> answer["logits"].shape
    (None, 32, 32, 2)
    """

    def __init__(self, mixture: LaplaceMixture, side: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.mixture = mixture
        self.side = side
        self.correlation_uncertainty = CorrelationUncertainty(
            side, name="correlation_uncertainty", dtype=self.dtype_policy
        )
        self.decoder = UncertaintyDecoder(name="uncertainty_decoder", dtype=self.dtype_policy)

    def build(self, correlation_shape, others_shape=()):
        self.correlation_uncertainty.build(correlation_shape)
        channels = 6 + sum(shape[-1] for shape in others_shape)
        self.decoder.build((*correlation_shape[:3], channels))

    def call(self, correlation, others, training=False):
        uncertainty = self.correlation_uncertainty(correlation, training=training)
        x = tf.concat([tf.cast(x, tf.float32) for x in (uncertainty, *others)], axis=-1)
        raw = self.decoder(x, training=training)
        return {"log_variance": self.mixture.constrain(raw[..., :1]), "logits": raw[..., 1:]}

    def compute_output_shape(self, correlation_shape, others_shape=()):
        return dict.fromkeys(("log_variance", "logits"), (*correlation_shape[:3], 2))

    def get_config(self):
        mixture = keras.saving.serialize_keras_object(self.mixture)
        return {**super().get_config(), "mixture": mixture, "side": self.side}

    @classmethod
    def from_config(cls, config):
        mixture = keras.saving.deserialize_keras_object(config["mixture"])
        return cls(**{**config, "mixture": mixture})


@keras.saving.register_keras_serializable("tfdense")
class CorrelationUncertainty(KeepsFrozenParts, keras.layers.Layer):
    """Judges each pixel's match by the shape of its correlation, independently of the others.

    Each pixel's correlation values, an image over source positions or displacements, shrink by
    convolutions without padding to one vector (PDC-Net, section 3.3, "uncertainty from the
    correlation").

    Args:
        side: of the little images: 9 for a local correlation, 16 for the global one, which is
            max-pooled once.

    Call:
        correlation: [batch, height, width, side²], rows of the little image slow.
        Returns [batch, height, width, 6].
    """

    def __init__(self, side: int = 9, **kwargs):
        super().__init__(**kwargs)
        if side not in (9, 16):
            raise ValueError(f"`side` must be 9 or 16. Received: side={side}")
        self.side = side
        self.blocks = [
            ConvolutionBlock(filters, padding="valid", name=f"conv_{k}", dtype=self.dtype_policy)
            for k, filters in enumerate((32, 32, 16))
        ]
        self.predict_uncertainty = Conv2D(
            6,
            3,
            kernel_initializer="he_normal",
            name="predict_uncertainty",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        channels = 1
        for block in self.blocks:
            block.build((None, None, None, channels))
            channels = block.filters
        self.predict_uncertainty.build((None, None, None, channels))

    def call(self, correlation, training=False):
        first, *others = self.blocks
        x = tf.reshape(correlation, [-1, self.side, self.side, 1])
        x = first(x, training=training)
        if self.side == 16:
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        for block in others:
            x = block(x, training=training)
        x = self.predict_uncertainty(x)
        return tf.reshape(x, tf.concat([tf.shape(correlation)[:3], [6]], axis=0))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], 6)

    def get_config(self):
        return super().get_config() | {"side": self.side}


@keras.saving.register_keras_serializable("tfdense")
class UncertaintyDecoder(KeepsFrozenParts, keras.layers.Layer):
    """Predicts the mixture's raw parameters (PDC-Net, section 3.3).

    Call:
        x: [batch, height, width, channels]: correlation uncertainty, decoder features and, below
            the coarsest level, the mixture and the flow from the level above.
        Returns [batch, height, width, 3], float32: raw variance h, two logits.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv_0 = ConvolutionBlock(32, name="conv_0", dtype=self.dtype_policy)
        self.conv_1 = ConvolutionBlock(16, name="conv_1", dtype=self.dtype_policy)
        self.predict_uncertainty = Conv2D(
            3,
            3,
            padding="same",
            kernel_initializer="he_normal",
            name="predict_uncertainty",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        self.conv_0.build(input_shape)
        self.conv_1.build((None, None, None, 32))
        self.predict_uncertainty.build((None, None, None, 16))

    def call(self, x, training=False):
        x = self.conv_1(self.conv_0(x, training=training), training=training)
        return tf.cast(self.predict_uncertainty(x), tf.float32)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], 3)
