"""Arrays of NumPy."""

from pathlib import Path

import numpy as np


def write(path: Path, match, threshold: float, cycle: float | None) -> None:
    """Writes "flow", "confidence" and "radius", and "cycle_error" if it was matched both ways."""
    arrays = {"flow": match.flow, "confidence": match.confidence, "radius": match.radius}
    if match.reverse is not None:
        arrays["cycle_error"] = match.cycle_error()
    with path.open("wb") as file:
        np.savez(file, **arrays)
