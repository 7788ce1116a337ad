"""What an exported network computes: functions of a model and two batches of images."""

from collections.abc import Callable

import keras
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.exporting.encoded import decode_upright
from tfdense.exporting.metadata import RADIUS
from tfdense.geometry import pixel_grid, resize_bilinear, spatial_size
from tfdense.masking import CELLS, NOISE, UNKNOWN_LOG_VARIANCE
from tfdense.pixels import OPAQUE


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
        InputError: if a side is none of its multiples, or too small.
    """
    if any(side % model.stride or side < model.minimum_size for side in size):
        raise InputError(
            f"Expected a height and width divisible by {model.stride} and at least "
            f"{model.minimum_size}. Received: {tuple(size)}"
        )


def match(model: keras.Model, source, target) -> dict[str, tf.Tensor]:
    """Matches images of any size; what `tfdense.inference.matcher` does, as one graph.

    The network sees both at the target's size rounded to its stride; an axis that shrinks is
    smoothed (the triangle filter of `tf.image.resize` with antialias).

    Args:
        model: a network of `tfdense.models`.
        source: [batch, source height, source width, 3], RGB in 0..255.
        target: [batch, height, width, 3].

    Returns:
        As `match_fixed`, at the target's size and in px of the source.
    """
    source = _checked(
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


def match_encoded(match: Callable, source, target) -> dict[str, tf.Tensor]:
    """Matches images that come as the bytes of JPEG or PNG files.

    They are decoded by `tfdense.exporting.encoded.decode_upright`. Within a batch all sources must
    have one size, and all targets; any other is refused. What is transparent is masked, see
    `tfdense.masking`.

    Args:
        match: of two batches of images.
        source, target: strings [batch].

    Returns:
        As `match`.
    """
    source, source_mask = _decode(source, "source")
    target, target_mask = _decode(target, "target")
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
    return tf.image.resize(image, size, method="bilinear", antialias=True)


def _checked(image, actual, expected, message: str) -> tf.Tensor:
    """Returns the image, once both values are known to be equal."""
    with tf.control_dependencies([tf.debugging.assert_equal(actual, expected, message)]):
        return tf.identity(image)


def _decode(encoded, role: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes strings [batch] to images uint8 [batch, height, width, 3] and their masks."""
    size = tf.shape(decode_upright(encoded[0])[0])

    def decode(one):
        image, alpha = decode_upright(one)
        message = f"the images of {role} differ in size within the batch"
        return _checked(image, tf.shape(image), size, message), alpha >= OPAQUE

    specs = tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([None, None], tf.bool)
    return tf.map_fn(decode, encoded, fn_output_signature=specs)


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
