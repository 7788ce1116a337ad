"""Pairs of real images, read from files as they come up: in a new random order each epoch."""

import functools
import logging

import numpy as np
import tensorflow as tf

from tfdense.errors import InputError

_LOG = logging.getLogger(__name__)

# What keeps the draws of epochs and of pairs apart.
_EPOCH, _PAIR = 0, 1


class RealPairs:
    """Pairs of which number i is a function of (seed, i) and the files.

    A pair that cannot be read is named in a warning, and the next takes its place.

    Args:
        length: the number of pairs in an epoch.
        size: height and width of the images of a pair, in pixels.
        seed: of every random choice.
    """

    def __init__(self, length: int, size: int, seed: int):
        self._length = length
        self._size = size
        self._seed = seed
        self.epoch = functools.lru_cache(maxsize=2)(self._draw)

    def __len__(self) -> int:
        """Returns the number of pairs in an epoch."""
        return self._length

    def read(self, number) -> dict[str, tf.Tensor]:
        """Gives a pair to a TensorFlow graph, see `load`."""
        channels = {"source": [3], "target": [3], "flow": [2], "mask": [], "unmatched": []}

        def load(number):
            pair = self.load(number)
            return tuple(pair[name] for name in channels)

        values = tf.numpy_function(load, [number], [tf.float32] * len(channels), stateful=False)
        return {
            name: tf.ensure_shape(value, [self._size, self._size, *more])
            for (name, more), value in zip(channels.items(), values, strict=True)
        }

    def load(self, number: int) -> dict[str, np.ndarray]:
        """Returns a pair.

        Returns:
            dict: ``source``, ``target`` float32 [size, size, 3], 0..255; ``flow`` float32
            [size, size, 2]; ``mask`` float32 [size, size], 1 where the flow is ground truth;
            ``unmatched`` likewise, 1 where it is known that there is no match to be seen.
        """
        epoch, place = divmod(int(number), self._length)
        for step in range(self._length):
            pair = self.epoch(epoch)[(place + step) % self._length]
            draw = np.random.default_rng([self._seed, _PAIR, int(number)])
            try:
                return self._load_pair(pair, draw)
            except (InputError, OSError, KeyError) as error:
                _LOG.warning("Skipping a pair of %s: %s", self._origin(pair), error)
        raise InputError(f"None of the {self._length} pairs of {self._name} can be read.")

    def _draw(self, epoch: int) -> np.ndarray:
        return self._draw_epoch(np.random.default_rng([self._seed, _EPOCH, epoch]))


def scatter(target, flow, size: int, weights=1.0) -> tuple[np.ndarray, np.ndarray]:
    """Turns matches into a flow and its mask: each is that of the pixel nearest to it.

    Of several matches in a pixel the last one counts.

    Args:
        target: positions, [n, 2], in px of the result.
        flow: of them, [n, 2].
        size: height and width of the result.
        weights: what the mask is there, [n] or one for all.

    Returns:
        flow float32 [size, size, 2], mask float32 [size, size].
    """
    x, y = np.clip(np.rint(target), 0, size - 1).astype(int).T
    dense, mask = np.zeros([size, size, 2], np.float32), np.zeros([size, size], np.float32)
    dense[y, x], mask[y, x] = flow, weights
    return dense, mask
