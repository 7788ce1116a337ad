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

from tfdense.data import draws
from tfdense.data.appearance import random_appearance
from tfdense.data.cameras import random_view
from tfdense.data.canvases import square
from tfdense.data.photos import ImageStore, photo_decoder
from tfdense.data.surfaces import photo_scene
from tfdense.data.textures import texture
from tfdense.data_config import DataConfig, SequencesConfig
from tfdense.errors import InputError
from tfdense.images import find_images

_EPOCH, _PARTNER, _PLACE = range(3)
# With few frames, most of them broken, it takes many draws to find two that can be used.
_ATTEMPTS = 100


class Sequences:
    """Random pairs of frames: which one number i is, is a function of (seed, i) and the files.

    Each epoch takes every frame once as the target, in its own order. A frame that cannot be used
    is named in a warning, and the next pair takes the place of its pairs.

    Args:
        config: the folder and the choice of pairs.
        side: height and width of the canvases that frames are put on, in pixels.
        seed: of every random choice.

    Raises:
        InputError: if there is no folder, no sequence of two frames in it, or no usable pair.
    """

    def __init__(self, config: SequencesConfig, side: int, seed: int):
        self._config = config
        self._seed = seed
        self._side = side
        self._sequences = find_sequences(config.folder)
        paths = [path for sequence in self._sequences for path in sequence]
        self._frames = ImageStore(paths, photo_decoder(side))
        # Of each frame: the first of its sequence, and the one after the last.
        lengths = [len(sequence) for sequence in self._sequences]
        ends = np.repeat(np.cumsum(lengths), lengths)
        self._bounds = np.column_stack([ends - np.repeat(lengths, lengths), ends])
        self._order = functools.lru_cache(maxsize=2)(self._draw_order)
        self.load(0)

    def __len__(self) -> int:
        """Returns the number of frames, which is that of the pairs in an epoch."""
        return len(self._frames)

    def read(self, number) -> tf.Tensor:
        """Gives a pair to a TensorFlow graph, see `load`."""
        frames = tf.numpy_function(self.load, [number], tf.uint8, stateful=False)
        return tf.ensure_shape(frames, [2, self._side, self._side, 3])

    def load(self, number: int) -> np.ndarray:
        """Returns the source and the target of a pair, the same square of both frames.

        Returns:
            uint8 [2, side, side, 3].
        """
        place = np.random.default_rng([self._seed, _PLACE, int(number)]).random(2)
        for step in range(len(self) + _ATTEMPTS):
            source, target = (self._frames.load_file(i) for i in self.pair(int(number) + step))
            if source is not None and target is not None and source.shape == target.shape:
                return np.stack([square(f, place, self._side) for f in (source, target)])
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


def make_frames(frames, seeds, config: DataConfig) -> dict[str, tf.Tensor]:
    """Makes training pairs of two frames: cut out, scaled, mirrored and changed in colour alike.

    Where the cut-out lies and how large it is, `config.warp` says as for photos. The light changes
    in both frames by the same, or the photometric objective would have nothing to go by; the noise
    is each one's own.

    Args:
        frames: uint8 [batch, 2, side, side, 3], source and target.
        seeds: [batch, 2].
        config: the ranges.

    Returns:
        dict like that of `tfdense.data.assembly.make_pairs`, without ground truth: ``flow``,
        ``mask`` and ``unmatched`` are zero.
    """
    flow = tf.zeros([frames.shape[0], config.size, config.size, 2])
    view_seeds, light_seeds, *noise_seeds = draws.split(seeds, 4)
    view = random_view(view_seeds, flow, frames.shape[2], config.warp)

    def image(number):
        planes = photo_scene(texture(frames[:, number]), view, flow).source
        changed = random_appearance(planes, light_seeds, config.photometry, noise_seeds[number])
        return tf.transpose(changed, [0, 2, 3, 1])

    nowhere = tf.zeros(flow.shape[:3])
    return {
        "source": image(0),
        "target": image(1),
        "flow": flow,
        "mask": nowhere,
        "unmatched": nowhere,
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
