"""What an exported network computes: functions of a model and two batches of images."""

from collections.abc import Callable

import keras
import tensorflow as tf

from tfdense.exporting.encoded import decode_upright
from tfdense.exporting.metadata import RADIUS
from tfdense.geometry import pixel_grid, resize_bilinear, spatial_size


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
    have one size, and all targets; any other is refused.

    Args:
        match: of two batches of images.
        source, target: strings [batch].

    Returns:
        As `match`.
    """
    return match(_decode(source, "source"), _decode(target, "target"))


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


def _decode(encoded, name: str) -> tf.Tensor:
    """Decodes strings [batch] to uint8 [batch, height, width, 3]."""
    size = tf.shape(decode_upright(encoded[0])[0])

    def decode(one):
        image, _ = decode_upright(one)
        message = f"the images of {name} differ in size within the batch"
        return _checked(image, tf.shape(image), size, message)

    return tf.map_fn(decode, encoded, fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8))
