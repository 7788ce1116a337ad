"""Keras's layers of images, with the channels last whatever Keras's own setting says."""

from functools import partial

import keras

_LAST = {"data_format": "channels_last"}

AveragePooling2D = partial(keras.layers.AveragePooling2D, **_LAST)
Conv2D = partial(keras.layers.Conv2D, **_LAST)
DepthwiseConv2D = partial(keras.layers.DepthwiseConv2D, **_LAST)
ZeroPadding2D = partial(keras.layers.ZeroPadding2D, **_LAST)
