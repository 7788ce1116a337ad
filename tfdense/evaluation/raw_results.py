"""Keeps what a network gave for two images, so that metrics can be computed again without it.

A result is found by a hash of everything it depends on: weights, configuration, the code of the
network, how it is used, and both images. What depends on anything else is not found, and computed.
"""

import dataclasses
import hashlib
import os
import time
import zipfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

import tfdense
from tfdense.files import replacing
from tfdense.matcher import Matcher
from tfdense.mixture import Mixture
from tfdense.networks import is_preset, newest_saved_model, run_files
from tfdense.results.match import Match

# Of tfdense: what the answer of a network depends on, with the weights that ship.
_CODE = (
    "inference",
    "layers",
    "models",
    "ops",
    "results",
    "tiles",
    "weights",
    "geometry.py",
    "images.py",
    "matcher.py",
    "mixture.py",
)
# Fixed-point steps: 1/64 px is far below any error that is measured, and a confidence in steps of
# half a float16's would merge the pixels at its upper end, which are most.
_FLOW_STEPS, _CONFIDENCE_STEPS = 64, 65535
_HASH_LENGTH = 24


@dataclasses.dataclass(frozen=True, eq=False)
class RecordedMatch(Match):
    """A match as it was written, and how long it took.

    Attributes:
        seconds: of wall-clock time.
    """

    seconds: float = 0.0


class RecordedNetwork:
    """Matches like a `Matcher` and writes each match down before it is used.

    A match that is there already is read instead: a run that was broken off goes on where it
    stopped, and what is computed from a new match and from one that is read is the same.

    Args:
        load: loads the network, once it is needed.
        folder: where the results are kept. Its name must tell the networks apart, see `identify`.
    """

    def __init__(self, load: Callable[[], Matcher], folder: Path):
        self._load = load
        self._folder = folder

    @cached_property
    def _matcher(self) -> Matcher:
        return self._load()

    @property
    def mixture(self) -> Mixture:
        """See `Matcher.mixture`."""
        return self._matcher.mixture

    def match(self, source: np.ndarray, target: np.ndarray) -> RecordedMatch:
        """Matches two images, uint8 [height, width, 3], of any sizes."""
        path = self._folder / f"{_hash_images(source, target)}.npz"
        try:
            return _read(path, source, target)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass  # It is not there yet, or broken.
        start = time.perf_counter()
        match = self._matcher.match(source, target)
        _write(path, match, time.perf_counter() - start)
        return _read(path, source, target)


def identify(name_or_path: str, **use) -> str:
    """Returns a hash of a network and of how it is used.

    Args:
        name_or_path: what `tfdense.load` takes.
        **use: its other arguments.
    """
    digest = hashlib.sha256(repr(use).encode())
    package = Path(tfdense.__file__).parent
    for part in _CODE:
        _add_files(digest, package / part)
    path = Path(name_or_path)
    if is_preset(name_or_path):
        digest.update(name_or_path.encode())
    elif saved_model := newest_saved_model(path):
        _add_files(digest, saved_model)
    else:
        for file in run_files(path):
            _add_files(digest, file)
    return digest.hexdigest()[:_HASH_LENGTH]


def _add_files(digest, path: Path) -> None:
    """Adds the content of a file, or of all below a folder but compiled Python."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and file.suffix != ".pyc":
            digest.update(os.fsencode(file.relative_to(path.parent).as_posix()))
            digest.update(hashlib.sha256(file.read_bytes()).digest())


def _hash_images(*images: np.ndarray) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr(image.shape).encode())
        digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()[:_HASH_LENGTH]


def _write(path: Path, match: Match, seconds: float) -> None:
    with replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            flow=np.rint(match.flow * _FLOW_STEPS).astype(np.int32),
            confidence=np.rint(match.confidence * _CONFIDENCE_STEPS).astype(np.uint16),
            log_variance=match.log_variance.astype(np.float16),
            logits=match.logits.astype(np.float16),
            radius=match.radius,
            seconds=seconds,
        )


def _read(path: Path, source: np.ndarray, target: np.ndarray) -> RecordedMatch:
    with np.load(path) as arrays:
        return RecordedMatch(
            flow=arrays["flow"].astype(np.float32) / _FLOW_STEPS,
            confidence=arrays["confidence"].astype(np.float32) / _CONFIDENCE_STEPS,
            log_variance=arrays["log_variance"].astype(np.float32),
            logits=arrays["logits"].astype(np.float32),
            radius=float(arrays["radius"]),
            source=source,
            target=target,
            seconds=float(arrays["seconds"]),
        )
