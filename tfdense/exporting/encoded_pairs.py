"""What an exported network computes of pairs that come as files, each pair at its own size."""

from collections.abc import Callable

import tensorflow as tf

from tfdense.exporting.encoded import decode_upright
from tfdense.exporting.signatures import checked
from tfdense.pixels import OPAQUE


def match_pair(match: Callable, source, target, source_mask, target_mask) -> dict[str, tf.Tensor]:
    """Matches two images that come as the bytes of JPEG or PNG files.

    They are decoded by `tfdense.exporting.encoded.decode_upright`. What is transparent is masked.

    Args:
        match: of two batches of images and their masks, see `match_masked`.
        source, target: strings.
        source_mask, target_mask: likewise; an empty one is no mask.

    Returns:
        As `match`, without the dimension of the batch.
    """
    source, source_used = _decode(source, source_mask, "source")
    target, target_used = _decode(target, target_mask, "target")
    outputs = match(source[None], target[None], source_used[None], target_used[None])
    return {name: values[0] for name, values in outputs.items()}


def match_encoded(
    match: Callable, source, target, source_mask, target_mask
) -> dict[str, tf.Tensor]:
    """Matches pairs of images one after the other, each at its own size.

    Args:
        match: of a pair, see `match_pair`.
        source, target: strings [batch].
        source_mask, target_mask: likewise; an empty one is no mask, and one string holds for all.

    Returns:
        As `match`, filled with zeros to the size of the largest target; and "target_size" int32
        [batch, 2], the height and width that each answer has.
    """

    def match_one(one):
        outputs = match(*one)
        return {
            **{name: tf.RaggedTensor.from_tensor(values) for name, values in outputs.items()},
            "target_size": tf.shape(outputs["confidence"]),
        }

    outputs = tf.map_fn(
        match_one,
        _same_length(source, target, source_mask, target_mask),
        fn_output_signature=_OF_ANY_SIZE,
        parallel_iterations=1,
    )
    size = outputs.pop("target_size")
    filled = {name: values.to_tensor() for name, values in outputs.items()}
    return {**filled, "target_size": size}


def match_points(
    match: Callable, source, target, target_points, source_mask, target_mask
) -> dict[str, tf.Tensor]:
    """Finds the places in the source of single points of the target.

    Args:
        match, source, target, source_mask, target_mask: as of `match_encoded`.
        target_points: (x, y) in px of the target, float32 [batch, count, 2].

    Returns:
        "source_points" float32 [batch, count, 2], (x, y) in px of the source, and "confidence"
        [batch, count]. Between pixels both are interpolated. A point outside of the target has the
        flow of the border and a confidence of 0; one that is not finite also comes back as (0, 0).
    """

    def match_one(one):
        points, *pair = one
        outputs = match(*pair)
        return _at_points(outputs["flow"], outputs["confidence"], points)

    points = tf.TensorSpec([None, 2]), tf.TensorSpec([None])
    places, confidence = tf.map_fn(
        match_one,
        (target_points, *_same_length(source, target, source_mask, target_mask)),
        fn_output_signature=points,
        parallel_iterations=1,
    )
    return {"source_points": places, "confidence": confidence}


_OF_ANY_SIZE = {
    "flow": tf.RaggedTensorSpec([None, None, 2], tf.float32, ragged_rank=1),
    "confidence": tf.RaggedTensorSpec([None, None], tf.float32, ragged_rank=1),
    "log_variance": tf.RaggedTensorSpec([None, None, None], tf.float32, ragged_rank=1),
    "logits": tf.RaggedTensorSpec([None, None, None], tf.float32, ragged_rank=1),
    "target_size": tf.TensorSpec([2], tf.int32),
}


def _decode(encoded, mask, role: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes an image to uint8 [height, width, 3] and where it counts, uint8 [height, width]."""
    image, alpha = decode_upright(encoded)
    image = tf.ensure_shape(image, [None, None, 3])
    size = tf.shape(alpha)

    def by_mask():
        values, opaque = decode_upright(mask)
        message = f"the mask of the {role} has another size than the image"
        values = checked(values, tf.shape(opaque), size, message)
        grey = tf.reduce_mean(tf.cast(values, tf.float32), axis=-1)
        return (grey > tf.reduce_max(grey) / 2) & (opaque >= OPAQUE)

    used = tf.cond(tf.equal(mask, ""), lambda: tf.ones(size, tf.bool), by_mask)
    return image, tf.cast(used & (alpha >= OPAQUE), tf.uint8)


def _same_length(source, target, *masks) -> tuple[tf.Tensor, ...]:
    """Repeats masks of one string for each pair of a batch."""
    size = tf.shape(source)
    message = "source and target differ in their batch size"
    masks = (tf.broadcast_to(mask, size) for mask in masks)
    return source, checked(target, tf.shape(target), size, message), *masks


def _at_points(flow, confidence, points) -> tuple[tf.Tensor, tf.Tensor]:
    """Interpolates a flow [height, width, 2] and its confidence at points [count, 2]."""
    size = tf.cast(tf.shape(confidence)[::-1], tf.float32)
    finite = tf.reduce_all(tf.math.is_finite(points), axis=-1)
    points = tf.where(finite[:, None], points, 0.0)
    # A pixel ends half a pixel from its centre.
    inside = finite & tf.reduce_all((points >= -0.5) & (points <= size - 0.5), axis=-1)
    within = tf.clip_by_value(points, 0.0, size - 1.0)
    first = tf.floor(within)
    share = within - first
    values = tf.concat([flow, confidence[..., None]], axis=-1)

    def corner(x, y):
        column, row = tf.unstack(
            tf.cast(tf.minimum(first + tf.constant([x, y]), size - 1.0), tf.int32), axis=-1
        )
        weight = tf.abs(1.0 - x - share[:, 0]) * tf.abs(1.0 - y - share[:, 1])
        return weight[:, None] * tf.gather_nd(values, tf.stack([row, column], axis=-1))

    found = corner(0.0, 0.0) + corner(1.0, 0.0) + corner(0.0, 1.0) + corner(1.0, 1.0)
    places = tf.where(finite[:, None], points + found[:, :2], 0.0)
    return places, tf.where(inside, found[:, 2], 0.0)
