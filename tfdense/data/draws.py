"""Random numbers as pure functions of seeds: many streams in one call, the same on every device.

TensorFlow's stateless generators take one seed a call. Here a batch of seeds gives a batch of
numbers, by integer arithmetic alone: a hash of the counter, keyed by the seed. It needs no loop
over the batch, and a pair does not depend on the batch that it is in.
"""

import tensorflow as tf

# The finaliser "lowbias32" of Chris Wellons' hash prospector, and the golden ratio in 32 bits.
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
_SHIFTS = (16, 15)
_GOLDEN = 0x9E3779B9


def bits(seeds, count: int) -> tf.Tensor:
    """Draws uniform integers.

    Args:
        seeds: int32 or uint32 [..., 2].
        count: how many from each seed.

    Returns:
        uint32 [..., count].
    """
    first, second = tf.unstack(tf.cast(seeds, tf.uint32)[..., None, :], axis=-1)
    counter = tf.cast(tf.range(count), tf.uint32) * _uint32(_GOLDEN)
    # Two keys: with one, close keys would give the same numbers, shifted.
    return _mix(tf.bitwise.bitwise_xor(_mix(counter + _mix(first)), second + _uint32(_GOLDEN)))


def split(seeds, count: int) -> list[tf.Tensor]:
    """Makes `count` independent seeds [..., 2] of each."""
    drawn = bits(seeds, 2 * count)
    return [drawn[..., 2 * i : 2 * i + 2] for i in range(count)]


def fold(seeds, number: int) -> tf.Tensor:
    """Makes another seed [..., 2] of each, apart from those of `split`."""
    return bits(seeds, 2) + tf.cast(number, tf.uint32) * _uint32(_GOLDEN)


def uniform(seeds, shape=(), low=0.0, high=1.0) -> tf.Tensor:
    """Draws float32 [..., *shape] from [low, high); seeds are [..., 2]."""
    count = tf.TensorShape(shape).num_elements()
    drawn = tf.cast(tf.bitwise.right_shift(bits(seeds, count), _uint32(8)), tf.float32)
    drawn = tf.reshape(drawn * 2.0**-24, [*seeds.shape[:-1], *shape])
    return low + (high - low) * drawn


def normal(seeds, shape=()) -> tf.Tensor:
    """Draws float32 [..., *shape] from the normal distribution; seeds are [..., 2]."""
    return tf.math.ndtri(uniform(seeds, shape, 2.0**-25, 1.0 + 2.0**-25))


def count(seeds, probability: float, bounds: tuple[int, int]) -> tf.Tensor:
    """Draws int32 [...], between two bounds with a probability, else 0; seeds are [..., 2]."""
    draw = uniform(seeds, [2])
    drawn = bounds[0] + tf.cast(draw[..., 0] * (bounds[1] - bounds[0] + 1), tf.int32)
    return tf.where(draw[..., 1] < probability, drawn, 0)


def _mix(x) -> tf.Tensor:
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=True):
        x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint32(shift))) * _uint32(
            multiplier
        )
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint32(16)))


def _uint32(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)
