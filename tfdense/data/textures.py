"""Textures: images that are sampled anywhere, with as much detail as the pixels there can hold.

Four bytes of a pixel travel as one word, so that a neighbour is one read. Where a pixel of the
result covers more than a pixel of the texture, a copy reduced to a half or a quarter is read.
"""

from typing import NamedTuple

import tensorflow as tf

LEVELS = 3
"""Number of copies, each half as large as the one before."""

# From these areas on, in pixels of the texture to one of the result, the next copy is read: its
# scale is then the nearer one.
_AREAS = (2.0, 8.0)


class Texture(NamedTuple):
    """Images with their reduced copies.

    Attributes:
        words: int32 [count, all pixels of all copies], four bytes each.
        side: height and width of the largest copy, in pixels.
    """

    words: tf.Tensor
    side: int


def texture(images) -> Texture:
    """Prepares images for sampling.

    Args:
        images: uint8 [count, side, side, 3 or 4]; the side is a multiple of 4.
    """
    count, side, _, channels = images.shape
    if channels == 3:
        opaque = tf.fill([count, side, side, 1], tf.constant(255, tf.uint8))
        images = tf.concat([images, opaque], axis=-1)
    copies = [images]
    for _ in range(LEVELS - 1):
        half = side >> len(copies)
        boxes = tf.reshape(tf.cast(copies[-1], tf.float32), [count, half, 2, half, 2, 4])
        mean = tf.reduce_mean(boxes, axis=(2, 4))
        copies.append(tf.cast(tf.round(mean), tf.uint8))
    flat = [tf.reshape(tf.bitcast(copy, tf.int32), [count, -1]) for copy in copies]
    return Texture(tf.concat(flat, axis=1), side)


def sample(source: Texture, x, y, area) -> tf.Tensor:
    """Samples textures, bilinear, pixel centres at integers; beyond the border it goes on.

    Args:
        source: the textures.
        x, y: float32 [n, height, width], positions in pixels of the largest copy; n is a multiple
            of the number of textures, which are taken in turn.
        area: float32, of the same shape or one that broadcasts: how many pixels of the texture one
            of the result covers.

    Returns:
        float32 [n, 4, height, width], 0..255.
    """
    count, length = source.words.shape
    level = tf.add_n([tf.cast(area > limit, tf.int32) for limit in _AREAS])
    side = tf.bitwise.right_shift(source.side, level)
    scale = tf.cast(side, tf.float32) / source.side
    last = tf.cast(side - 1, tf.float32)
    x, y = (tf.clip_by_value((p + 0.5) * scale - 0.5, 0.0, last) for p in (x, y))
    # On the last pixel too there is a neighbour beyond the corner, with no weight.
    left, top = (tf.minimum(tf.floor(p), last - 1.0) for p in (x, y))
    right, bottom = x - left, y - top
    begin = tf.where(level > 0, source.side**2, 0) + tf.where(level > 1, source.side**2 // 4, 0)
    number = tf.range(x.shape[0])[:, None, None] % count
    first = number * length + begin
    first += tf.cast(top, tf.int32) * side + tf.cast(left, tf.int32)
    words = tf.reshape(source.words, [-1])
    corners = [tf.gather(words, first + step) for step in (0, 1, side, side + 1)]

    def channel(number):
        values = [
            tf.cast(
                tf.bitwise.bitwise_and(tf.bitwise.right_shift(word, 8 * number), 255), tf.float32
            )
            for word in corners
        ]
        above = values[0] + right * (values[1] - values[0])
        below = values[2] + right * (values[3] - values[2])
        return above + bottom * (below - above)

    return tf.stack([channel(number) for number in range(4)], axis=1)


def mirrored(position, side: int) -> tf.Tensor:
    """Moves positions beyond the outermost pixels inside, as if mirror images stood there."""
    last = side - 1.0
    return last - tf.abs(last - tf.math.floormod(position, 2.0 * last))
