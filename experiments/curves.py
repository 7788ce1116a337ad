"""Draws loss and validation of consecutive runs: curves.py PICTURE.png METRICS.csv ...

Step 0 of each run is where the one before ended.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tfdense.errors import InputError, exit_status, listed

PANELS = {
    "training loss": ("loss",),
    "validation AEPE (px)": ("aepe",),
    "validation PCK (%)": ("pck_1", "pck_3", "pck_5"),
    "validation AUSE": ("ause",),
}


def main() -> int:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("metrics", type=Path, nargs="+", help="metrics.csv of the runs, in order")
    arguments = parser.parse_args()
    return exit_status(parser.prog, lambda: _draw(arguments.picture, arguments.metrics))


def _draw(picture: Path, files: list[Path]) -> None:
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    start = 0
    for number, file in enumerate(files):
        rows = _read(file)
        for panel, (title, columns) in zip(panels, PANELS.items(), strict=True):
            for i, column in enumerate(columns):
                known = np.isfinite(rows[column])
                steps, values = start + rows["step"][known], rows[column][known]
                label = (
                    column.upper().replace("_", "-") if len(columns) > 1 and not number else None
                )
                panel.plot(steps, values, f"C{i}", label=label, lw=1)
            panel.axvline(start, color="0.8", lw=1)
            panel.set(title=title, xlabel="step")
            if number == 0 and len(columns) > 1:
                panel.legend()
        start += int(np.nanmax(rows["step"]))
    figure.suptitle(", ".join(file.stem for file in files))
    figure.savefig(picture, dpi=100)


def _read(file: Path) -> np.ndarray:
    """Returns the rows of a run's metrics, by column."""
    wanted = {"step", *itertools.chain.from_iterable(PANELS.values())}
    try:
        rows = np.atleast_1d(np.genfromtxt(file, delimiter=",", names=True))
    except (ValueError, IndexError, TypeError):
        rows = np.empty(0)
    if not rows.size or not wanted <= set(rows.dtype.names or ()):
        raise InputError(
            f"Expected metrics of a run with columns {listed(sorted(wanted))}. Received: {file}"
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
