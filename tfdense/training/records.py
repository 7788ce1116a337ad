"""What a run leaves behind while it trains: a table, TensorBoard files, a line of progress."""

import csv
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.files import append, reporting, write_text
from tfdense.training import validation

COLUMNS = (
    "step",
    "loss",
    "gradient_norm",
    "learning_rate",
    "pairs_per_second",
    "data_wait",
    "left_out",
    *validation.COLUMNS,
)


class Records:
    """Writes ``metrics.csv`` and the TensorBoard files of a run.

    Args:
        folder: of the run.
        start_step: rows of later steps, left by an interrupted run, are dropped.

    Attributes:
        last_validation: the step of the last validation so far, None if there was none.
    """

    def __init__(self, folder: Path, start_step: int):
        self._path = folder / "metrics.csv"
        rows = read_metrics(self._path) if self._path.is_file() else []
        header = {column: column for column in COLUMNS}
        kept = [row for row in rows if int(row["step"]) <= start_step]
        validated = [int(row["step"]) for row in kept if row.get("aepe")]
        self.last_validation = max(validated, default=None)
        write_text(self._path, _as_csv([header, *kept]))
        summaries = folder / "tensorboard"
        with reporting(summaries, tf.errors.OpError):
            self._summaries = tf.summary.create_file_writer(str(summaries))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds a row; columns without a value stay empty."""
        append(self._path, _as_csv([{"step": step, **values}]))
        with self._summaries.as_default(step=step):
            for name, value in values.items():
                group = "validation" if name in validation.COLUMNS else "training"
                tf.summary.scalar(f"{group}/{name}", value)
        self._summaries.flush()

    def write_picture(self, step: int, picture: np.ndarray) -> None:
        """Adds a picture, uint8 [height, width, 3]."""
        with self._summaries.as_default(step=step):
            tf.summary.image("validation", picture[None])


def _as_csv(rows: Sequence[dict]) -> str:
    text = io.StringIO(newline="")
    csv.DictWriter(text, COLUMNS).writerows(rows)
    return text.getvalue()


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """Reads a ``metrics.csv``: a dictionary for each row."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            rows = list(table)
        whole = "step" in (table.fieldnames or ["step"])
        whole &= all(int(row["step"]) >= 0 and None not in row for row in rows)
    except (ValueError, KeyError, TypeError, csv.Error):
        whole = False
    if not whole:
        raise InputError(f"{path} is not what training writes. Move it away to go on without it.")
    return rows


class Stopwatch:
    """Measures how fast steps go, and how much of the time is spent waiting for data."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """Forgets everything so far."""
        self._waited = 0.0
        self._steps = 0
        self._start = time.perf_counter()

    def waited(self, seconds: float) -> None:
        """Counts a step, before which so many seconds were spent waiting for its data."""
        self._waited += seconds
        self._steps += 1

    def read(self) -> tuple[float, float]:
        """Returns steps per second and the share of time spent waiting, then restarts."""
        elapsed = time.perf_counter() - self._start
        result = self._steps / elapsed, self._waited / elapsed
        self.restart()
        return result


def show_progress(step: int, steps: int, values: dict[str, float], steps_per_second: float) -> None:
    """Prints one line; on a terminal it takes the place of the one before."""
    hours, seconds = divmod(int((steps - step) / max(steps_per_second, 1e-9)), 3600)
    line = (
        f"step {step}/{steps}  loss {values['loss']:.3f}  "
        f"rate {values['learning_rate']:.1e}  {values['pairs_per_second']:.1f} pairs/s  "
        f"waiting for data {100 * values['data_wait']:.1f} %  "
        f"{hours}:{seconds // 60:02d}:{seconds % 60:02d} left"
    )
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end="" if step < steps else "\n", flush=True)
    else:
        print(line, flush=True)


def show_validation(step: int, values: dict[str, float]) -> None:
    """Prints the measures of a validation."""
    start = "\r\033[K" if sys.stdout.isatty() else ""
    print(
        f"{start}validation at step {step}: AEPE {values['aepe']:.2f} px, "
        f"PCK-1/3/5 {values['pck_1']:.1f}/{values['pck_3']:.1f}/{values['pck_5']:.1f} %, "
        f"NLL {values['nll']:.2f}, AUSE {values['ause']:.3f}",
        flush=True,
    )
