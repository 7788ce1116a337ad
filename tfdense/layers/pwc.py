"""The parts of PWC-Net: feature pyramid, densely connected flow decoder, context network."""

import keras
import tensorflow as tf

from tfdense.layers.convolution import leaky_relu

# Small: an untrained network answers with no flow at all.
_HEAD_DEVIATION = 1e-3


def leaky_convolution(filters: int, name: str, strides: int = 1, dilation: int = 1):
    """Returns a 3x3 convolution with leaky ReLU."""
    return keras.layers.Conv2D(
        filters,
        3,
        strides,
        padding="same",
        dilation_rate=dilation,
        activation=leaky_relu,
        kernel_initializer="he_normal",
        name=name,
    )


def prediction(initial: tuple[float, ...], name: str):
    """Returns a 3x3 convolution that predicts in float32, at first about the initial values."""
    return keras.layers.Conv2D(
        len(initial),
        3,
        padding="same",
        dtype="float32",
        kernel_initializer=keras.initializers.RandomNormal(stddev=_HEAD_DEVIATION),
        bias_initializer=lambda shape, dtype=None: tf.constant(initial, dtype, shape),
        name=name,
    )


class FeaturePyramid(keras.layers.Layer):
    """Features at strides 2, 4, 8, ..., by two 3x3 convolutions a level (PWC-Net, section 3).

    Attributes:
        channels: of each level, fine to coarse.
    """

    def __init__(self, channels: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        self.levels = [
            (
                leaky_convolution(filters, f"reduce_{level}", strides=2),
                leaky_convolution(filters, f"convolve_{level}"),
            )
            for level, filters in enumerate(self.channels)
        ]

    def call(self, image) -> list[tf.Tensor]:
        """Returns the features of images [batch, height, width, 3], fine to coarse."""
        features, pyramid = image, []
        for reduce, convolve in self.levels:
            features = convolve(reduce(features))
            pyramid.append(features)
        return pyramid


class DenseDecoder(keras.layers.Layer):
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
            leaky_convolution(filters, f"convolution_{i}")
            for i, filters in enumerate(self.channels)
        ]
        self.prediction = prediction(self.initial, "prediction")

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


class ContextNetwork(keras.layers.Layer):
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
            leaky_convolution(filters, f"convolution_{i}", dilation=dilation)
            for i, (filters, dilation) in enumerate(zip(self.channels, dilations, strict=True))
        ]
        self.prediction = prediction((0.0, 0.0), "prediction")

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
