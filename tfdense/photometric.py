"""The objective without ground truth: how badly the source, warped, explains the target.

A pixel costs ``c e - beta log c``, where e, from 0 to 1, is how much the warped source differs from
the target, and c, the weight of the mixture's first component, is the confidence. Without the
second term c = 0 would be the answer everywhere; with it (the regularisation of SfMLearner's
explainability mask, Zhou et al., CVPR 2017) the best confidence is ``min(1, beta / e)``: errors up
to beta are trusted, an occluded pixel is not, and it moves the flow the less. To this come
smoothness and magnitude of the flow.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdense.config import PhotometricConfig
from tfdense.geometry import resize_area, resize_bilinear, spatial_size
from tfdense.losses import check_levels
from tfdense.ops import warping

# Luma of ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)
# Of UnFlow: how soft the signs and their comparison are, for grey values in 0..255.
_CENSUS_SIDE = 7
_SIGN_SOFTNESS = 0.81
_HAMMING_SOFTNESS = 0.1
# Of SSIM, for values in 0..255.
_SSIM_WINDOW = 3
_SSIM_CONSTANTS = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
# Levels coarser than this are compared at it: at stride 64 a few pixels tell no match from another.
_COARSEST_STRIDE = 8


@keras.saving.register_keras_serializable("tfdense")
class PhotometricLoss(keras.losses.Loss):
    """How badly the source, warped, explains the target: for `fit` without ground truth.

    See `photometric_loss`.

    Args:
        level_weights: one for each level, coarse to fine; None counts each once.
        terms: of `tfdense.config.PhotometricConfig`, those that differ from it.

    Call:
        y_true: the images, {"source", "target"}, [batch, height, width, 3], 0..255, the same as the
            network gets.
        y_pred: of a network of `tfdense.models`.
        Returns a scalar.

    For example:

    >>> from tfdense.photometric import PhotometricLoss
    >>> image = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    >>> level = {"flow": np.zeros((1, 8, 8, 2), "float32"), "logits": np.zeros((1, 8, 8, 2))}
    >>> loss = PhotometricLoss(terms={"confidence": 0.0})
    >>> float(loss({"source": image, "target": image}, {"levels": [level]}))
    0.0
    """

    def __init__(
        self,
        level_weights: Sequence[float] | None = None,
        terms: dict[str, float] | None = None,
        name: str = "photometric_loss",
        reduction: str = "sum_over_batch_size",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.level_weights = None if level_weights is None else tuple(level_weights)
        self.terms = dict(terms or {})
        self._config = PhotometricConfig(**self.terms)

    def call(self, y_true, y_pred):
        levels = y_pred["levels"]
        weights = self.level_weights or (1.0,) * len(levels)
        return photometric_loss(levels, y_true["source"], y_true["target"], weights, self._config)

    def get_config(self):
        return {
            **super().get_config(),
            "level_weights": self.level_weights,
            "terms": self.terms,
        }


def photometric_loss(
    levels: Sequence[dict[str, tf.Tensor]],
    source,
    target,
    weights: Sequence[float],
    config: PhotometricConfig,
) -> tf.Tensor:
    """Returns the weighted sum of the levels' losses.

    Args:
        levels: coarse to fine, each with ``flow`` [batch, rows, columns, 2] and ``logits``
            [batch, rows, columns, components] on its own grid. It is compared there, or at stride 8
            if its grid is coarser. The flow is in pixels of the images, or of their size
            ``image_size`` (height, width) where the level has one.
        source, target: [batch, height, width, 3], 0..255.
        weights: one for each level; a level of weight 0 is left out.
        config: the terms.

    Returns:
        A scalar, the mean over the batch.

    Raises:
        ValueError: if there is no level, or not one weight for each.
    """
    check_levels(levels, weights)
    loss = tf.constant(0.0)
    for weight, level in zip(weights, levels, strict=True):
        if not weight:
            continue
        size = height, width = _comparing_size(level["flow"], target)
        image_height, image_width = level.get("image_size", spatial_size(target))
        cell = tf.cast(tf.stack([image_width / width, image_height / height]), tf.float32)
        loss += weight * level_loss(
            resize_bilinear(level["flow"], size) / cell,
            resize_bilinear(level["logits"], size),
            resize_area(source, size),
            resize_area(target, size),
            config,
        )
    return loss


def _comparing_size(flow, image) -> tuple:
    """Returns the size (height, width) at which a level's flow is compared; it has to be known."""
    sizes = zip(spatial_size(flow), spatial_size(image), strict=True)
    return tuple(max(side, -(-image_side // _COARSEST_STRIDE)) for side, image_side in sizes)


def level_loss(flow, logits, source, target, config: PhotometricConfig) -> tf.Tensor:
    """Returns the loss of a flow and its confidence, averaged over all pixels.

    A pixel whose match would lie outside the source has nothing to be compared with. It counts as
    the largest error, so that its confidence falls; its flow follows from smoothness alone.

    Args:
        flow: [batch, height, width, 2], in pixels.
        logits: of the mixture's components, [batch, height, width, components].
        source, target: [batch, height, width, 3], 0..255.
        config: the terms.
    """
    seen = warping.inside(flow, *spatial_size(source)) > 0
    # The target's own pixel agrees with it: it says nothing about its neighbours either.
    warped = tf.where(seen[..., None], warping.bilinear(source, flow), target)
    error = tf.where(seen, photometric_error(warped, target, config), 1.0)
    log_confidence = tf.nn.log_softmax(logits)[..., 0]
    loss = tf.reduce_mean(tf.exp(log_confidence) * error - config.confidence * log_confidence)
    loss += config.smoothness * roughness(flow, target, config.edge_awareness)
    return loss + config.magnitude * tf.reduce_mean(tf.reduce_sum(tf.abs(flow), axis=-1))


def photometric_error(warped, target, config: PhotometricConfig) -> tf.Tensor:
    """Returns the weighted mean of the measures that the configuration asks for.

    Args:
        warped, target: [batch, height, width, 3], 0..255.
        config: `absolute`, `ssim` and `census` are the weights.

    Returns:
        [batch, height, width], in 0..1.
    """
    measures = (
        (config.absolute, absolute_difference),
        (config.ssim, structural_dissimilarity),
        (config.census, census_distance),
    )
    total = sum(weight for weight, _ in measures)
    return sum(weight / total * measure(warped, target) for weight, measure in measures if weight)


def absolute_difference(first, second) -> tf.Tensor:
    """Returns the mean absolute difference of the colours.

    Args:
        first, second: [batch, height, width, 3], 0..255.

    Returns:
        [batch, height, width], in 0..1.
    """
    return tf.reduce_mean(tf.abs(first - second), axis=-1) / 255.0


def structural_dissimilarity(first, second) -> tf.Tensor:
    """Returns ``(1 - SSIM) / 2``, SSIM in windows of 3x3 pixels, averaged over the colours.

    It does not mind small changes of brightness and contrast (Wang et al., 2004; as a loss: Godard
    et al., CVPR 2017, equation 2). At the border windows are cut.

    Args:
        first, second: [batch, height, width, 3], 0..255.

    Returns:
        [batch, height, width], in 0..1.
    """

    def mean(x):
        return tf.nn.avg_pool2d(x, _SSIM_WINDOW, 1, "SAME")

    first_mean, second_mean = mean(first), mean(second)
    product = first_mean * second_mean
    squares = tf.square(first_mean) + tf.square(second_mean)
    covariance = mean(first * second) - product
    variances = mean(tf.square(first) + tf.square(second)) - squares
    luminance, contrast = _SSIM_CONSTANTS
    similarity = (2.0 * product + luminance) * (2.0 * covariance + contrast)
    similarity /= (squares + luminance) * (variances + contrast)
    return tf.clip_by_value((1.0 - tf.reduce_mean(similarity, axis=-1)) / 2.0, 0.0, 1.0)


def census_distance(first, second) -> tf.Tensor:
    """Returns how differently pixels compare with their 48 neighbours: a soft ternary census.

    Each image is described by the signs of the differences of grey value to the neighbours, which a
    change of brightness leaves alone (Zabih and Woodfill, ECCV 1994; differentiable as in UnFlow,
    Meister et al., AAAI 2018). Neighbours outside the image do not count.

    Args:
        first, second: [batch, height, width, 3], 0..255.

    Returns:
        [batch, height, width], in 0..1: the mean over the neighbours.
    """
    neighbours = np.eye(_CENSUS_SIDE**2, dtype=np.float32)
    neighbours = np.delete(neighbours, _CENSUS_SIDE**2 // 2, axis=1)
    neighbours = neighbours.reshape(_CENSUS_SIDE, _CENSUS_SIDE, 1, -1)
    differences = neighbours.copy()
    differences[_CENSUS_SIDE // 2, _CENSUS_SIDE // 2] -= 1.0

    def signs(image):
        grey = tf.tensordot(image, tf.constant(_LUMA, image.dtype), 1)[..., None]
        difference = tf.nn.conv2d(grey, differences, 1, "SAME")
        return difference * tf.math.rsqrt(_SIGN_SOFTNESS + tf.square(difference))

    squared = tf.square(signs(first) - signs(second))
    distance = squared / (_HAMMING_SOFTNESS + squared)
    existing = tf.nn.conv2d(tf.ones_like(first[:1, ..., :1]), neighbours, 1, "SAME")
    return tf.reduce_sum(distance * existing, axis=-1) / tf.reduce_sum(existing, axis=-1)


def roughness(flow, image, edge_awareness: float) -> tf.Tensor:
    """Returns the mean absolute gradient of a flow, less where the image has an edge.

    The gradient of the flow between two neighbours counts ``exp(-edge_awareness |difference|)``,
    with the mean absolute difference of their colours, 0..1 (Godard et al., CVPR 2017, equation 3).

    Args:
        flow: [batch, height, width, 2], in pixels.
        image: that the flow belongs to, [batch, height, width, 3], 0..255.
        edge_awareness: 0 is the plain L1 norm.

    Returns:
        A scalar: the mean over x plus the mean over y of |d flow|, summed over its components.
    """
    total = tf.constant(0.0)
    for axis in (1, 2):
        if flow.shape[axis] == 1:
            continue
        gradient = tf.reduce_sum(tf.abs(_difference(flow, axis)), axis=-1)
        edge = tf.reduce_mean(tf.abs(_difference(image, axis)), axis=-1) / 255.0
        total += tf.reduce_mean(gradient * tf.exp(-edge_awareness * edge))
    return total


def _difference(x, axis: int) -> tf.Tensor:
    """Returns the differences of neighbours along an axis."""
    return x[:, 1:] - x[:, :-1] if axis == 1 else x[:, :, 1:] - x[:, :, :-1]
