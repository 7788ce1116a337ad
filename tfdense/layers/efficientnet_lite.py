"""EfficientNet-Lite0 as a feature pyramid, without batch normalisation.

The network is that of Tan and Le (ICML 2019) in its "lite" form for devices: ReLU6, no
squeeze-and-excite. Its batch normalisations are folded into the convolutions before them, which
computes the same in less time.
"""

import keras

from tfdense.layers.channels_last import Conv2D, DepthwiseConv2D

# Kernel size, stride, expansion, channels, repeats of each stage, up to stride 16.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
)
_PYRAMID_STAGES = (1, 2, 4)


def efficientnet_lite0_pyramid(name: str = "efficientnet_lite0", dtype=None) -> keras.Model:
    """Builds the layers of EfficientNet-Lite0 up to stride 16.

    Args:
        name: of the model.
        dtype: policy of its layers; None takes the global one.

    Returns:
        A model from images [batch, height, width, 3], RGB in 0..255, sides divisible by 16, to
        features at strides 4, 8 and 16 with 24, 40 and 112 channels. Its weights are random.

    For example:

    >>> pyramid = efficientnet_lite0_pyramid()
    >>> [features.shape for features in pyramid(tf.zeros([1, 64, 96, 3]))]
    [TensorShape([1, 16, 24, 24]), TensorShape([1, 8, 12, 40]), TensorShape([1, 4, 6, 112])]
    """
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="normalise", dtype=dtype)(image)
    x = _convolution(x, 32, 3, stride=2, name="stem", dtype=dtype)
    pyramid, block = [], 0
    for stage, (kernel, stride, expansion, channels, repeats) in enumerate(_STAGES):
        for repeat in range(repeats):
            block_stride = stride if repeat == 0 else 1
            x = _inverted_residual(
                x, kernel, block_stride, expansion, channels, f"block{block}", dtype
            )
            block += 1
        if stage in _PYRAMID_STAGES:
            pyramid.append(x)
    model = keras.Model(image, pyramid, name=name)
    if dtype is not None:
        model.dtype_policy = dtype
    return model


def _inverted_residual(
    x, kernel: int, stride: int, expansion: int, channels: int, name: str, dtype
):
    shortcut = x
    if expansion != 1:
        x = _convolution(x, x.shape[-1] * expansion, 1, name=f"{name}_expand", dtype=dtype)
    x = DepthwiseConv2D(
        kernel,
        stride,
        padding="same",
        activation="relu6",
        name=f"{name}_depthwise",
        dtype=dtype,
    )(x)
    x = _convolution(x, channels, 1, activation=None, name=f"{name}_project", dtype=dtype)
    if stride == 1 and shortcut.shape[-1] == channels:
        x = keras.layers.Add(name=f"{name}_add", dtype=dtype)([shortcut, x])
    return x


def _convolution(x, channels: int, kernel: int, *, stride=1, activation="relu6", name: str, dtype):
    return Conv2D(
        channels, kernel, stride, padding="same", activation=activation, name=name, dtype=dtype
    )(x)
