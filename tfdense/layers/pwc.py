"""The parts of PWC-Net: feature pyramid, densely connected flow decoder, context network."""

import keras
import tensorflow as tf

from tfdense.layers.channels_last import Conv2D
from tfdense.layers.convolution import leaky_relu
from tfdense.layers.freezing import KeepsFrozenParts

# Small: an untrained network answers with no flow at all.
_HEAD_DEVIATION = 1e-3


def leaky_convolution(filters: int, name: str, strides: int = 1, dilation: int = 1, dtype=None):
    """Returns a 3x3 convolution with leaky ReLU."""
    return Conv2D(
        filters,
        3,
        strides,
        padding="same",
        dilation_rate=dilation,
        activation=leaky_relu,
        kernel_initializer="he_normal",
        name=name,
        dtype=dtype,
    )


def prediction(initial: tuple[float, ...], name: str):
    """Returns a 3x3 convolution that predicts in float32, at first about the initial values."""
    return Conv2D(
        len(initial),
        3,
        padding="same",
        dtype="float32",
        kernel_initializer=keras.initializers.RandomNormal(stddev=_HEAD_DEVIATION),
        bias_initializer=lambda shape, dtype=None: tf.constant(initial, dtype, shape),
        name=name,
    )


@keras.saving.register_keras_serializable("tfdense")
class FeaturePyramid(KeepsFrozenParts, keras.layers.Layer):
    """Features at strides 2, 4, 8, ..., by two 3x3 convolutions a level (PWC-Net, section 3).

    Attributes:
        channels: of each level, fine to coarse.

    For example:

    >>> [features.shape for features in FeaturePyramid((16, 32, 48))(keras.Input((64, 96, 3)))]
    [(None, 32, 48, 16), (None, 16, 24, 32), (None, 8, 12, 48)]
    """

    def __init__(self, channels: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        # Two a level. Of lists of pairs older versions of Keras save nothing.
        self.convolutions = [
            leaky_convolution(filters, f"{name}_{level}", strides=strides, dtype=self.dtype_policy)
            for level, filters in enumerate(self.channels)
            for name, strides in (("reduce", 2), ("convolve", 1))
        ]

    def build(self, image_shape):
        for convolution in self.convolutions:
            convolution.build(image_shape)
            image_shape = convolution.compute_output_shape(image_shape)

    def call(self, image) -> list[tf.Tensor]:
        """Returns the features of images [batch, height, width, 3], fine to coarse."""
        features, outputs = image, []
        for convolution in self.convolutions:
            features = convolution(features)
            outputs.append(features)
        return outputs[1::2]

    def compute_output_shape(self, image_shape):
        shapes = []
        for reduce in self.convolutions[::2]:
            image_shape = reduce.compute_output_shape(image_shape)
            shapes.append(image_shape)
        return shapes

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("tfdense")
class DenseDecoder(KeepsFrozenParts, keras.layers.Layer):
    """Densely connected convolutions: each sees the evidence and all that those before it found.

    Attributes:
        channels: of each convolution.
        initial: what an untrained decoder predicts, one number for each output.
    """

    def __init__(self, channels: tuple[int, ...], initial: tuple[float, ...], **kwargs):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        self.initial = tuple(initial)
        self.convolutions = [
            leaky_convolution(filters, f"convolution_{i}", dtype=self.dtype_policy)
            for i, filters in enumerate(self.channels)
        ]
        self.prediction = prediction(self.initial, "prediction")

    def build(self, evidence_shape):
        size = evidence_shape[0][:3]
        channels = sum(shape[-1] for shape in evidence_shape)
        for convolution in self.convolutions:
            convolution.build((*size, channels))
            channels += convolution.filters
        self.prediction.build((*size, channels))

    def call(self, evidence):
        """Decodes (PWC-Net, section 3, with DenseNet connections).

        Args:
            evidence: a list of [batch, height, width, ...] tensors.

        Returns:
            The last convolution's output [batch, height, width, channels[-1]], and the prediction,
            float32 [batch, height, width, len(initial)].
        """
        x = tf.concat([tf.cast(part, self.compute_dtype) for part in evidence], axis=-1)
        for convolution in self.convolutions:
            state = convolution(x)
            x = tf.concat([x, state], axis=-1)
        return state, self.prediction(x)

    def compute_output_shape(self, evidence_shape):
        size = evidence_shape[0][:3]
        return (*size, self.channels[-1]), (*size, len(self.initial))

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "initial": self.initial}


@keras.saving.register_keras_serializable("tfdense")
class ContextNetwork(KeepsFrozenParts, keras.layers.Layer):
    """Convolutions of growing dilation that correct a flow by what is around it.

    The dilations are 1, 2, 4, ..., and 1 again at the last (PWC-Net, section 3).

    Attributes:
        channels: of each convolution.
    """

    def __init__(self, channels: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        dilations = [2**i for i in range(len(self.channels) - 1)] + [1]
        self.convolutions = [
            leaky_convolution(
                filters, f"convolution_{i}", dilation=dilation, dtype=self.dtype_policy
            )
            for i, (filters, dilation) in enumerate(zip(self.channels, dilations, strict=True))
        ]
        self.prediction = prediction((0.0, 0.0), "prediction")

    def build(self, state_shape, flow_shape=None):
        shape = (*state_shape[:3], state_shape[-1] + 2)
        for convolution in self.convolutions:
            convolution.build(shape)
            shape = (*shape[:3], convolution.filters)
        self.prediction.build(shape)

    def call(self, state, flow):
        """Returns the correction of a flow, float32 [batch, height, width, 2].

        Args:
            state: of the decoder that found the flow, [batch, height, width, channels].
            flow: [batch, height, width, 2], in cells, as the correction.
        """
        x = tf.concat([state, tf.cast(flow, state.dtype)], axis=-1)
        for convolution in self.convolutions:
            x = convolution(x)
        return self.prediction(x)

    def compute_output_shape(self, state_shape, flow_shape=None):
        return (*state_shape[:3], 2)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}
