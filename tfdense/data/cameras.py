"""Where the camera looks: the view that an image of a pair takes of the photo."""

from typing import NamedTuple

import tensorflow as tf

from tfdense.data import draws
from tfdense.data_config import WarpConfig
from tfdense.geometry import flow_to_map


class View(NamedTuple):
    """Where the source lies in the photo: its pixel q shows the photo's ``origin + scale q``.

    Attributes:
        origin: [batch, 2], (x, y) in pixels of the photo.
        scale: [batch, 2], pixels of the photo to one of the source; negative in x if mirrored.
    """

    origin: tf.Tensor
    scale: tf.Tensor

    def position(self, x, y) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns where positions [batch, height, width] in the source lie in the photo."""
        origin, scale = (part[:, :, None, None] for part in self)
        return origin[:, 0] + scale[:, 0] * x, origin[:, 1] + scale[:, 1] * y


def random_view(seeds, flow, side: int, config: WarpConfig) -> View:
    """Places the source in the photo, so that the target stays in it too where possible.

    A target that does not fit shrinks the view down to the smallest one allowed; what still sticks
    out is centred.

    Args:
        seeds: [batch, 2].
        flow: float32 [batch, size, size, 2], from the target to the source.
        side: of the photo, in pixels.
        config: the ranges.
    """
    draw = draws.uniform(seeds, [4])
    last, end = side - 1.0, flow.shape[1] - 1.0
    smallest, largest = (share * last / end for share in config.view)
    mapping = flow_to_map(flow)
    # A few pixels far out shall not decide.
    first_seen = tf.maximum(tf.reduce_min(mapping, axis=[1, 2]), -0.75 * end)
    first_seen = tf.minimum(first_seen, 0.0)
    last_seen = tf.minimum(tf.reduce_max(mapping, axis=[1, 2]), 1.75 * end)
    last_seen = tf.maximum(last_seen, end)
    fitting = tf.reduce_min(last / (last_seen - first_seen), axis=-1)
    scale = smallest + (largest - smallest) * draw[:, 0]
    scale = tf.maximum(tf.minimum(scale, fitting), smallest)[:, None]
    lowest, highest = -scale * first_seen, last - scale * last_seen
    place = tf.where(highest >= lowest, draw[:, 1:3], 0.5)
    origin = lowest + place * (highest - lowest)
    origin = tf.clip_by_value(origin, 0.0, last - scale * end)
    mirror = tf.stack([draw[:, 3] < config.mirror, tf.zeros_like(draw[:, 3], tf.bool)], axis=-1)
    return View(
        tf.where(mirror, last - origin, origin),
        tf.where(mirror, -scale, scale),
    )
