"""Training pairs of what lies in a bundle: photos and cut-outs, chosen and warped on the device."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdense.config import Config
from tfdense.data import draws
from tfdense.data.assembly import make_pairs
from tfdense.data.canvases import Canvases, canvas_side, cutout_count, pair_seed, photo_count
from tfdense.data.photos import ImageStore, photo_decoder, training_photos
from tfdense.data.pipeline import warp_strength
from tfdense.data_config import SOURCES, WorldsConfig
from tfdense.errors import InputError

# Where there are fewer photos than this, there are as many cut-outs.
_LEAST_CUTOUTS = 128
# Beside the streams of `tfdense.data.pipeline`.
_BUNDLE = 100


class Pairs(NamedTuple):
    """What training pairs are made of.

    Attributes:
        arrays: by name; uint8 [count, height, width, 3] are photos, which the bundle compresses.
        make: of these as tensors, the number of the step, int64, and a configuration, a batch such
            as `tfdense.data.training_pairs` gives; in operations that XLA compiles.
    """

    arrays: dict[str, np.ndarray]
    make: Callable[[dict, tf.Tensor, Config], dict]


def bundled_pairs(config: Config) -> Pairs:
    """Reads photos and cut-outs.

    They are those of `tfdense.data.training_pairs`, but each photo has one canvas, cut out once and
    no larger than the photos are, and each pair draws its photo and its cut-outs independently of
    the others.

    Args:
        config: the experiment, at the largest size that is trained.

    Returns:
        ``data/photos`` uint8 [photos, side, side, 3], ``data/cutouts`` uint8 [cut-outs, side, side,
        3], multiplied by ``data/alpha`` uint8 [cut-outs, side, side, 1], and how to use them.

    Raises:
        InputError: if a folder has no usable image, or pairs of another kind are asked for.
    """
    for name in SOURCES:
        if getattr(config.data, name).folder is not None:
            raise InputError(f"A bundle holds photos only: leave out data.{name}.folder.")
    # Each photo has one canvas; a world draws several of them.
    one = dataclasses.replace(config.data, worlds=WorldsConfig())
    paths = training_photos(config.data)
    canvases = Canvases(paths, one, _side(paths, canvas_side(one)))
    photos, cutouts = [], []
    for number in range(max(len(canvases), _LEAST_CUTOUTS)):
        seed = pair_seed(config.seed, _BUNDLE, number)
        photo, own_cutouts = canvases.load(number % len(canvases), seed)
        if number < len(canvases):
            photos.append(photo)
        cutouts += list(own_cutouts[:1])
    arrays = {"data/photos": np.stack(photos)}
    if cutouts:
        colour, alpha = np.split(np.stack(cutouts), [3], axis=-1)
        arrays |= {"data/cutouts": np.ascontiguousarray(colour), "data/alpha": alpha}
    return Pairs(arrays, _make)


def _side(paths: list, most: int) -> int:
    """Returns the short side of the largest photo, a multiple of 4: more would hold no more."""
    photos = ImageStore(paths, photo_decoder(most))
    largest = max(min(photos.load(i).shape[:2]) for i in range(len(photos)))
    return min(4 * math.ceil(largest / 4), most)


def _make(arrays: dict, step, config: Config) -> dict:
    batch = config.train.batch_size
    numbers = tf.cast(step, tf.int32) * batch + tf.range(batch)
    seeds = tf.stack([numbers, tf.fill([batch], config.seed)], axis=-1)
    seeds, photo_seeds, cutout_seeds = draws.split(seeds, 3)
    photos = arrays["data/photos"]
    shape = [count] if (count := photo_count(config.data)) > 1 else []
    canvases = tf.gather(photos, _indices(photo_seeds, shape, photos.shape[0]))
    if "data/cutouts" in arrays:
        count = [cutout_count(config.data)]
        chosen = _indices(cutout_seeds, count, arrays["data/alpha"].shape[0])
        colour, alpha = (tf.gather(arrays[f"data/{name}"], chosen) for name in ("cutouts", "alpha"))
        # Compression brought some colour to what is transparent.
        cutouts = tf.concat([tf.minimum(colour, alpha), alpha], axis=-1)
    else:
        cutouts = tf.zeros([batch, 0, 1, 1, 4], tf.uint8)
    return make_pairs(canvases, cutouts, seeds, config.data, warp_strength(step, config.data))


def _indices(seeds, shape, count: int) -> tf.Tensor:
    return tf.cast(draws.uniform(seeds, shape, 0.0, float(count)), tf.int32)
