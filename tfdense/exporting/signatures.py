"""What an exported network computes: functions of a model and two batches of images."""

from collections.abc import Callable

import keras
import tensorflow as tf

from tfdense.checks import LARGEST_EXPORTED_SIDE, check_exported_side
from tfdense.errors import InputError
from tfdense.exporting.metadata import RADIUS
from tfdense.geometry import pixel_grid, resize_bilinear, spatial_size
from tfdense.masking import CELLS, NOISE, UNKNOWN_LOG_VARIANCE


def match_fixed(model: keras.Model, source, target) -> dict[str, tf.Tensor]:
    """Matches images that already have a size that the network takes.

    Args:
        model: a network of `tfdense.models`.
        source, target: [batch, height, width, 3], RGB in 0..255, both of one size.

    Returns:
        float32: "flow" [batch, height, width, 2], "confidence" [batch, height, width],
        "log_variance" and "logits" [batch, height, width, components].
    """
    outputs = _run(model, source, target)
    confidence = model.mixture.confidence(outputs["log_variance"], outputs["logits"], RADIUS)
    return {**outputs, "confidence": confidence}


def check_size(model: keras.Model, size: tuple[int, int]) -> None:
    """Refuses a (height, width) that a network does not take as it is.

    Raises:
        InputError: if a side is none of its multiples, too small or too large.
    """
    check_exported_side(size)
    if any(side % model.stride or side < model.minimum_size for side in size):
        raise InputError(
            f"Expected a height and width of at most {LARGEST_EXPORTED_SIDE}, divisible by "
            f"{model.stride} and at least {model.minimum_size}. "
            f"Received: {'x'.join(map(str, size))}"
        )


def match(model: keras.Model, source, target) -> dict[str, tf.Tensor]:
    """Matches images of any size; what `tfdense.matcher` does, as one graph.

    The network sees both at the target's size rounded to its stride; an axis that shrinks is
    smoothed (the triangle filter of `tf.image.resize` with antialias).

    Args:
        model: a network of `tfdense.models`.
        source: [batch, source height, source width, 3], RGB in 0..255.
        target: [batch, height, width, 3].

    Returns:
        As `match_fixed`, at the target's size and in px of the source.
    """
    source = checked(
        source,
        tf.shape(source)[0],
        tf.shape(target)[0],
        "source and target differ in their batch size",
    )
    size = spatial_size(target)
    working_size = [_working_side(side, model) for side in size]
    outputs = _run(model, *(_resize_image(image, working_size) for image in (source, target)))
    outputs = {name: resize_bilinear(values, size) for name, values in outputs.items()}

    source_extent, target_extent, working_extent = (
        tf.cast(tf.stack(size[::-1]), tf.float32)
        for size in (spatial_size(source), size, working_size)
    )
    scale = source_extent / working_extent
    confidence = model.mixture.confidence(
        outputs["log_variance"], outputs["logits"], RADIUS / scale
    )
    # With half-pixel centres, the flow of a resized but otherwise equal image is not zero.
    at_rest = (pixel_grid(*size) + 0.5) * (source_extent / target_extent - 1.0)
    return {
        "flow": outputs["flow"] * scale + at_rest,
        "confidence": confidence,
        "log_variance": outputs["log_variance"] + tf.reduce_sum(tf.math.log(scale)),
        "logits": outputs["logits"],
    }


def match_masked(match: Callable, source, target, source_mask, target_mask) -> dict[str, tf.Tensor]:
    """Matches images of which not every pixel counts; as `tfdense.masking` says.

    Args:
        match: of two batches of images.
        source, target: uint8 [batch, height, width, 3].
        source_mask, target_mask: numbers [batch, height, width], or with sides of 1 that hold for
            all; what is above half of a mask's largest counts.

    Returns:
        As `match`.
    """
    source_mask, target_mask = (
        tf.broadcast_to(_above_half(mask), tf.shape(images)[:3])
        for mask, images in ((source_mask, source), (target_mask, target))
    )
    outputs = match(_hide(source, source_mask, "source"), _hide(target, target_mask, "target"))
    masked = _is_masked(outputs["flow"], source_mask, target_mask)
    unknown = tf.constant(UNKNOWN_LOG_VARIANCE)
    return {
        **outputs,
        "confidence": tf.where(masked, 0.0, outputs["confidence"]),
        "log_variance": tf.where(masked[..., None], unknown, outputs["log_variance"]),
    }


