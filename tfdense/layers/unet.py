"""A U-Net that judges whether two images agree."""

import keras
import tensorflow as tf

from tfdense.geometry import resize_bilinear, spatial_size
from tfdense.layers.channels_last import Conv2D
from tfdense.layers.freezing import KeepsFrozenParts
from tfdense.layers.pwc import leaky_convolution, prediction


@keras.saving.register_keras_serializable("tfdense")
class UNet(KeepsFrozenParts, keras.layers.Layer):
    """Four halvings with leaky ReLU, four doublings with ReLU and skip connections.

    Resizing is bilinear, in place of transposed convolutions (U-Net, Ronneberger et al., 2015).

    Attributes:
        channels: of the encoder's blocks, at strides 2, 4, 8, 16.
        initial: what an untrained network predicts, one number for each output.
    """

    def __init__(self, channels: tuple[int, ...], initial: tuple[float, ...], **kwargs):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        self.initial = tuple(initial)
        self.encoder = [
            leaky_convolution(filters, f"encode_{i}", strides=2, dtype=self.dtype_policy)
            for i, filters in enumerate(self.channels)
        ]
        # A doubling has the channels of the level it reaches; the image's level those of stride 2.
        self.decoder = [
            Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"decode_{i}",
                dtype=self.dtype_policy,
            )
            for i, filters in enumerate((*self.channels[-2::-1], self.channels[0]))
        ]
        self.prediction = prediction(self.initial, "prediction")

    def build(self, evidence_shape):
        channels, skips = 0, []
        for shapes, convolution in zip(evidence_shape, self.encoder, strict=True):
            parts = sum(shape[-1] for shape in shapes)
            skips.append(channels or parts)
            convolution.build((*shapes[0][:3], channels + parts))
            channels = convolution.filters
        for skip, convolution in zip(reversed(skips), self.decoder, strict=True):
            convolution.build((None, None, None, channels + skip))
            channels = convolution.filters
        self.prediction.build((*evidence_shape[0][0][:3], channels))

    def call(self, evidence):
        """Predicts for each pixel.

        Args:
            evidence: what each block of the encoder sees besides the output of the one before:
                lists of [batch, height, width, ...] tensors at strides 1, 2, 4, 8.

        Returns:
            float32 [batch, height, width, len(initial)] at stride 1.
        """
        x, skips = None, []
        for parts, convolution in zip(evidence, self.encoder, strict=True):
            parts = [tf.cast(part, self.compute_dtype) for part in parts]
            skips.append(parts if x is None else [x])
            x = convolution(tf.concat(parts if x is None else [x, *parts], axis=-1))
        for skip, convolution in zip(reversed(skips), self.decoder, strict=True):
            x = resize_bilinear(x, spatial_size(skip[0]))
            x = convolution(tf.concat([x, *skip], axis=-1))
        return self.prediction(x)

    def compute_output_shape(self, evidence_shape):
        return (*evidence_shape[0][0][:3], len(self.initial))

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "initial": self.initial}
