"""True flows: what has to fit them, their masks, other sizes, and flows where there is none."""

from collections.abc import Iterable

import tensorflow as tf

from tfdense.geometry import pixel_grid, resize_bilinear, resize_flow, spatial_size
from tfdense.ops.checks import check_shape

# Reciprocals of the plastic number and its square.
_PLASTIC_STEPS = (0.7548776662466927, 0.5698402909980532)


def check_ground_truth(y_true: dict, estimates: Iterable[dict], same_size: bool = False) -> None:
    """Makes sure that nothing would be broadcast where ground truth and estimates are compared.

    Args:
        y_true: {"flow", and maybe "mask" and "unmatched"}, as of `tfdense.losses.MixtureNLL`.
        estimates: each {"flow", and maybe "log_variance" and "logits"} on a grid of its own.
        same_size: whether the grid has to be the true flow's.

    Raises:
        ValueError: if the shapes, as far as they are known, do not fit.
    """
    flow = tf.TensorShape(y_true["flow"].shape)
    check_shape("the true flow", y_true["flow"], [None, None, None, 2])
    for name in ("mask", "unmatched"):
        if y_true.get(name) is not None:
            check_shape(f"`{name}`, one for each pixel of the true flow,", y_true[name], flow[:-1])
    size = flow[1:3] if same_size else [None, None]
    for estimate in estimates:
        check_shape("the estimated flow", estimate["flow"], [flow[0], *size, 2])
        grid = estimate["flow"].shape[:-1]
        for name in ("log_variance", "logits"):
            if name in estimate:
                check_shape(f"`{name}`", estimate[name], [*grid, None])


def without_invalid(flow, mask) -> tf.Tensor:
    """Returns a true flow with zeros where it is not valid.

    There it may be NaN, of which neither a mask nor a weight of 0 makes a gradient of 0.

    Args:
        flow: [batch, height, width, 2].
        mask: [batch, height, width], 1 or True where it is valid.
    """
    return tf.where((tf.cast(mask, tf.float32) > 0)[..., None], flow, 0.0)


def resize_ground_truth(flow, mask, size, rescale: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes a true flow and its mask; a pixel stays valid where all that made it was valid.

    Args:
        flow: [batch, height, width, 2].
        mask: [batch, height, width].
        size: (height, width) of the result.
        rescale: whether the flow's values become pixels of the new size.
    """
    resized = resize_flow(flow, size) if rescale else resize_bilinear(flow, size)
    return resized, resize_mask(tf.cast(mask, tf.float32), size)


def resize_mask(mask, size) -> tf.Tensor:
    """Resizes a mask [batch, height, width]: 1 where all that made a pixel was 1, else 0."""
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
