"""What changes of appearance are built of.

Images are planes of one colour each, [batch, channels, height, width].
"""

import math

import tensorflow as tf

from tfdense.data import draws
from tfdense.data.conditions import where_any

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R BT.601."""

# Nodes along a side of the waves of a random field, each half as high as the one before.
_OCTAVES = (3, 6, 12)


def each(values) -> tf.Tensor:
    """Gives a number for each image [batch] the axes of the images."""
    return values[:, None, None, None]


def luma(planes) -> tf.Tensor:
    """Returns the luma [batch, 1, height, width] of images [batch, 3, height, width]."""
    return mix(planes, tf.constant([LUMA]))


def mix(planes, weights) -> tf.Tensor:
    """Returns weighted sums [batch, 1, height, width] of the colours.

    Args:
        planes: float32 [batch, 3, height, width].
        weights: [batch or 1, 3].
    """
    return sum(each(weights[:, i]) * planes[:, i : i + 1] for i in range(3))


def mean(planes) -> tf.Tensor:
    """Returns the mean of each image, with the axes of the images."""
    return tf.reduce_mean(planes, axis=[1, 2, 3], keepdims=True)


def blur(planes, deviation, largest_deviation) -> tf.Tensor:
    """Blurs images with a Gaussian, mirrored at the borders.

    Args:
        planes: float32 [batch, channels, height, width].
        deviation: of the Gaussian, in pixels, [batch].
        largest_deviation: number that bounds it: the kernel reaches three times as far.
    """
    height, width = planes.shape[2:]
    radius = min(math.ceil(3 * largest_deviation), min(height, width) - 1)
    distance = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernel = tf.exp(-0.5 * (distance / tf.maximum(deviation, 1e-3)[:, None]) ** 2)
    kernel /= tf.reduce_sum(kernel, axis=1, keepdims=True)
    weights = [each(weight) for weight in tf.unstack(kernel, axis=1)]
    edge, none = [radius, radius], [0, 0]
    padded = tf.pad(planes, [none, none, edge, none], "REFLECT")
    planes = sum(weight * padded[:, :, i : i + height] for i, weight in enumerate(weights))
    padded = tf.pad(planes, [none, none, none, edge], "REFLECT")
    return sum(weight * padded[..., i : i + width] for i, weight in enumerate(weights))


def smoothed(planes, nodes: int) -> tf.Tensor:
    """Returns what of images is as wide as a node: means around nodes, interpolated between them.

    Args:
        planes: float32 [batch, channels, height, width].
        nodes: their number along each side; the cost does not grow with the width.
    """
    rows, columns = (_interpolation(side, nodes) for side in planes.shape[2:])
    means = [matrix / tf.reduce_sum(matrix, axis=0) for matrix in (rows, columns)]
    coarse = tf.einsum("bcyx,yi,xj->bcij", planes, *means)
    return tf.einsum("bcij,yi,xj->bcyx", coarse, rows, columns)


def random_field(seeds, height: int, width: int) -> tf.Tensor:
    """Draws smooth fields of wide and narrower waves, about of mean 0 and deviation 1.

    Args:
        seeds: [batch, 2].
        height, width: of the result [batch, 1, height, width].
    """
    field, variance = 0.0, 0.0
    for octave, (nodes, own) in enumerate(
        zip(_OCTAVES, draws.split(seeds, len(_OCTAVES)), strict=True)
    ):
        rows, columns = (_interpolation(side, nodes) for side in (height, width))
        noise = draws.normal(own, [nodes, nodes]) * 0.5**octave
        field += tf.einsum("bij,yi,xj->byx", noise, rows, columns)
        variance += 0.25**octave * tf.reduce_mean(rows**2) * tf.reduce_mean(columns**2) * nodes**2
    return (field / tf.sqrt(variance))[:, None]


def bumps(centres, radii, strengths, height: int, width: int) -> tf.Tensor:
    """Sums Gaussian bumps.

    Args:
        centres: [batch, count, 2], (x, y), 0..1 over the image.
        radii: standard deviations, as share of the width, [batch, count].
        strengths: of the bumps' tops, [batch, count].
        height, width: of the result [batch, 1, height, width].
    """
    x = (tf.range(width, dtype=tf.float32) + 0.5) / width - centres[..., :1]
    y = (tf.range(height, dtype=tf.float32) + 0.5)[:, None] / height - centres[..., None, 1:]
    y = y[..., 0] * (height / width)
    across, down = (tf.exp(-0.5 * (d / radii[..., None]) ** 2) for d in (x, y))
    return tf.matmul(down * strengths[..., None], across, transpose_a=True)[:, None]


def look_up(planes, tables) -> tf.Tensor:
    """Maps grey levels by tables, linear between their entries.

    Args:
        planes: float32 [batch, channels, height, width], 0..255.
        tables: float32 [batch, channels, entries], at levels spread evenly over 0..255.
    """
    entries = tables.shape[-1]
    position = tf.clip_by_value(planes * ((entries - 1) / 255.0), 0.0, entries - 1.0)
    first = tf.minimum(tf.floor(position), entries - 2.0)
    number = tf.reshape(tf.range(tf.size(tables) // entries), [-1, planes.shape[1], 1, 1])
    index = tf.cast(first, tf.int32) + number * entries
    flat = tf.reshape(tables, [-1])
    low, high = tf.gather(flat, index), tf.gather(flat, index + 1)
    return low + (position - first) * (high - low)


def where_chosen(chosen, change, planes, *arguments) -> tf.Tensor:
    """Changes the images that are chosen, and keeps their range."""

    def changed():
        image = tf.clip_by_value(change(planes, *arguments), 0.0, 255.0)
        return tf.where(each(chosen), image, planes)

    return where_any(chosen, changed, planes)


def smoothstep(x, low, high) -> tf.Tensor:
    """Rises from 0 at `low` to 1 at `high`, level at both."""
    share = tf.clip_by_value((x - low) / (high - low), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def _interpolation(side: int, nodes: int) -> tf.Tensor:
    """Returns the weights [side, nodes] of nodes at a side's pixels: cubic B-splines, sum 1."""
    position = (tf.range(side, dtype=tf.float32)[:, None] + 0.5) / side * (nodes - 1)
    distance = tf.abs(position - tf.range(nodes, dtype=tf.float32))
    near = 4.0 - 6.0 * distance**2 + 3.0 * distance**3
    far = tf.maximum(2.0 - distance, 0.0) ** 3
    weights = tf.where(distance < 1.0, near, far)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)
