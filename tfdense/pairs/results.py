"""The results of a job: one file, or folder, for each pair."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdense.files import replacing
from tfdense.inference.match import Match
from tfdense.inference.saving import save_compressed
from tfdense.pairs.lists import NamedPair

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
    """Writes flow, confidence and radius, see `tfdense.inference.saving.save_compressed`."""
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


FORMATS: dict[str, Callable[[Match, Path, Selection], Path]] = {
    "dense": write_dense,
    "matches": write_matches,
    "folder": write_folder,
}
"""Each writes a match to a path, to which it may add a suffix, and returns where it wrote."""


class PairFiles:
    """Writes a file, or a folder, for each pair; several processes may do so at once.

    Args:
        folder: of the job.
        name: of `FORMATS`.
        selection: what counts as matched.
    """

    def __init__(self, folder: Path, name: str, selection: Selection):
        self._folder, self._write, self._selection = folder, FORMATS[name], selection

    def add(self, source: str, target: str, match: Match) -> list[Path]:
        """Writes the result of a pair, by the names of its images; returns the files."""
        path = self._folder / result_path(NamedPair(source, target))
        return [self._write(match, path, self._selection)]


def result_path(pair: NamedPair) -> Path:
    """Returns where the result of a pair stands below the folder of the job, without suffix."""
    stems = (re.sub(r"[^\w.-]+", "_", Path(name).stem)[:_LONGEST_STEM] for name in pair)
    digest = hashlib.sha256("\0".join(pair).encode(errors="surrogateescape")).hexdigest()[:8]
    return Path(_FOLDER, "__".join([*stems, digest]))


def _with_suffix(path: Path) -> Path:
    return path.with_name(f"{path.name}.npz")
