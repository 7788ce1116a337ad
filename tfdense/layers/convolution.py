"""Convolution, batch normalisation and leaky ReLU in one layer, the brick of PDC-Net's decoders."""

import keras
import tensorflow as tf

from tfdense.ops.correlation import is_differentiated

NEGATIVE_SLOPE = 0.1
_EPSILON = 1e-5
_MOMENTUM = 0.9


def leaky_relu(x) -> tf.Tensor:
    """Leaky ReLU with slope 0.1, as everywhere in PDC-Net."""
    return tf.nn.leaky_relu(x, NEGATIVE_SLOPE)


def _dilated(x, kernel, *arguments, **dilations) -> tf.Tensor:
    """Is `tf.nn.conv2d` with a gradient on every CPU; many lack that of a dilated convolution."""

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(upstream):
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                y = tf.nn.convolution(x, kernel, *arguments, **dilations)
            return tape.gradient(y, [x, kernel], upstream)

        return tf.nn.conv2d(x, kernel, *arguments, **dilations), gradient

    return convolve(x, tf.convert_to_tensor(kernel))


@keras.saving.register_keras_serializable("tfdense")
class ConvolutionBlock(keras.layers.Layer):
    """A convolution, batch normalisation and optionally leaky ReLU.

    At inference the normalisation, an affine map of each channel, is folded into the kernel and
    the bias: the same function in one pass over the features instead of three. In training the
    running variance follows the unbiased batch variance (divided by n - 1).

    Args:
        filters: output channels.
        kernel_size: side of the kernel.
        dilation: of the kernel.
        padding: "same" (zeros) or "valid".
        use_bias: whether the convolution adds a bias before the normalisation.
        activate: whether leaky ReLU follows.

    Call:
        x: [batch, height, width, channels].
        training: whether to normalise by the batch's statistics. A frozen layer never does.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        dilation: int = 1,
        padding: str = "same",
        use_bias: bool = True,
        activate: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.use_bias = use_bias
        self.activate = activate

    def build(self, input_shape):
        kernel_shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(
            name="kernel", shape=kernel_shape, initializer=keras.initializers.HeNormal()
        )
        self.bias = self._vector("bias", "zeros") if self.use_bias else None
        scale = keras.initializers.RandomUniform(0.0, 1.0)
        self.gamma = self._vector("gamma", scale, autocast=False)
        self.beta = self._vector("beta", "zeros", autocast=False)
        moving = {"trainable": False, "autocast": False, "aggregation": "mean"}
        self.moving_mean = self._vector("moving_mean", "zeros", **moving)
        self.moving_variance = self._vector("moving_variance", "ones", **moving)

    def _vector(self, name, initializer, **kwargs):
        return self.add_weight(name=name, shape=(self.filters,), initializer=initializer, **kwargs)

    def call(self, x, training=False):
        if training and self.trainable:
            x = self._normalize(self._convolve(x, self.kernel, self.bias))
        else:
            x = self._convolve(x, *self._folded())
        return leaky_relu(x) if self.activate else x

    def _convolve(self, x, kernel, bias):
        convolve = _dilated if self.dilation > 1 and is_differentiated() else tf.nn.conv2d
        x = convolve(x, kernel, 1, self.padding.upper(), dilations=self.dilation)
        return x if bias is None else tf.nn.bias_add(x, bias)

    def _folded(self):
        scale = self.gamma * tf.math.rsqrt(self.moving_variance + _EPSILON)
        bias = 0.0 if self.bias is None else tf.cast(self.bias, tf.float32)
        bias = self.beta + (bias - self.moving_mean) * scale
        kernel = tf.cast(self.kernel, tf.float32) * scale
        return tf.cast(kernel, self.compute_dtype), tf.cast(bias, self.compute_dtype)

    def _normalize(self, x):
        x, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            x, tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta), epsilon=_EPSILON
        )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(_MOMENTUM * moving + (1.0 - _MOMENTUM) * batch)
        return x

    def compute_output_shape(self, input_shape):
        lost = self.dilation * (self.kernel_size - 1) if self.padding == "valid" else 0
        size = [None if side is None else side - lost for side in input_shape[1:3]]
        return (input_shape[0], *size, self.filters)

    def get_config(self):
        names = ("filters", "kernel_size", "dilation", "padding", "use_bias", "activate")
        return super().get_config() | {name: getattr(self, name) for name in names}
