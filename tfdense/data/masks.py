"""Which pixels of the target have a match that can be seen, by what stands where in both images.

A *layer* is 0 for the photo, 1, 2, .. for what stands before it, and -1 at a pixel that several
share.
"""

import tensorflow as tf

from tfdense.geometry import flow_to_map
from tfdense.ops import warping

# A match this close to a pixel's centre, in pixels, shows that pixel alone.
_ON_CENTRE = 1e-3


def visible(flow, source_layer, target_layer) -> tf.Tensor:
    """Tells where the match can be seen.

    Args:
        flow: float32 [batch, size, size, 2], of the foremost layer at each target pixel.
        source_layer, target_layer: int32 [batch, size, size].

    Returns:
        float32 [batch, size, size]: 1 where the target pixel shows one layer alone and its match
        lies in the source and shows the same layer, else 0.
    """
    return uncovered(flow, source_layer, target_layer) * _inside(flow)


def uncovered(flow, source_layer, target_layer) -> tf.Tensor:
    """Tells where nothing hides the match (the reprojection mask of PDC-Net+).

    Returns:
        float32 [batch, size, size]: like `visible`, and 1 too where the target pixel shows the
        photo alone and its match lies outside the source.
    """
    x, y = tf.unstack(flow_to_map(flow), axis=-1)
    left, right = tf.floor(x + _ON_CENTRE), tf.math.ceil(x - _ON_CENTRE)
    top, bottom = tf.floor(y + _ON_CENTRE), tf.math.ceil(y - _ON_CENTRE)
    same = target_layer >= 0
    for column in (left, right):
        for row in (top, bottom):
            same &= _look_up(source_layer, column, row) == target_layer
    return tf.cast(same, tf.float32)


def unmatched(flow, source_layer, target_layer) -> tf.Tensor:
    """Tells where there is no match to be seen.

    Returns:
        float32 [batch, size, size]: 1 where the match lies outside the source, or behind something
        else there, else 0. Pixels that several layers share, here or there, count as neither
        matched nor unmatched.
    """
    x, y = tf.unstack(tf.round(flow_to_map(flow)), axis=-1)
    last = flow.shape[1] - 1.0
    x, y = tf.clip_by_value(x, 0.0, last), tf.clip_by_value(y, 0.0, last)
    there = _look_up(source_layer, x, y)
    hidden = (target_layer >= 0) & (there >= 0) & (there != target_layer)
    return tf.cast((_inside(flow) == 0) | hidden, tf.float32)


def everywhere(flow, source_layer, target_layer) -> tf.Tensor:
    """Returns ones, float32 [batch, size, size]: all flow counts (PDC-Net)."""
    return tf.ones_like(flow[..., 0])


def _inside(flow) -> tf.Tensor:
    return warping.inside(flow, *flow.shape[1:3])


def _look_up(layer, x, y) -> tf.Tensor:
    """Returns the layers at whole positions [batch, height, width]; outside there is the photo."""
    count, height, width = layer.shape
    x, y = (
        tf.cast(tf.clip_by_value(p, -1.0, float(s)), tf.int32) for p, s in ((x, width), (y, height))
    )
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    index = (tf.range(count)[:, None, None] * height + tf.clip_by_value(y, 0, height - 1)) * width
    index += tf.clip_by_value(x, 0, width - 1)
    return tf.where(inside, tf.gather(tf.reshape(layer, [-1]), index), 0)
