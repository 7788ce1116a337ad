"""Which pairs of a collection are matched: those of a list, all of a folder, or similar ones."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdense.errors import InputError
from tfdense.images import find_images
from tfdense.text_files import read_lines

MANIFEST = "manifest.jsonl"
"""The name of the file in the folder of a job that says what is done."""

# Pairs are ordered by blocks of so many images by as many, so that what is kept of an image, which
# is not for ever, serves several of its pairs.
_BLOCK = 16
# So many neighbours in the list a worker gets at a time: they share images. And so many times each
# gets some, so that all end at much the same time.
_CHUNK, _SHARES = 16, 4


class NamedPair(NamedTuple):
    """Two images by the names that the list, or the folder, gives them."""

    source: str
    target: str


def read_list(path: str | Path) -> list[NamedPair]:
    """Reads a list of pairs: source and target on each line, apart by a tab or else by spaces.

    Empty lines and those that begin with # are passed over; a pair that recurs counts once.

    Raises:
        InputError: if there is no such file, it is not UTF-8, or a line holds no two names.
    """
    path = Path(path)
    pairs = []
    for number, line in enumerate(read_lines(path, "list of pairs"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        names = [name.strip() for name in (line.split("\t") if "\t" in line else line.split())]
        if len(names) != 2 or not all(names):
            raise InputError(
                f"{path}, line {number}: expected a source and a target, apart by a tab or, if "
                f"their names hold none, by spaces. Received: {line!r:.100}"
            )
        pairs.append(NamedPair(*names))
    if not pairs:
        raise InputError(f"{path} holds no pair.")
    return list(dict.fromkeys(pairs))


def names_in(folder: Path) -> list[str]:
    """Names the images below a folder, at least two, relative to it.

    What a job has written below it, whose folder has a manifest, is left out.
    """
    jobs = {path.parent for path in folder.rglob(MANIFEST)}
    names = [
        path.relative_to(folder).as_posix()
        for path in find_images(folder)
        if jobs.isdisjoint(path.parents)
    ]
    if len(names) < 2:
        alone = f"{names[0]} alone" if names else "none but results of tfdense"
        raise InputError(f"Expected at least two images. Received: {folder} with {alone}.")
    return names


def all_pairs(names: Sequence[str]) -> list[NamedPair]:
    """Returns each two of some images once, the earlier one as target."""
    return _ordered(names, zip(*np.triu_indices(len(names), 1), strict=True))


def nearest_pairs(names: Sequence[str], descriptors: np.ndarray, count: int) -> list[NamedPair]:
    """Returns each image with those whose descriptors are most like its own, each two once.

    Args:
        names: of the images.
        descriptors: of unit length, [images, channels].
        count: of others for each image.
    """
    similarity = descriptors @ descriptors.T
    np.fill_diagonal(similarity, -np.inf)
    count = min(count, len(names) - 1)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    found = {(min(i, j), max(i, j)) for i, row in enumerate(nearest) for j in row}
    return _ordered(names, found)


def chunks(pairs: Sequence[NamedPair], workers: int) -> list[Sequence[NamedPair]]:
    """Cuts a list into what one of some workers gets at a time."""
    size = max(1, min(_CHUNK, len(pairs) // (_SHARES * workers)))
    return [pairs[i : i + size] for i in range(0, len(pairs), size)]


def _ordered(names: Sequence[str], indices: Iterable[tuple[int, int]]) -> list[NamedPair]:
    """Returns pairs (target, source) of indices as names, block by block."""
    by_block = sorted(indices, key=lambda pair: (*(i // _BLOCK for i in pair), *pair))
    return [NamedPair(names[source], names[target]) for target, source in by_block]
