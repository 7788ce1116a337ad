"""A match as files: its arrays, and pictures to look at."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from tfdense import formats, visualize
from tfdense.files import replacing, replacing_in
from tfdense.images import encode_image
from tfdense.two_view.types import Matches

_ARRAYS = ("npz", "flo")
_PICTURES = ("warp.png", "flow.png", "confidence.png", "matches.png", "overview.png")
FILES = (*formats.files(_ARRAYS), *_PICTURES)
"""The names of the files of a match."""

_DRAWN_MATCHES = 120
# Far below any error that is measured; numbers so rounded take less space.
_FLOW_STEPS, _CONFIDENCE_STEPS = 64, 1024


class DenseMatch(Protocol):
    """What is saved, see `tfdense.results.match.Match`."""

    flow: np.ndarray
    confidence: np.ndarray
    radius: float
    source: np.ndarray
    target: np.ndarray
    reverse: "DenseMatch | None"

    def cycle_error(self) -> np.ndarray: ...

    def warp(self) -> np.ndarray: ...

    def matches(self, n: int | None, threshold: float, cycle: float | None) -> Matches: ...


def save_match(
    match: DenseMatch,
    folder: str | Path,
    threshold: float,
    cycle: float | None,
    forms: Iterable[str] = (),
    images: tuple[str, str] = ("source", "target"),
) -> list[Path]:
    """Writes a match; see `tfdense.results.match.Match.save`."""
    folder = Path(folder)
    forms = [*dict.fromkeys((*_ARRAYS, *forms))]
    files = (*formats.files(forms), *_PICTURES)
    pictures = _pictures(match, threshold, cycle)
    with replacing_in(folder) as temporary:
        formats.write(match, temporary, forms, *images, threshold, cycle)
        for name, picture in zip(_PICTURES, pictures, strict=True):
            (temporary / name).write_bytes(encode_image(name, picture))
    return [folder / name for name in files]


def save_compressed(match: DenseMatch, path: str | Path) -> None:
    """Writes flow, confidence and radius as ``match.npz`` has them, in a third of the space.

    The flow is rounded to 1/64 px, the confidence to 1/1024.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            flow=np.rint(match.flow * _FLOW_STEPS) / np.float32(_FLOW_STEPS),
            confidence=np.rint(match.confidence * _CONFIDENCE_STEPS)
            / np.float32(_CONFIDENCE_STEPS),
            radius=match.radius,
        )


def _pictures(match: DenseMatch, threshold: float, cycle: float | None) -> list[np.ndarray]:
    """Returns what `_PICTURES` show."""
    confidence = match.confidence
    if cycle is not None:
        confidence = np.where(match.cycle_error() <= cycle, confidence, np.float32(0))
    warped = match.warp()
    source, target, _ = match.matches(_DRAWN_MATCHES, threshold, cycle)
    overview = visualize.overview(
        match.source,
        match.target,
        warped,
        match.flow,
        confidence,
        source,
        target,
        match.radius,
        threshold,
    )
    return [
        warped,
        visualize.flow_picture(match.flow, confidence, threshold),
        visualize.confidence_picture(confidence, match.radius, threshold),
        visualize.matches_picture(match.source, match.target, source, target),
        overview,
    ]
