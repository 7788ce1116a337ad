"""The flow decoders and refinement networks of PDC-Net."""

import keras
import tensorflow as tf

from tfdense.layers.channels_last import Conv2D
from tfdense.layers.convolution import ConvolutionBlock, leaky_relu
from tfdense.layers.freezing import KeepsFrozenParts


@keras.saving.register_keras_serializable("tfdense")
class FlowDecoder(KeepsFrozenParts, keras.layers.Layer):
    """Estimates the flow, or its correction, from a correlation volume and what is known so far.

    Two residual blocks; the skip connections leave before the activation (GLU-Net-GOCor; PDC-Net,
    supplementary).

    Call:
        x: [batch, height, width, channels].
        Returns features [batch, height, width, 32] and a flow [batch, height, width, 2].
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

        def block(name, filters, activate=True):
            return ConvolutionBlock(filters, activate=activate, name=name, dtype=self.dtype_policy)

        def skip(name, filters):
            return ConvolutionBlock(
                filters, 1, use_bias=False, activate=False, name=name, dtype=self.dtype_policy
            )

        self.conv_0 = block("conv_0", 128, activate=False)
        self.conv_1 = block("conv_1", 128)
        self.conv_2 = block("conv_2", 96, activate=False)
        self.skip_0 = skip("skip_0", 96)
        self.conv_3 = block("conv_3", 64)
        self.conv_4 = block("conv_4", 32, activate=False)
        self.skip_2 = skip("skip_2", 32)
        self.predict_flow = _flow_convolution("predict_flow")

    def build(self, input_shape):
        def with_channels(channels):
            return (None, None, None, channels)

        self.conv_0.build(input_shape)
        self.conv_1.build(with_channels(128))
        self.conv_2.build(with_channels(128))
        self.skip_0.build(with_channels(128))
        self.conv_3.build(with_channels(96))
        self.conv_4.build(with_channels(64))
        self.skip_2.build(with_channels(96))
        self.predict_flow.build(with_channels(32))

    def call(self, x, training=False):
        first = self.conv_0(x, training=training)
        x = self.conv_1(leaky_relu(first), training=training)
        second = self.conv_2(x, training=training) + self.skip_0(first, training=training)
        x = self.conv_3(leaky_relu(second), training=training)
        third = self.conv_4(x, training=training) + self.skip_2(second, training=training)
        features = leaky_relu(third)
        return features, self.predict_flow(features)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], 32), (*input_shape[:3], 2)


@keras.saving.register_keras_serializable("tfdense")
class RefinementNetwork(KeepsFrozenParts, keras.layers.Layer):
    """Corrects a flow by dilated convolutions that see far around (PWC-Net's context network).

    Call:
        features: [batch, height, width, 32], of the flow decoder.
        flow: [batch, height, width, 2].
        Returns features [batch, height, width, 32] and a correction [batch, height, width, 2].
    """

    _FILTERS_AND_DILATIONS = ((128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1))

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [
            ConvolutionBlock(
                filters, dilation=dilation, name=f"conv_{number}", dtype=self.dtype_policy
            )
            for number, (filters, dilation) in enumerate(self._FILTERS_AND_DILATIONS, start=1)
        ]
        self.predict_flow = _flow_convolution("predict_flow")

    def build(self, features_shape, flow_shape=None):
        channels = features_shape[-1] + 2
        for block in self.blocks:
            block.build((None, None, None, channels))
            channels = block.filters
        self.predict_flow.build((None, None, None, channels))

    def call(self, features, flow, training=False):
        x = tf.concat([features, tf.cast(flow, features.dtype)], axis=-1)
        for block in self.blocks:
            x = block(x, training=training)
        return x, self.predict_flow(x)

    def compute_output_shape(self, features_shape, flow_shape=None):
        return (*features_shape[:3], 32), (*features_shape[:3], 2)


@keras.saving.register_keras_serializable("tfdense")
class Upsampling(keras.layers.Layer):
    """A transposed convolution to twice the size and two channels.

    Starts as bilinear interpolation if the input has two channels.

    Call:
        x: [batch, height, width, channels].
        Returns [batch, 2 height, 2 width, 2].
    """

    def build(self, input_shape):
        channels = input_shape[-1]
        initializer = _bilinear_kernel if channels == 2 else "he_normal"
        self.kernel = self.add_weight(
            name="kernel", shape=(4, 4, 2, channels), initializer=initializer
        )
        self.bias = self.add_weight(name="bias", shape=(2,), initializer="zeros")

    def call(self, x):
        batch, height, width = tf.unstack(tf.shape(x)[:3])
        size = [batch, 2 * height, 2 * width, 2]
        return tf.nn.bias_add(tf.nn.conv2d_transpose(x, self.kernel, size, 2, "SAME"), self.bias)

    def compute_output_shape(self, input_shape):
        size = [None if side is None else 2 * side for side in input_shape[1:3]]
        return (input_shape[0], *size, 2)


def _bilinear_kernel(shape, dtype=None):
    weights = tf.constant([0.25, 0.75, 0.75, 0.25], dtype)
    kernel = weights[:, None] * weights
    return kernel[..., None, None] * tf.eye(2, dtype=dtype)


def _flow_convolution(name):
    return Conv2D(2, 3, padding="same", kernel_initializer="he_normal", name=name, dtype="float32")
