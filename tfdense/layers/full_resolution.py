"""The level at full resolution: brings flow and mixture from stride 4 to the images' own pixels.

    enlarge   each pixel takes a learned mean of the nine coarse cells around it
    refine    variational stages at strides 4, 2 and 1, as many passes of these as asked for
    judge     what is left of the differences corrects the mixture, pixel by pixel

All convolutions work at stride 4, on 4x4 pixels as channels: that costs a device little.
"""

import functools

import keras
import numpy as np
import tensorflow as tf

from tfdense.geometry import resize_bilinear, spatial_size
from tfdense.layers.channels_last import Conv2D
from tfdense.layers.freezing import KeepsFrozenParts
from tfdense.layers.variational import (
    VariationalStage,
    from_planes,
    normalised_grey,
    to_planes,
)

_STRIDE = 4
_PIXELS = _STRIDE**2
_NEIGHBOURS = 9
# Log-weights of data, smoothness and attachment before any training.
_INITIAL_LOGS = (0.0, 0.0, -3.0)


@keras.saving.register_keras_serializable("tfdense")
class FullResolution(KeepsFrozenParts, keras.layers.Layer):
    """Enlarges a flow and its mixture four times and refines both.

    Attributes:
        passes: through the variational stages.
        scales: on how many of strides 1, 2 and 4 there is a stage.
        channels: of the hidden layers.
        fields: of the mixture, before its bounds.
    """

    def __init__(
        self, passes: int = 1, scales: int = 2, channels: int = 32, fields: int = 4, **kwargs
    ):
        # Flow and variances keep their precision.
        super().__init__(autocast=False, **kwargs)
        self.passes = passes
        self.scales = scales
        self.channels = channels
        self.fields = fields
        self.look = _Head(
            channels, (_NEIGHBOURS + len(_INITIAL_LOGS)) * _PIXELS, name="look", dtype="float32"
        )
        self.stages = [
            VariationalStage(name=f"stage_{2**i}", dtype="float32") for i in range(scales)
        ]
        self.judge = _Head(channels, fields * _PIXELS, name="judge", dtype="float32")

    def build(self, flow_shape, raw_shape, state_shape, target_shape, source_shape):
        known = state_shape[-1] + self.fields + 2
        self.look.build((*flow_shape[:3], known + _PIXELS))
        # Three residuals, two weights and how far the flow moved.
        self.judge.build((*flow_shape[:3], known + 6 * _PIXELS))
        for level, stage in enumerate(self.stages):
            size = (side and side // 2**level for side in target_shape[1:3])
            stage.build((target_shape[0], 2, *size))
        self.enlarging = self.add_weight(
            shape=(_NEIGHBOURS * _PIXELS,),
            initializer=keras.initializers.Constant(_bilinear_logits()),
            autocast=False,
            name="enlarging",
        )
        self.logs = self.add_weight(
            shape=(len(_INITIAL_LOGS),),
            initializer=keras.initializers.Constant(np.array(_INITIAL_LOGS, np.float32)),
            autocast=False,
            name="logs",
        )

    def call(self, flow, raw, state, target, source):
        """Enlarges and refines.

        Args:
            flow: [batch, height / 4, width / 4, 2], in px of the images.
            raw: the mixture before its bounds, [batch, height / 4, width / 4, fields].
            state: hidden, of the level before, [batch, height / 4, width / 4, any].
            target, source: [batch, height, width, 3], RGB in 0..255.

        Returns:
            After each pass flow and mixture, [batch, height, width, 2 or fields].
        """
        flow, raw = tf.cast(flow, tf.float32), tf.cast(raw, tf.float32)
        target, source = normalised_grey(target), normalised_grey(source)
        known = tf.concat([tf.cast(state, tf.float32), raw, _roughness(flow)], axis=-1)
        seen = self.look(tf.concat([known, _pack(target)], axis=-1))
        split = _NEIGHBOURS * _PIXELS
        enlarged = _enlarge(tf.concat([flow, raw], axis=-1), seen[..., :split] + self.enlarging)
        flow, raw = enlarged[:, :2], from_planes(enlarged[:, 2:])
        logs = _unpack(seen[..., split:]) + self.logs[:, None, None]

        # From stride 1 on, each half as large as the one before.
        scales = [(flow, target, source, logs)]
        while len(scales) < len(self.stages):
            scales.append(tuple(_halve(x) for x in scales[-1]))
        answers, prior = [], flow
        for _ in range(self.passes):
            for level in reversed(range(len(self.stages))):
                stride, (nearby, *images, weights) = 2**level, scales[level]
                nearby /= stride
                before = nearby if flow is prior else _shrink(flow, level) / stride
                change, residual, gradient, total = self.stages[level](
                    before, nearby, *images, weights
                )
                flow += _grow(stride * change, level) if level else change
            evidence = tf.concat(
                [
                    tf.abs(residual),
                    tf.math.log(gradient + 1e-3),
                    tf.math.log(total + 1e-3),
                    tf.math.log(tf.reduce_sum(tf.abs(flow - prior), axis=1, keepdims=True) + 0.1),
                ],
                axis=1,
            )
            correction = self.judge(tf.concat([known, _pack(evidence)], axis=-1))
            answers.append((from_planes(flow), raw + tf.nn.depth_to_space(correction, _STRIDE)))
        return answers

    def compute_output_shape(self, flow_shape, raw_shape, state_shape, target_shape, source_shape):
        size = target_shape[:3]
        return [((*size, 2), (*size, self.fields)) for _ in range(self.passes)]

    def get_config(self):
        return {
            **super().get_config(),
            "passes": self.passes,
            "scales": self.scales,
            "channels": self.channels,
            "fields": self.fields,
        }


@keras.saving.register_keras_serializable("tfdense")
class _Head(KeepsFrozenParts, keras.layers.Layer):
    """Three convolutions: 1x1, 3x3, 1x1; the last one near zero at first."""

    def __init__(self, channels: int, outputs: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.channels = channels
        self.outputs = outputs
        self.convolutions = [
            Conv2D(
                channels,
                size,
                padding="same",
                activation="relu",
                dtype="float32",
                name=name,
                kernel_initializer="he_normal",
            )
            for size, name in ((1, "mix"), (3, "spread"))
        ]
        self.output_convolution = Conv2D(
            outputs,
            1,
            dtype="float32",
            kernel_initializer=keras.initializers.RandomNormal(stddev=1e-2),
            name="output",
        )

    def build(self, input_shape):
        for convolution in self.convolutions:
            convolution.build(input_shape)
            input_shape = (*input_shape[:3], self.channels)
        self.output_convolution.build(input_shape)

    def call(self, x):
        for convolution in self.convolutions:
            x = convolution(x)
        return self.output_convolution(x)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], self.outputs)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "outputs": self.outputs}


