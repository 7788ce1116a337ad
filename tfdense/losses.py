"""The objective: how unlikely a network holds the true flow to be, over all of its levels."""

from collections.abc import Sequence
from typing import Literal

import keras
import tensorflow as tf

from tfdense.geometry import flow_to_map, resize_bilinear, spatial_size
from tfdense.ground_truth import (
    check_ground_truth,
    merge_ground_truth,
    resize_ground_truth,
    resize_mask,
    scattered_flow,
    without_invalid,
)
from tfdense.mixture import Mixture

_ESTIMATE = ("flow", "log_variance", "logits")
_RESOLUTIONS = ("level", "full")
_REDUCTIONS = ("mean", "sum")


@keras.saving.register_keras_serializable("tfdense")
class MixtureNLL(keras.losses.Loss):
    """How unlikely a network holds the true flow to be: what `compile()` takes by default.

    The sum of `pyramid_likelihood`, `extrapolation_error` and, where a network matches whole
    images, `matching_likelihood`, each by its weight.

    Args:
        mixture: the distribution, ``mixture`` of a network.
        level_weights: one for each level, coarse to fine; None counts each once.
        resolution, unmatched_weight: see `pyramid_likelihood`.
        pixel_reduction: ``reduction`` there.
        extrapolation_weight: of the flow's error where the true match is hidden or out of view, in
            1/px.
        matching_weight: of the likelihood of the true cell.
        reduction: over the pairs of a batch, as of every loss of Keras.

    Call:
        y_true: {"flow": [batch, height, width, 2], in px, "mask": [batch, height, width], 1 where
            the flow is valid (if left out: everywhere), "unmatched": 1 where it is known that there
            is no match (may be left out)}.
        y_pred: of a network of `tfdense.models`, or of one without levels: {"flow", "log_variance",
            "logits"}.
        sample_weight: [batch], of each pair.
        Returns a scalar.

    Raises:
        ValueError: if `resolution` or `pixel_reduction` is none of these, or, when called, if the
            shapes do not fit, there is no level, or not one weight for each.

    For example:

    >>> from tfdense.mixture import LaplaceMixture
    >>> loss = MixtureNLL(LaplaceMixture(maximum_variance=100.0))
    >>> zeros = np.zeros((1, 4, 4, 2), "float32")
    >>> answer = {"flow": zeros, "log_variance": zeros, "logits": zeros}
    >>> round(float(loss({"flow": zeros}, answer)), 4)  # log 2: the right flow, variances of 1 px²
    0.6931
    """

    def __init__(
        self,
        mixture: Mixture,
        level_weights: Sequence[float] | None = None,
        resolution: Literal["level", "full"] = "level",
        pixel_reduction: Literal["mean", "sum"] = "mean",
        unmatched_weight: float = 1.0,
        extrapolation_weight: float = 0.05,
        matching_weight: float = 1.0,
        name: str = "mixture_nll",
        reduction: str = "sum_over_batch_size",
        dtype=None,
    ):
        if resolution not in _RESOLUTIONS:
            raise ValueError(f"`resolution` must be one of {_RESOLUTIONS}. Received: {resolution=}")
        if pixel_reduction not in _REDUCTIONS:
            raise ValueError(
                f"`pixel_reduction` must be one of {_REDUCTIONS}. Received: {pixel_reduction=}"
            )
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.mixture = mixture
        self.level_weights = None if level_weights is None else tuple(level_weights)
        self.resolution = resolution
        self.pixel_reduction = pixel_reduction
        self.unmatched_weight = unmatched_weight
        self.extrapolation_weight = extrapolation_weight
        self.matching_weight = matching_weight

    def call(self, y_true, y_pred):
        flow = y_true["flow"]
        mask = y_true["mask"] if "mask" in y_true else tf.ones_like(flow[..., 0])
        unmatched = y_true.get("unmatched")
        levels = [_with_whole_size(level) for level in y_pred.get("levels", [y_pred])]
        check_ground_truth(y_true, levels)
        weights = self.level_weights or (1.0,) * len(levels)
        loss = pyramid_likelihood(
            self.mixture,
            levels,
            flow,
            mask,
            weights,
            self.resolution,
            self.pixel_reduction,
            unmatched if self.unmatched_weight else None,
            self.unmatched_weight,
        )
        if self.extrapolation_weight and unmatched is not None:
            error = extrapolation_error(levels, flow, mask, unmatched, weights)
            loss += self.extrapolation_weight * error
        if "matching" in y_pred:
            loss += self.matching_weight * matching_likelihood(y_pred["matching"], flow, mask)
        return loss

    def get_config(self):
        return {
            **super().get_config(),
            "mixture": keras.saving.serialize_keras_object(self.mixture),
            "level_weights": self.level_weights,
            "resolution": self.resolution,
            "pixel_reduction": self.pixel_reduction,
            "unmatched_weight": self.unmatched_weight,
            "extrapolation_weight": self.extrapolation_weight,
            "matching_weight": self.matching_weight,
        }

    @classmethod
    def from_config(cls, config):
        mixture = keras.saving.deserialize_keras_object(config["mixture"])
        return cls(**{**config, "mixture": mixture})


