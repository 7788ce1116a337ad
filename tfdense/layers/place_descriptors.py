"""Descriptors that have seen places: the network of XFeat as far as its descriptors.

Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching" (CVPR 2024). It was
trained on photos of the same places on other days and from elsewhere, which warps of photos do not
show. Its batch normalisations are folded into the convolutions before them.
"""

import keras
import tensorflow as tf

from tfdense.geometry import resize_bilinear, spatial_size
from tfdense.layers.channels_last import AveragePooling2D, Conv2D, ZeroPadding2D

# Channels, kernel size and stride of the convolutions of each block.
_BLOCKS = {
    "block1": ((4, 3, 1), (8, 3, 2), (8, 3, 1), (24, 3, 2)),
    "block2": ((24, 3, 1), (24, 3, 1)),
    "block3": ((64, 3, 2), (64, 3, 1), (64, 1, 1)),
    "block4": ((64, 3, 2), (64, 3, 1), (64, 3, 1)),
    "block5": ((128, 3, 2), (128, 3, 1), (128, 3, 1), (64, 1, 1)),
    "fusion": ((64, 3, 1), (64, 3, 1)),
}


def place_descriptors(name: str = "place_descriptors", dtype=None) -> keras.Model:
    """Builds XFeat's path to its descriptors, which sees the image at half its size.

    At stride 16 of the image this finds as many matches as at full size, for a quarter of the work.

    Args:
        name: of the model.
        dtype: policy of its layers; None takes the global one.

    Returns:
        A model from images [batch, height, width, 3], RGB in 0..255, sides divisible by 16, to 64
        channels at stride 16. Its weights are random.

    For example:

    >>> place_descriptors()(tf.zeros([1, 64, 96, 3])).shape
    TensorShape([1, 4, 6, 64])
    """
    image = keras.Input((None, None, 3), name="image")
    grey = NormalisedGrey(name="normalise", dtype=dtype)(image)
    skip = AveragePooling2D(4, name="skip_mean", dtype=dtype)(grey)
    skip = Conv2D(24, 1, name="skip", dtype=dtype)(skip)
    x = _block(grey, "block1", dtype)
    x = _block(keras.layers.Add(name="skip_add", dtype=dtype)([x, skip]), "block2", dtype)
    fine = _block(x, "block3", dtype)
    middle = _block(fine, "block4", dtype)
    coarse = _block(middle, "block5", dtype)
    enlarge = EnlargeTo(name="enlarge", dtype=dtype)
    x = keras.layers.Add(name="pyramid_add", dtype=dtype)(
        [fine, enlarge(middle, fine), enlarge(coarse, fine)]
    )
    x = Conv2D(64, 1, name="descriptors", dtype=dtype)(_block(x, "fusion", dtype))
    model = keras.Model(image, x, name=name)
    if dtype is not None:
        model.dtype_policy = dtype
    return model


def _block(x, name: str, dtype):
    for i, (channels, kernel, stride) in enumerate(_BLOCKS[name]):
        if kernel > 1:
            # On all sides: with "same" a stride of 2 would leave out the first row and column.
            x = ZeroPadding2D(kernel // 2, name=f"{name}_{i}_pad", dtype=dtype)(x)
        x = Conv2D(channels, kernel, stride, activation="relu", name=f"{name}_{i}", dtype=dtype)(x)
    return x


@keras.saving.register_keras_serializable("tfdense")
class NormalisedGrey(keras.layers.Layer):
    """Halves images and makes their grey levels' mean 0 and variance 1.

    For example:

    >>> NormalisedGrey()(tf.zeros([1, 64, 96, 3])).shape
    TensorShape([1, 32, 48, 1])
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, image):
        """Returns [batch, height / 2, width / 2, 1].

        Args:
            image: [batch, height, width, 3], 0..255.
        """
        grey = tf.reduce_mean(tf.cast(image, tf.float32), axis=-1, keepdims=True) / 255.0
        grey = tf.nn.avg_pool2d(grey, 2, 2, "VALID")
        grey -= tf.reduce_mean(grey, axis=(1, 2), keepdims=True)
        variance = tf.reduce_mean(tf.square(grey), axis=(1, 2), keepdims=True)
        return tf.cast(grey * tf.math.rsqrt(variance + 1e-5), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        rows, columns = (side and side // 2 for side in input_shape[1:3])
        return (input_shape[0], rows, columns, 1)


@keras.saving.register_keras_serializable("tfdense")
class EnlargeTo(keras.layers.Layer):
    """Resizes features bilinearly to the size of others, half-pixel centres."""

    def call(self, features, like):
        return resize_bilinear(features, spatial_size(like))

    def compute_output_shape(self, features_shape, like_shape):
        return (*like_shape[:3], features_shape[-1])
