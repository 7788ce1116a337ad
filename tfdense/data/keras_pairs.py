"""Pairs in the form in which Keras models take them: for `fit`, `evaluate` and `predict`."""

import dataclasses
import numbers
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

from tfdense.data.photo_sources import given_photos
from tfdense.data.photos import split_photos
from tfdense.data.pipeline import training_pairs, validation_pairs
from tfdense.data_config import DataConfig
from tfdense.errors import InputError, shown

# As of `DataConfig`.
_SMALLEST_SIDE = 32


def pairs(
    photos: str | Path | Iterable | None = None,
    batch_size: int = 8,
    size: int | None = None,
    count: int | None = None,
    seed: int = 0,
    config: DataConfig | None = None,
) -> tf.data.Dataset:
    """Makes pairs of photos for `fit`, `evaluate` and `predict`: random warps with known flow.

    Args:
        photos: a folder, searched recursively, of image files in whatever sub-folders, as
            `keras.utils.image_dataset_from_directory` takes it, and of TFRecord files of encoded
            images, or one such file; or an iterable of arrays in 0..255, as that function's dataset
            is one, which is read into memory, whole. None takes the bundled photos.
        batch_size: pairs in a batch.
        size: height and width of the images, in px, which the network's stride must divide.
        count: None makes an endless stream for training: `fit` is told ``steps_per_epoch``. A
            number makes so many pairs of held-out photos, the same each time.
        seed: of every random choice.
        config: the ranges, where the default ones do not suit.

    Returns:
        Dataset of ({"source", "target"}: float32 [batch, size, size, 3], RGB in 0..255;
        {"flow": [batch, size, size, 2], in px, from target to source, "mask" and "unmatched":
        [batch, size, size], 1 where the flow is valid, and where there is no match to be seen}).

    Raises:
        InputError: if the folder does not exist or holds no usable image, or an argument is none of
            these.
    """
    config = DataConfig() if config is None else config
    if not isinstance(config, DataConfig):
        raise InputError(f"Expected a DataConfig as `config`. Received: {shown(config)}")
    if size is not None:
        config = dataclasses.replace(config, size=_whole("size", size, _SMALLEST_SIDE))
    batch_size, seed = _whole("batch_size", batch_size, 1), _whole("seed", seed, 0)
    count = None if count is None else _whole("count", count, 1)
    given = None
    is_empty = isinstance(photos, str) and not photos
    if is_empty or not isinstance(photos, str | Path | Iterable | None):
        raise InputError(
            f"Expected `photos` to be a folder or an iterable of arrays. Received: {shown(photos)}"
        )
    if isinstance(photos, str | Path):
        config = dataclasses.replace(config, photos=str(photos))
    elif photos is not None:
        given = split_photos(given_photos(photos), config)[count is not None]
    if count is None:
        dataset = training_pairs(config, batch_size, seed, photos=given)
    else:
        dataset = validation_pairs(config, batch_size, count, seed, given)
    return dataset.map(_inputs_and_truth)


def _whole(name: str, value, least: int) -> int:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise InputError(
            f"Expected `{name}` to be a whole number of at least {least}. Received: {shown(value)}"
        )
    return int(value)


def _inputs_and_truth(pairs: dict) -> tuple[dict, dict]:
    return (
        {name: pairs[name] for name in ("source", "target")},
        {name: pairs[name] for name in ("flow", "mask", "unmatched")},
    )