def _with_whole_size(level: dict) -> dict:
    """Makes whole numbers of a size again, of which Keras makes those of the loss."""
    if "image_size" not in level:
        return level
    return {**level, "image_size": tf.cast(level["image_size"], tf.int32)}


def check_levels(levels: Sequence[dict], weights: Sequence[float]) -> None:
    """Makes sure that there is a level, and one weight for each.

    Raises:
        ValueError: if not.
    """
    if not levels:
        raise ValueError("Expected at least one level. Received: none")
    if len(weights) != len(levels):
        raise ValueError(
            f"Expected one weight for each of the {len(levels)} levels. Received: {weights}"
        )


def masked_likelihood(
    mixture: Mixture,
    estimate: dict[str, tf.Tensor],
    flow,
    mask,
    reduction: str = "mean",
    unmatched=None,
) -> tf.Tensor:
    """Returns the negative log-likelihood of a flow, averaged over its valid pixels.

    A pixel that is known to have no match counts too if `unmatched` says so: as if its match were
    at a random place of the source. The most likely mixture is then a wide one, whose confidence is
    low; the flow itself gets no gradient there.

    Args:
        mixture: the distribution.
        estimate: ``flow``, ``log_variance`` and ``logits``, [batch, height, width, ...].
        flow: true flow, [batch, height, width, 2], in the units of the estimate.
        mask: [batch, height, width], 1 where the true flow is valid.
        reduction: ``mean`` over the valid pixels of each pair, or ``sum``: that mean times
            height * width, the original's form, which favours the finer levels.
        unmatched: None, or the weight of pixels without a match, [batch, height, width], 0
            elsewhere, and flows to random places, [height, width, 2].

    Returns:
        [batch]; a pair without valid pixels counts as zero (PDC-Net, equation 3 and
        supplementary).
    """
    mask = tf.cast(mask, tf.float32)
    error = estimate["flow"] - without_invalid(flow, mask)
    if unmatched is not None:
        mask += unmatched[0]
        anywhere = tf.stop_gradient(estimate["flow"]) - unmatched[1]
        error = tf.where((unmatched[0] > 0)[..., None], anywhere, error)
    likelihood = mixture.negative_log_likelihood(
        error, estimate["log_variance"], estimate["logits"]
    )
    total = tf.reduce_sum(tf.where(mask > 0, likelihood, 0.0) * mask, axis=[1, 2])
    loss = total / (tf.reduce_sum(mask, axis=[1, 2]) + 1e-6)
    if reduction == "sum":
        height, width = spatial_size(flow)
        loss *= tf.cast(height * width, tf.float32)
    return loss


