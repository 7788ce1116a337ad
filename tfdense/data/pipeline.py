"""Batches of training pairs as a tf.data pipeline.

Pair number i is a function of (seed, i) and the files alone, so that the parallelism changes
nothing and a stream can be resumed at any step.
"""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import tensorflow as tf

from tfdense.data import draws
from tfdense.data.assembly import make_pairs, mixed, with_appearance
from tfdense.data.canvases import Canvases, canvas_side, pair_seed
from tfdense.data.megadepth import MegaDepth
from tfdense.data.megadepth_scenes import held_out
from tfdense.data.photos import training_photos, validation_photos
from tfdense.data.real_pairs import RealPairs
from tfdense.data.sequences import Sequences, make_frames
from tfdense.data.truth import training_truth, validation_truth
from tfdense.data_config import SOURCES, DataConfig
from tfdense.evaluation.layouts import LAYOUTS

_TRAINING, _VALIDATION, _FIRST_SOURCE = range(3)
# What `mixed` gives a pair of others: a histogram of the one before or after it, and the source of
# the one before, with the histogram that this has of the one before it.
_BEFORE, _AFTER = 2, 1


class Part(NamedTuple):
    """One of several equal parts of each batch, such as the worker of that number makes.

    Attributes:
        index: which, from 0.
        count: how many there are.
    """

    index: int
    count: int


WHOLE = Part(0, 1)


