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


def result_path(pair: NamedPair) -> Path:
    """Returns where the result of a pair stands below the folder of the job, without suffix."""
    stems = (re.sub(r"[^\w.-]+", "_", Path(name).stem)[:_LONGEST_STEM] for name in pair)
    digest = hashlib.sha256("\0".join(pair).encode(errors="surrogateescape")).hexdigest()[:8]
    return Path(_FOLDER, "__".join([*stems, digest]))


def _with_suffix(path: Path) -> Path:
    return path.with_name(f"{path.name}.npz")
