"""The results of a job: one file, or folder, for each pair, or files that gather all of them."""

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdense import formats
from tfdense.files import replacing
from tfdense.pairs.lists import NamedPair
from tfdense.results.match import Match
from tfdense.results.saving import save_compressed

_FOLDER = "pairs"
_LONGEST_STEM = 40


class Selection(NamedTuple):
    """What counts as matched.

    Attributes:
        threshold: the least confidence.
        count: of single matches, at most.
    """

    threshold: float
    count: int


def write_dense(match: Match, path: Path, selection: Selection) -> Path:
    """Writes flow, confidence and radius, see `tfdense.results.saving.save_compressed`."""
    path = _with_suffix(path)
    save_compressed(match, path)
    return path


def write_matches(match: Match, path: Path, selection: Selection) -> Path:
    """Writes the best single matches, spread over the target, see `Match.matches`."""
    source, target, confidence = match.matches(selection.count, selection.threshold)
    path = _with_suffix(path)
    with replacing(path) as temporary:
        np.savez(
            temporary, source=source, target=target, confidence=confidence, radius=match.radius
        )
    return path


def write_folder(match: Match, path: Path, selection: Selection) -> Path:
    """Writes what ``tfdense match`` does, pictures included."""
    match.save(path, selection.threshold)
    return path


_WRITERS: dict[str, Callable[[Match, Path, Selection], Path]] = {
    "dense": write_dense,
    "matches": write_matches,
    "folder": write_folder,
}
"""Each writes a match to a path, to which it may add a suffix, and returns where it wrote."""

FORMATS = (*_WRITERS, *formats.FORMATS)
"""The names of all forms, those that other programs read among them."""


class PairFiles:
    """Writes a file, or a folder, for each pair; several processes may do so at once.

    Args:
        folder: of the job.
        name: of a form of a job's own: dense, matches or folder.
        selection: what counts as matched.
    """

    def __init__(self, folder: Path, name: str, selection: Selection):
        self._folder, self._write, self._selection = folder, _WRITERS[name], selection

    def add(self, source: str, target: str, match: Match) -> list[Path]:
        """Writes the result of a pair, by the names of its images; returns the files."""
        path = self._folder / result_path(NamedPair(source, target))
        return [self._write(match, path, self._selection)]

    def close(self) -> None:
        """Does nothing: each file is complete."""


class GatheredPairs:
    """Writes all pairs to the same files; one process, and in it the thread that opened it, may.

    Args:
        folder: of the job.
        name: of `tfdense.formats.FORMATS`, one that gathers.
        selection: what counts as matched.

    Raises:
        InputError: if the folder holds something else by the files' names.
    """

    def __init__(self, folder: Path, name: str, selection: Selection):
        self._files = [folder / file for file in formats.FORMATS[name].files]
        self._writer = formats.open(name, folder, threshold=selection.threshold)

    def add(self, source: str, target: str, match: Match) -> list[Path]:
        """Writes a pair, unless a process that was killed before it could say so has done so."""
        if self._writer.has(source, target):
            return self._files
        return self._writer.add(source, target, match)

    def close(self) -> None:
        """Ends the writing."""
        self._writer.close()


def gathers(name: str) -> bool:
    """Whether a form has all pairs in the same files."""
    return name in formats.FORMATS and formats.FORMATS[name].gathers


def open_results(folder: Path, name: str, selection: Selection):
    """Opens what writes the results of a job.

    Args:
        folder: of the job.
        name: of `FORMATS`.
        selection: what counts as matched.

    Returns:
        An object with `add` and `close` as of `tfdense.formats.PairWriter`.
    """
    if gathers(name):
        return GatheredPairs(folder, name, selection)
    if name in formats.FORMATS:
        return formats.open(name, folder / _FOLDER, threshold=selection.threshold)
    return PairFiles(folder, name, selection)


def lost(folder: Path, name: str, pairs: Iterable[NamedPair]) -> set[NamedPair]:
    """Returns which pairs the files that gather all of them lack.

    That such a file exists does not say what it holds: it may have been deleted and begun anew.
    Where each pair has a file of its own there are none.
    """
    if not gathers(name):
        return set()
    with formats.open(name, folder) as writer:
        return {pair for pair in pairs if not writer.has(*pair)}


def result_path(pair: NamedPair) -> Path:
    """Returns where the result of a pair stands below the folder of the job, without suffix."""
    stems = (re.sub(r"[^\w.-]+", "_", Path(name).stem)[:_LONGEST_STEM] for name in pair)
    digest = hashlib.sha256("\0".join(pair).encode(errors="surrogateescape")).hexdigest()[:8]
    return Path(_FOLDER, "__".join([*stems, digest]))


def _with_suffix(path: Path) -> Path:
    return path.with_name(f"{path.name}.npz")
