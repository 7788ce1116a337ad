"""Pairs that are made from any folder of photos, with a fixed seed."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.pairs import EvaluationPair, UnreadPair, dense_pair
from tfdense.images import find_images, read_image
from tfdense.startup import import_tensorflow

_LARGEST_COUNT, _SEED = 100, 0
# Confidence is smooth: of the pixels of unrelated photos, every fourth row and column will do.
_STEP = 4


def synthetic_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields 100 random warps of the photos below a folder, as validation during training does.

    Pixels whose match lies outside the source or is hidden in it are known to have none.
    """
    # TensorFlow is loaded for this data set only.
    import_tensorflow()
    from tfdense.data import validation_pairs
    from tfdense.data_config import DataConfig

    config = DataConfig(validation_photos=str(folder))
    batches = validation_pairs(config, 1, _LARGEST_COUNT, _SEED)
    for number, batch in enumerate(batches.as_numpy_iterator()):
        yield UnreadPair(str(number), partial(_synthetic_pair, str(number), batch))


def _synthetic_pair(name: str, batch: dict[str, np.ndarray]) -> EvaluationPair:
    source, target = (np.round(batch[k][0]).astype(np.uint8) for k in ("source", "target"))
    pair = dense_pair(name, source, target, batch["flow"][0], batch["mask"][0] > 0)
    rows, columns = np.nonzero(batch["unmatched"][0])
    return dataclasses.replace(pair, unmatched=np.stack([columns, rows], axis=-1))


def unrelated_pairs(folder: Path) -> Iterator[UnreadPair]:
    """Yields pairs of different photos below a folder, in which nothing matches; 100 at most.

    Each photo is the source of one pair and the target of another.

    Raises:
        InputError: if there is only one photo.
    """
    paths = find_images(folder)
    if len(paths) < 2:
        raise InputError(f"{folder} holds one image. Expected two or more, of different things.")
    order = np.random.default_rng(_SEED).permutation(len(paths))[:_LARGEST_COUNT]
    for first, second in zip(order, np.roll(order, -1), strict=True):
        pair = paths[first], paths[second]
        names = (path.relative_to(folder).with_suffix("") for path in pair)
        name = "-".join(name.as_posix() for name in names)
        yield UnreadPair(name, partial(_unrelated_pair, name, *pair))


def _unrelated_pair(name: str, source: Path, target: Path) -> EvaluationPair:
    images = read_image(source), read_image(target)
    rows, columns = np.mgrid[: images[1].shape[0] : _STEP, : images[1].shape[1] : _STEP]
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=-1)
    nothing = np.empty((0, 2))
    return EvaluationPair(name, *images, nothing, nothing, unmatched=pixels)
