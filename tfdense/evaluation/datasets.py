"""All data sets of the evaluation: the stored ones, and pairs that are made of photos."""

from collections.abc import Iterator
from pathlib import Path

from tfdense.evaluation.pairs import EvaluationPair, UnreadPair
from tfdense.evaluation.photo_pairs import synthetic_pairs, unrelated_pairs
from tfdense.evaluation.readers import STORED, Dataset, find

DATASETS = {
    **STORED,
    "synthetic": Dataset(synthetic_pairs, "**/*", "any folder of photos", any_photo=True),
    "unrelated": Dataset(
        unrelated_pairs, "**/*", "any folder of photos that show different things", any_photo=True
    ),
}


def find_pairs(name: str, folder: str | Path) -> Iterator[UnreadPair]:
    """Checks the folder of a data set and lists its pairs, see `tfdense.evaluation.readers.find`.

    Args:
        name: a key of `DATASETS`.
        folder: where the data set is.
    """
    return find(DATASETS, name, folder)


def read_pairs(name: str, folder: str | Path) -> Iterator[EvaluationPair]:
    """Reads the pairs that `find_pairs` lists, up to the first that is broken.

    Raises:
        InputError: as `find_pairs`; while iterating, if a file is missing or broken.
    """
    pairs = (pair.read() for pair in find_pairs(name, folder))
    return (pair for pair in pairs if pair is not None)
