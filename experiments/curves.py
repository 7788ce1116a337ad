"""Draws loss and validation of consecutive runs: curves.py PICTURE.png METRICS.csv ...

Step 0 of each run is where the one before ended.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

PANELS = {
    "training loss": ("loss",),
    "validation AEPE (px)": ("aepe",),
    "validation PCK (%)": ("pck_1", "pck_3", "pck_5"),
    "validation AUSE": ("ause",),
}


def main() -> None:
    picture, *files = sys.argv[1:]
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    start = 0
    for number, file in enumerate(files):
        rows = np.genfromtxt(file, delimiter=",", names=True)
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
    figure.suptitle(", ".join(Path(file).stem for file in files))
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    main()