def _bilinear_logits() -> np.ndarray:
    """Returns logits, [9 * 16], by which each of 4x4 pixels takes what bilinear resizing takes."""
    offset = (np.arange(_STRIDE) + 0.5) / _STRIDE - 0.5
    along = np.maximum(0.0, 1.0 - np.abs(offset - np.arange(-1, 2)[:, None]))
    weights = along[:, None, :, None] * along[None, :, None, :]
    return np.log(weights + 1e-2).astype(np.float32).reshape(-1)


def _enlarge(x, logits) -> tf.Tensor:
    """Gives each of 4x4 pixels a mean of the 3x3 cells around (RAFT, Teed and Deng, ECCV 2020).

    Args:
        x: [batch, height, width, channels].
        logits: of the means' weights, [batch, height, width, 9 * 16].

    Returns:
        [batch, channels, 4 height, 4 width].
    """
    height, width = spatial_size(x)
    x = to_planes(x)
    # Each border once more; of padding, GPUs of devices have only that with zeros.
    x = tf.concat([x[:, :, :1], x, x[:, :, -1:]], axis=2)
    x = tf.concat([x[..., :1], x, x[..., -1:]], axis=3)
    logits = to_planes(logits)
    logits = [logits[:, i * _PIXELS : (i + 1) * _PIXELS] for i in range(_NEIGHBOURS)]
    largest = tf.stop_gradient(functools.reduce(tf.maximum, logits))
    weights = [tf.exp(logit - largest) for logit in logits]
    scale = 1.0 / sum(weights)
    cells = [x[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    means = [
        scale * sum(w * cell[:, k : k + 1] for w, cell in zip(weights, cells, strict=True))
        for k in range(x.shape[1])
    ]
    return tf.concat([to_planes(tf.nn.depth_to_space(from_planes(m), 4)) for m in means], axis=1)


def _roughness(flow) -> tf.Tensor:
    """Returns by how many cells a flow differs from the mean around it."""
    return (flow - tf.nn.avg_pool2d(flow, 3, 1, "SAME")) / _STRIDE


def _pack(planes) -> tf.Tensor:
    """Makes channels of 4x4 pixels: [batch, c, h, w] to [batch, h / 4, w / 4, 16 c]."""
    return tf.nn.space_to_depth(from_planes(planes), _STRIDE)


def _unpack(x) -> tf.Tensor:
    return to_planes(tf.nn.depth_to_space(x, _STRIDE))


def _halve(planes) -> tf.Tensor:
    """Averages 2x2 pixels of planes."""
    return to_planes(tf.nn.avg_pool2d(from_planes(planes), 2, 2, "SAME"))


def _shrink(planes, times: int) -> tf.Tensor:
    for _ in range(times):
        planes = _halve(planes)
    return planes


def _grow(planes, times: int) -> tf.Tensor:
    """Enlarges planes `times` times by two, bilinear."""
    x = from_planes(planes)
    height, width = spatial_size(x)
    return to_planes(resize_bilinear(x, (2**times * height, 2**times * width)))
