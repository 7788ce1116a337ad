"""Batches of training pairs as a tf.data pipeline.

Pair number i is a function of (seed, i) and the files alone, so that the parallelism changes
nothing and a stream can be resumed at any step.
"""

import tensorflow as tf

from tfdense.data.megadepth import MegaDepth
from tfdense.data.megadepth_scenes import held_out
from tfdense.data.objects import Cutout, file_cutouts, shape_cutouts
from tfdense.data.pairs import random_pair, with_unrelated
from tfdense.data.photometry import random_photometry
from tfdense.data.photos import (
    ImageStore,
    cutout_decoder,
    photo_decoder,
    training_photos,
    validation_photos,
)
from tfdense.data.sequences import Sequences, random_frames
from tfdense.data_config import DataConfig
from tfdense.images import find_images

_TRAINING, _VALIDATION, _MEGADEPTH, _UNRELATED, _SEQUENCES = range(5)


def training_pairs(
    config: DataConfig, batch_size: int, seed: int, start_step: int = 0
) -> tf.data.Dataset:
    """Makes an endless stream of random training pairs: synthetic, of MegaDepth, of sequences.

    Args:
        config: the photos and the ranges.
        batch_size: pairs in a batch.
        seed: of every random choice.
        start_step: how many batches of the stream are left out at its beginning.

    Returns:
        Dataset of dicts: ``source``, ``target`` float32 [batch, size, size, 3], 0..255; ``flow``
        float32 [batch, size, size, 2], from target to source in pixels; ``mask`` float32
        [batch, size, size], 1 where the flow is ground truth; ``unmatched`` likewise, 1 where it is
        known that there is no match.

    Raises:
        InputError: if a folder does not exist or holds no usable image.
    """
    photos = ImageStore(training_photos(config), photo_decoder(config.size), channels=3)
    cutout = _cutouts(config, photos)
    warp = config.warp

    def make(number):
        strength = tf.constant(1.0)
        if warp.curriculum_steps:
            progress = tf.cast(number // batch_size, tf.float32) / warp.curriculum_steps
            grown = warp.curriculum_start + (1.0 - warp.curriculum_start) * progress
            strength = tf.minimum(grown, 1.0)
        photo = photos.read(_shuffled(number, len(photos), seed))
        pair_seed = _pair_seed(seed, _TRAINING, number)
        return random_pair(photo, pair_seed, config, cutout, strength, photometric=True)

    if config.megadepth.folder is not None:
        make = _mixed(make, _megadepth(config, seed), config.megadepth.share, seed, _MEGADEPTH)
    if config.sequences.folder is not None:
        make = _mixed(make, _sequences(config, seed), config.sequences.share, seed, _SEQUENCES)
    numbers = tf.data.Dataset.range(start_step * batch_size, tf.int64.max)
    batches = _map(numbers, make).batch(batch_size, drop_remainder=True)
    if config.unrelated and batch_size > 1:
        batches = batches.enumerate(start_step).map(
            lambda step, batch: with_unrelated(
                batch, _pair_seed(seed, _UNRELATED, step), config.unrelated
            )
        )
    return batches.prefetch(2)


def validation_pairs(config: DataConfig, batch_size: int, count: int, seed: int) -> tf.data.Dataset:
    """Makes random pairs of held-out photos, or of scenes of MegaDepth if such are held out.

    Args:
        config: the photos, the scenes and the ranges.
        batch_size: pairs in a batch; the last batch may have fewer.
        count: number of pairs in all.
        seed: of every random choice.

    Returns:
        Dataset like that of `training_pairs`, the same each time. Photos get no changes of colour
        unless `config.validation_photometry` says so.

    Raises:
        InputError: if a folder does not exist or holds no usable image.
    """
    if config.megadepth.validation_scene_list is not None:
        make = _real(MegaDepth(held_out(config.megadepth), config.size, seed))
    else:
        make = _held_out_photos(config, seed)
    return _map(tf.data.Dataset.range(count), make).batch(batch_size).prefetch(1)


def _held_out_photos(config: DataConfig, seed: int):
    photos = ImageStore(validation_photos(config), photo_decoder(config.size), channels=3)
    cutout = _cutouts(config, photos)

    def make(number):
        photo = photos.read(number % len(photos))
        pair_seed = _pair_seed(seed, _VALIDATION, number)
        photometric = config.validation_photometry
        return random_pair(photo, pair_seed, config, cutout, 1.0, photometric)

    return make


def _real(megadepth: MegaDepth):
    def make(number):
        pair = megadepth.read(number)
        return {**pair, "unmatched": tf.zeros_like(pair["mask"])}

    return make


def _map(numbers: tf.data.Dataset, make) -> tf.data.Dataset:
    # There is no Python control flow to convert, and looking for it takes seconds.
    make = tf.autograph.experimental.do_not_convert(make)
    return numbers.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _mixed(make, make_other, share: float, seed: int, stream: int):
    """Lets each pair be of another source by chance; that one is given two seeds too."""

    def mixed(number):
        chance, *seeds = tf.unstack(tf.random.split(_pair_seed(seed, stream, number), 3))
        other = tf.random.stateless_uniform([], chance) < share
        return tf.cond(other, lambda: make_other(number, seeds), lambda: make(number))

    return mixed


def _megadepth(config: DataConfig, seed: int):
    read = _real(MegaDepth(config.megadepth, config.size, seed))

    def make(number, seeds):
        pair = read(number)
        for name, photometry_seed in zip(("source", "target"), seeds, strict=True):
            pair[name] = random_photometry(pair[name], photometry_seed, config.photometry)
        return pair

    return make


def _sequences(config: DataConfig, seed: int):
    sequences = Sequences(config.sequences, config.size, seed)
    return lambda number, seeds: random_frames(*sequences.read(number), seeds, config)


def _cutouts(config: DataConfig, photos: ImageStore) -> Cutout:
    if config.objects.folder is None:
        return shape_cutouts(photos)
    longest_side = round(config.objects.size[1] * config.size)
    paths = find_images(config.objects.folder)
    return file_cutouts(ImageStore(paths, cutout_decoder(longest_side), channels=4))


def _pair_seed(seed: int, stream: int, number) -> tf.Tensor:
    return tf.random.fold_in(tf.constant([seed, stream], tf.int64), number)


def _shuffled(number, count: int, seed: int) -> tf.Tensor:
    """Returns the index of the photo of a pair: each epoch takes all photos in its own order."""
    count = tf.constant(count, tf.int64)
    epoch_seed = tf.stack([tf.constant(seed, tf.int64), number // count])
    return tf.random.experimental.index_shuffle(number % count, epoch_seed, count - 1)
