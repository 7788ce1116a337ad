"""Choosing pixels that are good and lie all over the image."""

import numpy as np

# A match is of use from here on. P_1 of the published mixture is 0.573 at most, since its accurate
# component has a variance of 1 px²; the authors select matches for pose estimation by P_1 >= 0.1.
DEFAULT_THRESHOLD = 0.1


def best_spread(values: np.ndarray, n: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns row and column of pixels with large values, the largest first.

    Args:
        values: [height, width]; where they are negative no pixel is chosen.
        n: how many at most, see `Match.matches`; None takes all.
    """
    count = np.count_nonzero(values >= 0)
    if n is not None and count > n:
        # A cell holds at most side² candidates, so that at least n cells hold one.
        rows, columns = _best_of_cells(values, side=int((count / n) ** 0.5))
        # Where many are equally large, the rows further down must not be left out.
        shuffled = np.random.default_rng(0).permutation(len(rows))
        rows, columns = rows[shuffled], columns[shuffled]
    else:
        rows, columns = np.nonzero(values >= 0)
    order = np.argsort(-values[rows, columns], kind="stable")[:n]
    return rows[order], columns[order]


def _best_of_cells(values: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns row and column of the largest value of each square cell that has one >= 0."""
    height, width = values.shape
    padded = np.pad(values, ((0, -height % side), (0, -width % side)), constant_values=-1)
    cells = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side)
    cells = cells.swapaxes(1, 2).reshape(-1, side * side)
    best = cells.argmax(axis=-1)
    cell = np.flatnonzero(cells[np.arange(len(cells)), best] >= 0)
    row, column = np.divmod(cell, padded.shape[1] // side)
    row_in_cell, column_in_cell = np.divmod(best[cell], side)
    return row * side + row_in_cell, column * side + column_in_cell
