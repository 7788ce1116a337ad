"""KITTI's flow: a 16-bit PNG of 64 u + 2^15, 64 v + 2^15 and whether it is valid.

`tfdense.evaluation.truth_files.read_kitti_flow` reads it. KITTI's first image is our target.
"""

from pathlib import Path

import numpy as np

from tfdense.images import encode_image

_STEPS, _ZERO, _LARGEST = 64, 2**15, 2**16 - 1


def write(path: Path, match, threshold: float, cycle: float | None) -> None:
    """Writes the flow; what does not count as matched or is beyond ±512 px is not valid."""
    valid = _is_matched(match, threshold, cycle)
    path.write_bytes(encode_image(path, encode(match.flow, valid)))


def encode(flow: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Returns what KITTI's PNG holds, uint16 [height, width, 3].

    Args:
        flow: (dx, dy) in px, [height, width, 2].
        valid: where it is known, bool [height, width]. Where it is not, all values are 0.
    """
    steps = np.rint(np.float64(flow) * _STEPS) + _ZERO
    valid = valid & ((steps >= 0) & (steps <= _LARGEST)).all(axis=-1)
    return np.dstack([np.where(valid[..., None], steps, 0), valid]).astype(np.uint16)


def _is_matched(match, threshold: float, cycle: float | None) -> np.ndarray:
    """Where a match counts, bool [height, width]; what is masked has no confidence at all."""
    matched = (match.confidence >= threshold) & (match.confidence > 0)
    return matched if cycle is None else matched & (match.cycle_error() <= cycle)