def _run(model: keras.Model, source, target) -> dict[str, tf.Tensor]:
    outputs = model({"source": tf.cast(source, tf.float32), "target": tf.cast(target, tf.float32)})
    return {name: tf.cast(outputs[name], tf.float32) for name in ("flow", "log_variance", "logits")}


def _working_side(side, model: keras.Model) -> tf.Tensor:
    smallest = -(-model.minimum_size // model.stride) * model.stride
    multiple = tf.cast(tf.round(tf.cast(side, tf.float32) / model.stride), tf.int32)
    return tf.maximum(multiple * model.stride, smallest)


def _resize_image(image, size) -> tf.Tensor:
    """Resizes images as `tf.image.resize` does with antialias.

    The operation that this runs, ScaleAndTranslate, is known to TensorFlow alone.
    """
    image = tf.cast(image, tf.float32)
    rows = _resize_rows(image, size[0])
    return tf.transpose(_resize_rows(tf.transpose(rows, [0, 2, 1, 3]), size[1]), [0, 2, 1, 3])


def _resize_rows(image, new: tf.Tensor) -> tf.Tensor:
    """Weighs the rows around each new one by a triangle as wide as the coarser of both grids."""
    old = tf.shape(image)[1]
    scale = tf.cast(old, tf.float32) / tf.cast(new, tf.float32)
    radius = tf.maximum(scale, 1.0)
    centre = (tf.range(tf.cast(new, tf.float32)) + 0.5) * scale - 0.5
    taps = tf.range(2.0 * tf.math.ceil(radius) + 1.0)
    places = (tf.math.ceil(centre - radius))[:, None] + taps
    limit = tf.cast(old, tf.float32) - 1.0
    weights = tf.maximum(0.0, 1.0 - tf.abs(places - centre[:, None]) / radius)
    weights *= tf.cast((places >= 0.0) & (places <= limit), tf.float32)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    rows = tf.gather(image, tf.cast(tf.clip_by_value(places, 0.0, limit), tf.int32), axis=1)
    shape = tf.shape(rows)
    flat = tf.reshape(rows, [shape[0], shape[1], shape[2], shape[3] * 3])
    return tf.reshape(weights[:, None] @ flat, [shape[0], shape[1], shape[3], 3])


def checked(image, actual, expected, message: str) -> tf.Tensor:
    """Returns an image, once both values are known to be equal."""
    with tf.control_dependencies([tf.debugging.assert_equal(actual, expected, message)]):
        return tf.identity(image)


def _above_half(mask) -> tf.Tensor:
    mask = tf.cast(mask, tf.float32)
    return mask > tf.reduce_max(mask, axis=[1, 2], keepdims=True) / 2


def _hide(images, masks, role: str) -> tf.Tensor:
    """As `tfdense.masking.hide`."""
    height, width = spatial_size(images)
    noise = tf.constant(NOISE[role])
    cell = -(-tf.maximum(height, width) // CELLS)
    rows, columns = (
        tf.range(side) // cell % period
        for side, period in zip((height, width), noise.shape, strict=False)
    )
    noise = tf.gather(tf.gather(noise, rows), columns, axis=1)
    return tf.where(masks[..., None], images, noise)


def _is_masked(flow, source_masks, target_masks) -> tf.Tensor:
    """As `tfdense.masking.is_masked`."""
    limit = tf.cast(tf.stack(spatial_size(source_masks[..., None])[::-1]), tf.float32) - 1
    places = flow + pixel_grid(*spatial_size(flow))
    inside = tf.reduce_all((places >= 0) & (places <= limit), axis=-1)
    x, y = tf.unstack(tf.where(inside[..., None], places, 0.0), axis=-1)
    needed = [
        tf.gather_nd(
            source_masks, tf.cast(tf.stack([row, column], axis=-1), tf.int32), batch_dims=1
        )
        for row in (tf.floor(y), tf.math.ceil(y))
        for column in (tf.floor(x), tf.math.ceil(x))
    ]
    return ~target_masks | (inside & ~tf.reduce_all(needed, axis=0))