def pyramid_likelihood(
    mixture: Mixture,
    levels: Sequence[dict[str, tf.Tensor]],
    flow,
    mask,
    weights: Sequence[float],
    resolution: Literal["level", "full"] = "level",
    reduction: Literal["mean", "sum"] = "mean",
    unmatched=None,
    unmatched_weight: float = 1.0,
) -> tf.Tensor:
    """Returns the weighted sum of the levels' negative log-likelihoods.

    Args:
        mixture: the distribution.
        levels: coarse to fine, each with ``flow``, ``log_variance`` and ``logits`` on its own grid,
            in pixels of the images that `flow` belongs to. A level that sees them resized has
            their (height, width) there as ``image_size`` and is in pixels of that size.
        flow: true flow, [batch, height, width, 2].
        mask: [batch, height, width], 1 where it is valid.
        weights: one for each level.
        resolution: ``level`` resizes the true flow to the level's grid (its values stay), where
            only a cell whose neighbours are all valid counts; ``full`` resizes the estimate, so
            that sparse ground truth remains: it is merged where images are seen resized.
        reduction: as in `masked_likelihood`.
        unmatched: [batch, height, width], 1 where it is known that there is no match, or None; see
            `masked_likelihood`.
        unmatched_weight: of those pixels, relative to valid ones.

    Returns:
        [batch], one for each pair.

    Raises:
        ValueError: if there is no level, or not one weight for each.
    """
    check_levels(levels, weights)
    flow = without_invalid(flow, mask)
    loss = 0.0
    for weight, level in zip(weights, levels, strict=True):
        level_flow, level_mask, level_unmatched = flow, mask, None
        image_size = level.get("image_size", spatial_size(flow))
        if "image_size" in level:
            if resolution == "full":
                level_flow, level_mask = merge_ground_truth(flow, mask, level["image_size"])
            else:
                level_flow, level_mask = resize_ground_truth(
                    flow, mask, level["image_size"], rescale=True
                )
        estimate = {name: level[name] for name in _ESTIMATE}
        if resolution == "full":
            size = spatial_size(level_flow)
            estimate = {name: resize_bilinear(value, size) for name, value in estimate.items()}
        else:
            size = spatial_size(level["flow"])
            level_flow, level_mask = resize_ground_truth(level_flow, level_mask, size)
        if unmatched is not None:
            weight_of_unmatched = unmatched_weight * resize_mask(unmatched, size)
            level_unmatched = (weight_of_unmatched, scattered_flow(size, image_size))
        loss += weight * masked_likelihood(
            mixture, estimate, level_flow, level_mask, reduction, level_unmatched
        )
    return loss


def extrapolation_error(
    levels: Sequence[dict[str, tf.Tensor]], flow, mask, unmatched, weights: Sequence[float]
) -> tf.Tensor:
    """Returns how far off the flow is where the match cannot be seen, though it is known.

    The likelihood asks for nothing there but a low confidence; with this the flow goes on smoothly
    behind what hides it and beyond the border of the source.

    Args:
        levels, flow, mask, weights: as of `pyramid_likelihood`.
        unmatched: [batch, height, width], 1 where there is no match to be seen. A pair without any
            valid pixel shows different things; it does not count, nor does a pixel whose true flow
            is not finite.

    Returns:
        [batch], the sum over the levels of the weighted mean over all pixels of |error|₁, in px.
    """
    related = tf.reduce_max(mask, axis=[1, 2], keepdims=True)
    known = tf.reduce_all(tf.math.is_finite(flow), axis=-1)
    unmatched = unmatched * related * tf.cast(known, tf.float32)
    flow = without_invalid(flow, unmatched)
    loss = 0.0
    for weight, level in zip(weights, levels, strict=True):
        hidden_flow, hidden = flow, unmatched
        if "image_size" in level:
            hidden_flow, hidden = resize_ground_truth(
                hidden_flow, hidden, level["image_size"], rescale=True
            )
        hidden_flow, hidden = resize_ground_truth(hidden_flow, hidden, spatial_size(level["flow"]))
        error = tf.reduce_sum(tf.abs(level["flow"] - hidden_flow), axis=-1)
        loss += weight * tf.reduce_mean(hidden * error, axis=[1, 2])
    return loss


def matching_likelihood(log_probability, flow, mask) -> tf.Tensor:
    """Returns the negative log-probability of the source cells that hold the true matches.

    It trains the features that are matched over the whole image: the likelihood of the flow alone
    has no gradient towards a match far from the one found (as in LoFTR, equation 5).

    Args:
        log_probability: of each source cell, [batch, rows, columns, rows * columns], row by row.
        flow: true flow, [batch, height, width, 2].
        mask: [batch, height, width], 1 where it is valid.

    Returns:
        [batch], the mean over the valid cells of each pair.
    """
    rows, columns = log_probability.shape[1:3]
    image_size = spatial_size(flow)
    flow, mask = resize_ground_truth(without_invalid(flow, mask), mask, (rows, columns))
    cell_size = tf.constant([image_size[1] / columns, image_size[0] / rows], tf.float32)
    cell = tf.round(flow_to_map(flow / cell_size))
    mask *= tf.cast(tf.reduce_all((cell >= 0) & (cell < [columns, rows]), axis=-1), tf.float32)
    # Whatever an invalid pixel's flow is, its index has to be one that can be gathered.
    x, y = (
        tf.clip_by_value(tf.cast(cell[..., axis], tf.int32), 0, size - 1)
        for axis, size in ((0, columns), (1, rows))
    )
    likelihood = -tf.gather(log_probability, y * columns + x, batch_dims=3)
    total = tf.reduce_sum(likelihood * mask, axis=[1, 2])
    return total / (tf.reduce_sum(mask, axis=[1, 2]) + 1e-6)
