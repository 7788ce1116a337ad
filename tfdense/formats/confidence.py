"""The confidence as a grey PNG: 0 is a probability of 0, white one of 1."""

from pathlib import Path

import numpy as np

from tfdense.images import encode_image


def write8(path: Path, match, threshold: float, cycle: float | None) -> None:
    """Writes it in steps of 1/255."""
    _write(path, match, np.uint8)


def write16(path: Path, match, threshold: float, cycle: float | None) -> None:
    """Writes it in steps of 1/65535."""
    _write(path, match, np.uint16)


def _write(path: Path, match, kind: type) -> None:
    values = np.rint(np.float64(match.confidence) * np.iinfo(kind).max)
    path.write_bytes(encode_image(path, values.astype(kind)))
