"""Relief: heights over a plane, and where rays meet them.

The heights are a sum of waves made of parabolas, cut off above and below and brought to zero at the
border. They are a formula, not a table, so that a ray meets them exactly.
"""

from typing import NamedTuple

import tensorflow as tf

WAVES = 4
"""Number of waves that are added."""

# Equal steps along the part of a ray that can meet the relief, then halvings of the first step that
# crosses it, then false positions (Policarpo et al., "Real-time relief mapping on arbitrary
# polygonal surfaces", 2005).
_STEPS, _HALVINGS, _SECANTS = 24, 4, 4
# Where a ray that runs along the plane is held to meet it.
_FAR = 1e3


class Relief(NamedTuple):
    """Heights 0..`height` over the plane (u, v), towards w.

    Attributes:
        height: [batch], 0 where there is none.
        waves: [batch, WAVES, 3]: periods along u and v, per unit, and phase.
        amplitudes: [batch, WAVES].
        extent: [batch, 2]: it reaches over -extent..extent.
    """

    height: tf.Tensor
    waves: tf.Tensor
    amplitudes: tf.Tensor
    extent: tf.Tensor


def heights(relief: Relief, u, v) -> tf.Tensor:
    """Returns the heights at positions [batch, height, width]."""
    total = 0.5
    for number in range(WAVES):
        along_u, along_v, phase = (
            _each(part) for part in tf.unstack(relief.waves[:, number], axis=-1)
        )
        position = along_u * u + along_v * v + phase
        # Two parabolas a period, which join smoothly.
        offset = position - tf.floor(position) - 0.5
        total += _each(relief.amplitudes[:, number]) * offset * (8.0 - 16.0 * tf.abs(offset))
    border = 1.0
    for position, extent in zip((u, v), tf.unstack(relief.extent, axis=-1), strict=True):
        border *= tf.maximum(1.0 - (position / _each(extent)) ** 2, 0.0)
    # A plateau, which ends steeply.
    border = tf.minimum(4.0 * border, 1.0)
    return _each(relief.height) * border * tf.clip_by_value(total, 0.0, 1.0)


def meet(relief: Relief, start, direction, flat) -> tf.Tensor:
    """Finds where rays first meet the relief or the plane that it stands on.

    Args:
        relief: of each image.
        start: [batch, 3], where the rays begin, (u, v, w). Those from below the plane meet it flat.
        direction: three float32 [batch, height, width].
        flat: likewise, where each ray meets the plane, in units of its direction; not positive or
            very large where it does not.

    Returns:
        float32 [batch, height, width], in units of the direction; `flat` where no relief is met.
    """
    origin = [_each(part) for part in tf.unstack(start, axis=-1)]
    first, last = tf.zeros_like(flat), tf.where(flat > 0.0, flat, _FAR)
    bounds = [(-_each(e), _each(e)) for e in tf.unstack(relief.extent, axis=-1)]
    for begin, along, (low, high) in zip(
        origin, direction, [*bounds, (0.0, _each(relief.height))], strict=True
    ):
        along = tf.where(tf.abs(along) < 1e-9, 1e-9, along)
        ends = (low - begin) / along, (high - begin) / along
        first = tf.maximum(first, tf.minimum(*ends))
        last = tf.minimum(last, tf.maximum(*ends))
    possible = (first < last) & (origin[2] > 0.0)
    first, last = tf.where(possible, first, 0.0), tf.where(possible, last, 0.0)

    def above(distance):
        """Returns how far a ray is above the relief after a distance."""
        u, v, w = (begin + distance * along for begin, along in zip(origin, direction, strict=True))
        return w - heights(relief, u, v)

    step = (last - first) / _STEPS

    def advance(number, low, found):
        at = first + step * tf.cast(number, tf.float32)
        found |= above(at) <= 0.0
        return number + 1, tf.where(found, low, at), found

    number = tf.constant(1)
    _, low, found = tf.while_loop(
        lambda number, *_: number <= _STEPS, advance, (number, first, tf.zeros_like(possible))
    )
    return tf.where(found & possible, _root(above, low, low + step), flat)


def _root(above, low, high) -> tf.Tensor:
    """Returns where `above` falls to zero between two ends."""

    def halve(number, low, high):
        middle = 0.5 * (low + high)
        below = above(middle) <= 0.0
        return number + 1, tf.where(below, low, middle), tf.where(below, middle, high)

    _, low, high = tf.while_loop(lambda number, *_: number < _HALVINGS, halve, (0, low, high))

    def interpolate(number, low, high, value_low, value_high):
        share = value_low / tf.maximum(value_low - value_high, 1e-9)
        at = low + share * (high - low)
        value = above(at)
        below = value <= 0.0
        return (
            number + 1,
            tf.where(below, low, at),
            tf.where(below, at, high),
            tf.where(below, value_low, value),
            tf.where(below, value, value_high),
        )

    ends = (0, low, high, above(low), above(high))
    _, low, high, value_low, value_high = tf.while_loop(
        lambda number, *_: number < _SECANTS, interpolate, ends
    )
    share = value_low / tf.maximum(value_low - value_high, 1e-9)
    return low + share * (high - low)


def _each(values) -> tf.Tensor:
    return values[:, None, None]
