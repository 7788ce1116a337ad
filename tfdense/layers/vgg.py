"""The VGG-16 feature pyramid of PDC-Net."""

import math
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.geometry import spatial_size
from tfdense.layers.channels_last import Conv2D
from tfdense.layers.freezing import KeepsFrozenParts

_MEAN = np.array([0.485, 0.456, 0.406])
_DEVIATION = np.array([0.229, 0.224, 0.225])
_KERAS_MEAN = np.array([123.68, 116.779, 103.939])
_STRIPS = 4
_BLOCKS = ((64,), (64,), (128, 128), (256, 256, 256), (512, 512, 512))


def normalize(images) -> tf.Tensor:
    """Maps RGB images 0..255 to what VGG-16 was trained on: zero mean, unit deviation."""
    scale, shift = 1.0 / (255.0 * _DEVIATION), _MEAN / _DEVIATION
    return images * tf.constant(scale, images.dtype) - tf.constant(shift, images.dtype)


@keras.saving.register_keras_serializable("tfdense")
class VGG16Pyramid(KeepsFrozenParts, keras.layers.Layer):
    """The convolutions of VGG-16 (Simonyan and Zisserman, arXiv 1409.1556), to stride 16.

    The weights `level_0_0` to `level_4_2` are named by block and position in it; a block ends with
    a max-pooling, except the first. With VGG's own names: `level_0_0` is block1_conv1, `level_1_0`
    block1_conv2, `level_2_0` block2_conv1 and so on.

    Call:
        images: normalised, [batch, height, width, 3].
        stride: of the coarsest features wanted, 8 or 16.
        Returns features after pooling as a dict: stride (4, 8 and, if wanted, 16) -> float32
        [batch, height / stride, width / stride, 128, 256 or 512].

    For example:

    >>> features = VGG16Pyramid()(normalize(tf.zeros([1, 32, 48, 3])))
    >>> {stride: features[stride].shape[-1] for stride in features}
    {4: 128, 8: 256, 16: 512}
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolutions = [
            Conv2D(
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

    def build(self, images_shape):
        channels = images_shape[-1]
        for convolution in self.convolutions:
            convolution.build((None, None, None, channels))
            channels = convolution.filters

    def call(self, images, stride=16):
        features = {}
        x = self._first_blocks(images)
        convolutions = iter(self.convolutions[2:])
        for level in range(2, int(math.log2(stride)) + 1):
            for _ in _BLOCKS[level]:
                x = next(convolutions)(x)
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            features[2**level] = tf.cast(x, tf.float32)
        return features

    def compute_output_shape(self, images_shape):
        batch, height, width = images_shape[:3]
        return {
            2**level: (batch, height and height // 2**level, width and width // 2**level, block[-1])
            for level, block in enumerate(_BLOCKS)
            if level >= 2
        }

    def compute_output_spec(self, images, stride=16):
        shapes = self.compute_output_shape(images.shape)
        return {s: keras.KerasTensor(shapes[s], "float32") for s in shapes if s <= stride}

    def _first_blocks(self, images):
        """The two convolutions at full resolution, strip by strip of the image.

        Their outputs would be the largest tensors of all. A strip is two rows larger than what is
        kept of it, so that its borders do not matter.
        """
        height, _ = spatial_size(images)
        strips = []
        for k in range(_STRIPS):
            first, last = k == 0, k == _STRIPS - 1
            start, end = (2 * (i * height // (2 * _STRIPS)) for i in (k, k + 1))
            with tf.control_dependencies(strips[-1:]):
                x = images[:, start if first else start - 2 : end if last else end + 2]
            for convolution in self.convolutions[:2]:
                x = convolution(x)
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            strips.append(x[:, None if first else 1 : None if last else -1])
        return tf.concat(strips, axis=1)


def imagenet_weights(source: str = "imagenet") -> list[np.ndarray]:
    """Returns weights for a `VGG16Pyramid` from those of ``keras.applications``.

    Those take BGR images 0..255 minus a mean colour. The first convolution is changed to take what
    `normalize` gives, so that the features are the same.

    Args:
        source: ``imagenet``, which Keras downloads once, or a file with such a network's weights.

    Raises:
        InputError: if there is no such file, it does not fit or the download fails.
    """
    if source != "imagenet" and not Path(source).is_file():
        raise InputError(f"There is no file {source} with weights of VGG-16.")
    try:
        model = keras.applications.VGG16(include_top=False, weights=source)
    except Exception as error:  # Keras raises a bare Exception when a download fails.
        reason = str(error).strip().splitlines()[0]
        if source != "imagenet":
            raise InputError(
                f"{source} does not hold weights of VGG-16 without top: {reason}"
            ) from None
        raise InputError(
            "The ImageNet weights of VGG-16 could not be downloaded. Fetch "
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 of keras.applications elsewhere and "
            f"give the file as model.options.backbone_weights. The cause: {reason}"
        ) from None
    count = sum(len(block) for block in _BLOCKS)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    weights = [array for layer in convolutions[:count] for array in layer.get_weights()]
    kernel, bias = weights[0][:, :, ::-1], weights[1]
    bias = bias + np.einsum("yxio,i->o", kernel, 255.0 * _MEAN - _KERAS_MEAN)
    kernel = kernel * (255.0 * _DEVIATION)[:, None]
    return [kernel, bias, *weights[2:]]
