"""The VGG-16 feature pyramid of PDC-Net."""

import math

import keras
import tensorflow as tf

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_BLOCKS = ((64,), (64,), (128, 128), (256, 256, 256), (512, 512, 512))


def normalize(images) -> tf.Tensor:
    """Maps RGB images 0..255 to what VGG-16 was trained on: zero mean, unit deviation."""
    return (images / 255.0 - tf.constant(_MEAN)) / tf.constant(_DEVIATION)


class VGG16Pyramid(keras.layers.Layer):
    """The convolutions of VGG-16 (Simonyan and Zisserman, arXiv 1409.1556), to stride 16.

    The weights `level_0_0` to `level_4_2` are named by block and position in it; a block ends with
    a max-pooling, except the first. With VGG's own names: `level_0_0` is block1_conv1, `level_1_0`
    block1_conv2, `level_2_0` block2_conv1 and so on.

    Call:
        images: normalised, [batch, height, width, 3].
        stride: of the coarsest features wanted, 8 or 16.
        Returns features after pooling as a dict: stride (4, 8 and, if wanted, 16) -> [batch,
        height / stride, width / stride, 128, 256 or 512].
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolutions = [
            keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"level_{level}_{position}",
                dtype=self.dtype_policy,
            )
            for level, block in enumerate(_BLOCKS)
            for position, filters in enumerate(block)
        ]

    def build(self, input_shape):
        channels = input_shape[-1]
        for convolution in self.convolutions:
            convolution.build((None, None, None, channels))
            channels = convolution.filters

    def call(self, images, stride=16):
        features = {}
        x = images
        convolutions = iter(self.convolutions)
        for level, block in enumerate(_BLOCKS[: int(math.log2(stride)) + 1]):
            for _ in block:
                x = next(convolutions)(x)
            if level > 0:
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            if level > 1:
                features[2**level] = x
        return features
