"""A match as files: its arrays, and pictures to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfdense import visualize
from tfdense.files import replacing
from tfdense.flow_files import write_flow
from tfdense.images import write_image
from tfdense.inference.checks import output_folder

if TYPE_CHECKING:
    from tfdense.inference.match import Match

_DRAWN_MATCHES = 120


def save_match(
    match: Match, folder: str | Path, threshold: float, cycle: float | None
) -> list[Path]:
    """Writes a match; see `Match.save`."""
    folder = output_folder(folder)
    arrays = {"flow": match.flow, "confidence": match.confidence, "radius": match.radius}
    if match.reverse is not None:
        arrays["cycle_error"] = match.cycle_error()
    with replacing(folder / "match.npz") as temporary:
        np.savez(temporary, **arrays)
    write_flow(folder / "flow.flo", match.flow)
    pictures = _pictures(match, threshold, cycle)
    for name, picture in pictures.items():
        write_image(folder / name, picture)
    return [folder / name for name in ("match.npz", "flow.flo", *pictures)]


def _pictures(match: Match, threshold: float, cycle: float | None) -> dict[str, np.ndarray]:
    confidence = match.confidence
    if cycle is not None:
        confidence = np.where(match.cycle_error() <= cycle, confidence, np.float32(0))
    warped = match.warp()
    source, target, _ = match.matches(_DRAWN_MATCHES, threshold, cycle)
    return {
        "warp.png": warped,
        "flow.png": visualize.flow_picture(match.flow, confidence, threshold),
        "confidence.png": visualize.confidence_picture(confidence, match.radius, threshold),
        "matches.png": visualize.matches_picture(match.source, match.target, source, target),
        "overview.png": visualize.overview(
            match.source,
            match.target,
            warped,
            match.flow,
            confidence,
            source,
            target,
            match.radius,
            threshold,
        ),
    }
