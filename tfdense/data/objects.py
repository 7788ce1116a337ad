"""Objects that move on their own in front of the photo.

The laws of motion are PDC-Net's ("Learning Accurate Dense Correspondences and When to Trust Them",
arXiv 2101.01710, section 3.4). Unlike there the mask leaves out all that is hidden in the source:
what an object covers there, be it photo or another object.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from tfdense.data import draws, matrices
from tfdense.data.canvases import MARGIN
from tfdense.data_config import ObjectConfig


class Objects(NamedTuple):
    """Flat things in front of the photo, from back to front.

    Attributes:
        to_cutout: [batch, count, 3, 3], from target pixels to those of the cut-out.
        motion: [batch, count, 3, 3], from target to source pixels.
        present: bool [batch, count].
    """

    to_cutout: tf.Tensor
    motion: tf.Tensor
    present: tf.Tensor


def random_objects(seeds, config: ObjectConfig, side: int, size: int) -> Objects:
    """Draws how many objects there are, how large, where in the target, and how they move.

    Args:
        seeds: [batch, 2].
        config: the ranges.
        side: of a cut-out, in pixels; see `tfdense.data.canvases`.
        size: height and width of the images, in pixels.
    """
    count_seeds, object_seeds = draws.split(seeds, 2)
    most = config.count[1]
    count = draws.count(count_seeds, config.probability, config.count)
    draw = draws.uniform(object_seeds, [most, 10])
    low, high = config.size
    length = tf.math.ceil(size * (low + (high - low) * draw[..., 0]))
    centre = draw[..., 1:3] * size
    signed = 2.0 * draw[..., 3:7] - 1.0
    anywhere = draw[..., 7:9] * size - centre
    nudged = draw[..., 9:] < config.nudge_probability
    shift = tf.where(nudged, signed[..., :2] * config.nudge, anywhere)
    angle = signed[..., 2] * math.radians(config.rotation)
    motion = object_motion(shift, angle, signed[..., 3] * config.log_scale, size, size)
    enlarged = ((side - 2.0 * MARGIN) / length)[..., None]
    linear = enlarged[..., None] * tf.eye(2)
    to_cutout = matrices.affine(linear, (side - 1) / 2 - enlarged * centre)
    return Objects(to_cutout, motion, tf.range(most) < count[:, None])


def object_motion(shift, angle, log_scale, height, width) -> tf.Tensor:
    """Returns an object's affine map: a shift, then a turn, then a change of size.

    Args:
        shift: [..., 2], (x, y) in pixels.
        angle: [...], in radians, counter-clockwise as seen, about the image's centre.
        log_scale: [...], logarithm of the factor; the point that stays is a quarter of the image's
            size.
        height, width: of the image.

    Returns:
        [..., 3, 3], target to source, in pixels.
    """
    centre = tf.constant([width / 2, height / 2])
    turn = matrices.rotation(-angle)
    scale = tf.exp(log_scale)[..., None]
    offset = tf.linalg.matvec(turn, shift - centre) + centre
    offset = scale * offset + (1.0 - scale) * tf.constant([0.25 * width, 0.25 * height])
    return matrices.affine(scale[..., None] * turn, offset)
