"""The objective: how unlikely a network holds the true flow to be, over all of its levels."""

from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from tfdense.geometry import (
    flow_to_map,
    pixel_grid,
    resize_bilinear,
    resize_flow,
    spatial_size,
)
from tfdense.mixture import Mixture

# Reciprocals of the plastic number and its square.
_PLASTIC_STEPS = (0.7548776662466927, 0.5698402909980532)


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
        A scalar, the mean over the batch; a pair without valid pixels counts as zero (PDC-Net,
        equation 3 and supplementary).
    """
    mask = tf.cast(mask, tf.float32)
    error = estimate["flow"] - flow
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
    return tf.reduce_mean(loss)


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

    Raises:
        ValueError: if there is not one weight for each level.
    """
    if len(weights) != len(levels):
        raise ValueError(
            f"Expected one weight for each of the {len(levels)} levels. Received: {weights}"
        )
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
        estimate = {name: level[name] for name in ("flow", "log_variance", "logits")}
        if resolution == "full":
            size = spatial_size(level_flow)
            estimate = {name: resize_bilinear(value, size) for name, value in estimate.items()}
        else:
            size = spatial_size(level["flow"])
            level_flow, level_mask = resize_ground_truth(level_flow, level_mask, size)
        if unmatched is not None:
            weight_of_unmatched = unmatched_weight * _resize_mask(unmatched, size)
            level_unmatched = (weight_of_unmatched, scattered_flow(size, image_size))
        loss += weight * masked_likelihood(
            mixture, estimate, level_flow, level_mask, reduction, level_unmatched
        )
    return loss


def scattered_flow(size, image_size) -> tf.Tensor:
    """Returns flows to places that are spread evenly over the source, without order.

    Args:
        size: (height, width) of the flow's grid, which covers the target.
        image_size: (height, width) of both images, in px.

    Returns:
        float32 [height, width, 2], in px of the images; the same each time (the places are those
        of the additive recurrence of the plastic number, Roberts, 2018).
    """
    height, width = size
    image = tf.cast(tf.stack(image_size[::-1]), tf.float32)
    number = tf.cast(tf.range(height * width), tf.float64)[:, None]
    place = tf.cast(tf.math.floormod(number * _PLASTIC_STEPS, 1.0), tf.float32)
    cell = image / tf.cast(tf.stack([width, height]), tf.float32)
    own = (pixel_grid(height, width) + 0.5) * cell
    return tf.reshape(place, [height, width, 2]) * image - own


def extrapolation_error(
    levels: Sequence[dict[str, tf.Tensor]], flow, mask, unmatched, weights: Sequence[float]
) -> tf.Tensor:
    """Returns how far off the flow is where the match cannot be seen, though it is known.

    The likelihood asks for nothing there but a low confidence; with this the flow goes on smoothly
    behind what hides it and beyond the border of the source.

    Args:
        levels, flow, mask, weights: as of `pyramid_likelihood`.
        unmatched: [batch, height, width], 1 where there is no match to be seen. A pair without any
            valid pixel shows different things; it does not count.

    Returns:
        A scalar, the sum over the levels of the weighted mean over all pixels of |error|₁, in px.
    """
    related = tf.reduce_max(mask, axis=[1, 2], keepdims=True)
    loss = 0.0
    for weight, level in zip(weights, levels, strict=True):
        hidden_flow, hidden = flow, unmatched * related
        if "image_size" in level:
            hidden_flow, hidden = resize_ground_truth(
                hidden_flow, hidden, level["image_size"], rescale=True
            )
        hidden_flow, hidden = resize_ground_truth(hidden_flow, hidden, spatial_size(level["flow"]))
        error = tf.reduce_sum(tf.abs(level["flow"] - hidden_flow), axis=-1)
        loss += weight * tf.reduce_mean(hidden * error)
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
        A scalar, the mean over the batch of the mean over the valid cells of each pair.
    """
    rows, columns = log_probability.shape[1:3]
    image_size = spatial_size(flow)
    flow, mask = resize_ground_truth(flow, mask, (rows, columns))
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
    return tf.reduce_mean(total / (tf.reduce_sum(mask, axis=[1, 2]) + 1e-6))


def resize_ground_truth(flow, mask, size, rescale: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes a true flow and its mask; a pixel stays valid where all that made it was valid.

    Args:
        flow: [batch, height, width, 2].
        mask: [batch, height, width].
        size: (height, width) of the result.
        rescale: whether the flow's values become pixels of the new size.
    """
    resized = resize_flow(flow, size) if rescale else resize_bilinear(flow, size)
    return resized, _resize_mask(tf.cast(mask, tf.float32), size)


def _resize_mask(mask, size) -> tf.Tensor:
    mask = resize_bilinear(mask[..., None], size)[..., 0]
    # Weights of 1 may add up to a hair less than 1.
    return tf.floor(mask + 1e-6)


def merge_ground_truth(flow, mask, size) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes a true flow that may be sparse; a pixel is valid where anything near it was.

    Its flow is the mean of the valid ones that bilinear sampling takes, by their weights; where
    there are none, of those that it is nearest to. The authors round sparse matches to the pixels
    of the new size instead: the flow is the same, the pixel that holds it may be the next.

    Args:
        flow: [batch, height, width, 2].
        mask: [batch, height, width].
        size: (height, width) of the result, in pixels of which the result is.
    """
    height, width = spatial_size(flow)
    scale = tf.cast(tf.stack([size[1] / width, size[0] / height]), tf.float32)
    valid = (mask > 0)[..., None]
    values = tf.concat([tf.where(valid, flow, 0.0) * scale, tf.cast(valid, tf.float32)], axis=-1)
    sampled = resize_bilinear(values, size)
    # Sampling skips some rows and columns (of 520 to 256, 3 percent of the pixels).
    rows, columns = _nearest(height, size[0]), _nearest(width, size[1])
    nearest = tf.einsum("byxc,xj->byjc", values, columns)
    nearest = tf.einsum("byjc,yi->bijc", nearest, rows)
    values = tf.where(sampled[..., 2:] > 1e-6, sampled, nearest)
    flow, weight = values[..., :2], values[..., 2:]
    valid = weight > 1e-6
    flow = tf.where(valid, flow / tf.where(valid, weight, 1.0), 0.0)
    return flow, tf.cast(valid[..., 0], tf.float32)


def _nearest(length, new_length) -> tf.Tensor:
    """Returns which new position is next to each old one, as ones in [length, new_length]."""
    ratio = tf.cast(new_length / length, tf.float32)
    position = (tf.range(length, dtype=tf.float32) + 0.5) * ratio - 0.5
    return tf.one_hot(tf.cast(tf.round(position), tf.int32), new_length)
