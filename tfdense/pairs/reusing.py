"""A network that remembers the features of the images it saw last.

An image is known again by its content at the size the network sees it, so that all modes profit,
whoever asks. The hash takes a millisecond for 640x480 px, the features fifty.
"""

import collections
import hashlib
import threading
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import tensorflow as tf

from tfdense.inference.backends import Backend, KerasBackend
from tfdense.inference.looks import Outputs
from tfdense.results.answers import check_answer

# Of a network's features, some 8 MiB for an image of 640x480 px.
_MOST_BYTES = 2**29


class RecentlyUsed:
    """Keeps values up to so many bytes in all; what was not used for longest goes first.

    Args:
        most_bytes: of all values. The one that was asked for last stays, whatever its size.
        size_of: returns the bytes of a value.
    """

    def __init__(self, most_bytes: int, size_of: Callable):
        self._most_bytes = most_bytes
        self._size_of = size_of
        self._values = collections.OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def get(self, key: Hashable, make: Callable):
        """Returns the value of a key; `make` makes the one that is not there."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        value = self._values[key]
        taken = sum(map(self._size_of, self._values.values()))
        while taken > self._most_bytes and len(self._values) > 1:
            taken -= self._size_of(self._values.popitem(last=False)[1])
        return value


def reusing(backend: Backend) -> Backend:
    """Returns a backend that computes features once, where that is possible, else the same."""
    return ReusingBackend(backend) if getattr(backend, "has_features", False) else backend


class ReusingBackend:
    """Runs a network of Keras and remembers the features of images.

    Threads may share it.

    Args:
        backend: runs the network.
        remembered: of another one whose network has the same features.
    """

    def __init__(self, backend: KerasBackend, remembered: RecentlyUsed | None = None):
        self._backend = backend
        self._remembered = remembered or RecentlyUsed(_MOST_BYTES, _bytes_of)
        self._lock = threading.Lock()
        self.mixture = backend.mixture
        self.working_size = backend.working_size

    @property
    def coarse(self) -> "ReusingBackend":
        """The same without the level at full resolution, which has the same features."""
        coarse = self._backend.coarse
        return self if coarse is self._backend else ReusingBackend(coarse, self._remembered)

    def run(self, source: np.ndarray, target: np.ndarray) -> Outputs:
        """Matches two images, see `tfdense.inference.backends.Backend.run`."""
        (outputs,) = self.run_many([source], [target])
        return outputs

    def run_many(
        self, sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]
    ) -> list[Outputs]:
        """Matches pairs of images, all of one working size, in one batch."""
        with self._lock:
            features = [self._features(image) for image in (*sources, *targets)]
        batches = features[: len(sources)], features[len(sources) :]
        answer = self._backend.match_features(*(_concatenated(batch) for batch in batches))
        outputs = [
            {name: values[i] for name, values in answer.items()} for i in range(len(sources))
        ]
        for each, target in zip(outputs, targets, strict=True):
            check_answer(each, target.shape[:2])
        return outputs

    def _features(self, image: np.ndarray):
        image = np.ascontiguousarray(image)
        key = image.shape, hashlib.blake2b(image, digest_size=16).digest()
        return self._remembered.get(key, lambda: self._backend.features(image[None]))


def _concatenated(features: Sequence):
    """Puts the features of single images together to those of a batch."""
    if len(features) == 1:
        return features[0]
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *features)


def _bytes_of(features) -> int:
    return sum(x.dtype.size * int(tf.size(x)) for x in tf.nest.flatten(features))
