"""Single matches as comma-separated values."""

from pathlib import Path

import numpy as np

_MATCHES = 5000
COLUMNS = ("source_x", "source_y", "target_x", "target_y", "confidence")


def write(
    path: Path, match, threshold: float, cycle: float | None, n: int | None = _MATCHES
) -> None:
    """Writes a line a match, the most confident first, under a line of `COLUMNS`.

    Args:
        path: of the file.
        match: see `tfdense.results.match.Match`.
        threshold, cycle: see `Match.matches`.
        n: how many at most, spread over the target; None writes all.
    """
    found = match.matches(n, threshold, cycle)
    rows = np.column_stack([found.source, found.target, found.confidence])
    formats = [*["%.3f"] * 4, "%.5f"]
    np.savetxt(path, rows, formats, ",", header=",".join(COLUMNS), comments="", encoding="ascii")
