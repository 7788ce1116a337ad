"""Pairs of frames of videos, without ground truth.

Every folder that holds frames is a sequence, in the order of the numbers in their names: the folder
itself, its sub-folders (as DAVIS has them), and those below. A pair is a frame and one at most
`SequencesConfig.gap` frames before or after it.
"""

import functools
import re
from itertools import groupby
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdense.data.pairs import random_view
from tfdense.data.photometry import random_photometry
from tfdense.data.photos import ImageStore, largest_area, photo_decoder
from tfdense.data.sampling import sample_mirrored
from tfdense.data_config import DataConfig, SequencesConfig
from tfdense.errors import InputError
from tfdense.geometry import pixel_grid
from tfdense.images import find_images

_EPOCH, _PARTNER = 0, 1
# With few frames, most of them broken, it takes many draws to find two that can be used.
_ATTEMPTS = 100


class Sequences:
    """Random pairs of frames: which one number i is, is a function of (seed, i) and the files.

    Each epoch takes every frame once as the target, in its own order. A frame that cannot be used
    is named in a warning, and the next pair takes the place of its pairs.

    Args:
        config: the folder and the choice of pairs.
        size: height and width of the images of a pair, which frames are reduced for.
        seed: of every random choice.

    Raises:
        InputError: if there is no folder, no sequence of two frames in it, or no usable pair.
    """

    def __init__(self, config: SequencesConfig, size: int, seed: int):
        self._config = config
        self._seed = seed
        self._sequences = find_sequences(config.folder)
        paths = [path for sequence in self._sequences for path in sequence]
        self._frames = ImageStore(paths, photo_decoder(size), channels=3)
        # Of each frame: the first of its sequence, and the one after the last.
        lengths = [len(sequence) for sequence in self._sequences]
        ends = np.repeat(np.cumsum(lengths), lengths)
        self._bounds = np.column_stack([ends - np.repeat(lengths, lengths), ends])
        self._order = functools.lru_cache(maxsize=2)(self._draw_order)
        self.load(0)

    def __len__(self) -> int:
        """Returns the number of frames, which is that of the pairs in an epoch."""
        return len(self._frames)

    def read(self, number) -> tuple[tf.Tensor, tf.Tensor]:
        """Gives a pair to a TensorFlow graph, see `load`."""
        images = tf.numpy_function(self.load, [number], [tf.uint8] * 2, stateful=False)
        return tuple(tf.ensure_shape(image, [None, None, 3]) for image in images)

    def load(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the source and the target of a pair, uint8 [height, width, 3] of equal sizes."""
        for step in range(len(self) + _ATTEMPTS):
            source, target = (self._frames.load_file(i) for i in self.pair(int(number) + step))
            if source is not None and target is not None and source.shape == target.shape:
                return source, target
        raise InputError(
            f"No two frames of a sequence in {self._config.folder} can be used together: they "
            "cannot be read, or differ in size."
        )

    def pair(self, number: int) -> tuple[int, int]:
        """Returns the frames (source, target) of a pair, counted over all sequences."""
        epoch, place = divmod(number, len(self))
        target = self._order(epoch)[place]
        first, end = self._bounds[target]
        first, end = max(first, target - self._config.gap), min(end, target + self._config.gap + 1)
        draw = np.random.default_rng([self._seed, _PARTNER, number])
        source = draw.integers(first, end - 1)
        return int(source + (source >= target)), int(target)

    def _draw_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, _EPOCH, epoch]).permutation(len(self))


def random_frames(source, target, seeds, config: DataConfig) -> dict[str, tf.Tensor]:
    """Makes a training pair of two frames: cut out, scaled, mirrored and changed in colour alike.

    Where the cut-out lies and how large it is, `config.warp` says as for photos. The light changes
    in both frames by the same, or the photometric objective would have nothing to go by; the noise
    is each one's own.

    Args:
        source, target: uint8 [height, width, 3] of equal sizes.
        seeds: two seeds, int [2] each.
        config: the ranges.

    Returns:
        dict like that of `tfdense.data.pairs.random_pair`, without ground truth: ``flow``, ``mask``
        and ``unmatched`` are zero.
    """
    shape = (config.size, config.size)
    view_seed, noise_seed = tf.unstack(tf.random.split(seeds[0], 2))
    flow = tf.zeros([*shape, 2])
    view = random_view(view_seed, flow, tf.shape(target)[1::-1], config)
    positions = view.origin + view.scale * pixel_grid(*shape)
    images = [
        random_photometry(
            sample_mirrored(frame, positions, largest_area(config.size)),
            seeds[1],
            config.photometry,
            tf.random.fold_in(noise_seed, number),
        )
        for number, frame in enumerate((source, target))
    ]
    return {
        "source": images[0],
        "target": images[1],
        "flow": flow,
        "mask": tf.zeros(shape),
        "unmatched": tf.zeros(shape),
    }


def find_sequences(folder: str | Path) -> list[list[Path]]:
    """Lists the frames of each sequence in and below a folder, in their order.

    Raises:
        InputError: if the folder does not exist, or no folder in it holds two images.
    """
    paths = sorted(find_images(folder), key=lambda path: (path.parent, _natural(path.name)))
    sequences = [list(frames) for _, frames in groupby(paths, key=lambda path: path.parent)]
    long_enough = [frames for frames in sequences if len(frames) > 1]
    if not long_enough:
        raise InputError(
            f"No sequence in {folder}: expected sub-folders with at least two frames each. "
            f"Received: {len(paths)} images in {len(sequences)} folders."
        )
    return long_enough


def _natural(name: str) -> tuple:
    """Orders frame9 before frame10."""
    return tuple(
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    )