def training_pairs(
    config: DataConfig,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    photos: list | None = None,
    part: Part = WHOLE,
) -> tf.data.Dataset:
    """Makes an endless stream of random training pairs: warped photos, and `SOURCES` by share.

    Args:
        config: the photos and the ranges.
        batch_size: pairs in a batch.
        seed: of every random choice.
        start_step: how many batches of the stream are left out at its beginning.
        photos: to be made into pairs; None takes those that the configuration names.
        part: of each batch, which alone is made; the parts together are the batch, pair by pair.

    Returns:
        Dataset of dicts, see `tfdense.data.assembly.make_pairs`.

    Raises:
        InputError: if a folder does not exist or holds no usable image.
    """
    canvases = Canvases(training_photos(config) if photos is None else photos, config)
    synthetic = _one(make_pairs, config)

    def make(number):
        own_seed = _pair_seed(seed, _TRAINING, number)
        parts = canvases.read(_shuffled(number, len(canvases), seed), own_seed)
        return synthetic(*parts, own_seed, strength=warp_strength(number // batch_size, config))

    sources = _sources(config, seed)
    for source, share in zip(sources, nested_shares([s.share for s in sources]), strict=True):
        make = _mixed(make, source.make, share, seed, source.stream)
    size = batch_size // part.count
    before = min(_BEFORE, batch_size - size)
    made = size + before + min(_AFTER, batch_size - size - before)
    first = part.index * size - before

    def number_of(count):
        step, place = start_step + count // made, (first + count % made) % batch_size
        return step * batch_size + place

    numbers = tf.data.Dataset.range(tf.int64.max // batch_size).map(number_of)
    pairs = _map(numbers, lambda number: (make(number), _pair_seed(seed, _TRAINING, number)))

    def mixed_part(batch, seeds):
        batch = mixed(batch, seeds, config)
        return {name: values[before : before + size] for name, values in batch.items()}

    return pairs.batch(made, drop_remainder=True).map(mixed_part).prefetch(2)


def validation_pairs(
    config: DataConfig, batch_size: int, count: int, seed: int, photos: list | None = None
) -> tf.data.Dataset:
    """Makes random pairs of held-out photos, or real ones if such are held out.

    Real are the scenes of MegaDepth that the configuration reserves, or else those held out of its
    pairs with ground truth, of each of its groups by turns.

    Args:
        config: the photos, the scenes and the ranges.
        batch_size: pairs in a batch; the last batch may have fewer.
        count: number of pairs in all.
        seed: of every random choice.
        photos: as of `training_pairs`.

    Returns:
        Dataset like that of `training_pairs`, the same each time. Photos get no changes of colour
        unless `config.validation_photometry` says so.

    Raises:
        InputError: if a folder does not exist or holds no usable image.
    """
    numbers = tf.data.Dataset.range(count)
    if config.megadepth.validation_scene_list is not None:
        read = MegaDepth(held_out(config.megadepth), config.size, seed).read
        return _map(numbers, read).batch(batch_size).prefetch(1)
    if truth := validation_truth(config, seed):
        return _map(numbers, partial(_by_turns, truth)).batch(batch_size).prefetch(1)
    canvases = Canvases(validation_photos(config) if photos is None else photos, config)
    synthetic = _one(make_pairs, _for_validation(config))

    def make(number):
        own_seed = _pair_seed(seed, _VALIDATION, number)
        return synthetic(*canvases.read(number % len(canvases), own_seed), own_seed, strength=1.0)

    return _map(numbers, make).batch(batch_size).prefetch(1)


def _for_validation(config: DataConfig) -> DataConfig:
    photometry = config.photometry
    if not config.validation_photometry:
        photometry = dataclasses.replace(photometry, probability=0.0)
    return dataclasses.replace(config, photometry=photometry, unrelated=0.0)


@functools.cache
def _one(make, config: DataConfig):
    """Turns a function of batches into a compiled one of a single pair.

    On a CPU that is several times as fast: XLA makes loops of the many small operations on each
    pixel, the images of one pair fit its caches, and what the pair does not need is left out.
    """
    compiled = tf.function(make, jit_compile=True, autograph=False)

    def one(*parts, **rest):
        batch = tf.nest.map_structure(lambda part: part[None], parts)
        return tf.nest.map_structure(lambda part: part[0], compiled(*batch, config=config, **rest))

    return one


def _map(numbers: tf.data.Dataset, make) -> tf.data.Dataset:
    # There is no Python control flow to convert, and looking for it takes seconds.
    make = tf.autograph.experimental.do_not_convert(make)
    return numbers.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _mixed(make, make_other, share: float, seed: int, stream: int):
    """Lets each pair be of another source by chance; that one is given a seed too."""

    def mixed(number):
        chance, own_seed = draws.split(_pair_seed(seed, stream, number), 2)
        other = draws.uniform(chance) < share
        return tf.cond(other, lambda: make_other(number, own_seed), lambda: make(number))

    return mixed


def nested_shares(shares: list[float]) -> list[float]:
    """Returns how often each source replaces what is there, where they are mixed in one by one.

    The last one is asked first: of what it leaves, those before it take more than their share.
    """
    later, nested = sum(shares), []
    for share in shares:
        later -= share
        nested.append(min(share / (1.0 - later), 1.0) if share else 0.0)
    return nested


def _by_turns(groups: list[RealPairs], number):
    count = len(groups)
    reads = [partial(pairs.read, number // count) for pairs in groups]
    return tf.switch_case(tf.cast(number % count, tf.int32), reads)


class _Source(NamedTuple):
    """What pairs may be of beside warped photos: number and seed to a pair."""

    make: Callable
    share: float
    stream: int


def _sources(config: DataConfig, seed: int) -> list[_Source]:
    makers = {
        "megadepth": lambda: _relit(MegaDepth(config.megadepth, config.size, seed), config),
        "sequences": lambda: _sequences(config, seed),
        **{name: partial(_truth, name, config, seed) for name in LAYOUTS},
    }
    return [
        _Source(makers[name](), getattr(config, name).share, stream)
        for stream, name in enumerate(SOURCES, _FIRST_SOURCE)
        if getattr(config, name).folder is not None
    ]


def _truth(name: str, config: DataConfig, seed: int):
    return _relit(training_truth(name, config, seed), config)


def _relit(pairs: RealPairs, config: DataConfig):
    relit = _one(with_appearance, config)
    return lambda number, own_seed: relit(pairs.read(number), own_seed)


def _sequences(config: DataConfig, seed: int):
    sequences = Sequences(config.sequences, canvas_side(config), seed)
    make = _one(make_frames, config)
    return lambda number, own_seed: make(sequences.read(number), own_seed)


def warp_strength(step, config: DataConfig) -> tf.Tensor:
    """Returns how strong the warps of a training step are at most."""
    warp = config.warp
    if not warp.curriculum_steps:
        return tf.constant(1.0)
    progress = tf.cast(step, tf.float32) / warp.curriculum_steps
    return tf.minimum(warp.curriculum_start + (1.0 - warp.curriculum_start) * progress, 1.0)


def _pair_seed(seed: int, stream: int, number) -> tf.Tensor:
    drawn = tf.numpy_function(
        lambda number: pair_seed(seed, stream, number), [number], tf.int32, stateful=False
    )
    return tf.ensure_shape(drawn, [2])


def _shuffled(number, count: int, seed: int) -> tf.Tensor:
    """Returns the index of the photo of a pair: each epoch takes all photos in its own order."""
    count = tf.constant(count, tf.int64)
    epoch_seed = tf.stack([tf.constant(seed, tf.int64), number // count])
    return tf.random.experimental.index_shuffle(number % count, epoch_seed, count - 1)
