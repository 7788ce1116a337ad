"""Local correlation as matrix products: tiles of the target against windows of the source.

A tile of 8x8 target positions sees, within 4 positions, a window of 16x16 source positions. Its
correlations are one matrix product [64, channels] x [channels, 256]; those of the 256 columns
that lie further than 4 away are masked or dropped. Three times the arithmetic of the definition,
but at the speed of a matrix product, and nothing is copied for each displacement.
"""

import numpy as np
import tensorflow as tf

from tfdense.geometry import spatial_size

RADIUS = 4
TILE = 2 * RADIUS
WINDOW = 2 * TILE


def tiles(x) -> tf.Tensor:
    """Cuts [batch, height, width, channels] into tiles, padded with zeros at the bottom and right.

    Returns:
        [batch * tile rows * tile columns, 64, channels].
    """
    blocks = _blocks(x, margin=0)
    return tf.reshape(blocks, [-1, TILE * TILE, x.shape[-1]])


def windows(x) -> tf.Tensor:
    """Cuts [batch, height, width, channels] into what each tile sees, zero outside.

    Returns:
        [batch * tile rows * tile columns, 256, channels].
    """
    blocks = _blocks(x, margin=RADIUS)
    blocks = tf.concat([blocks[:, :-1], blocks[:, 1:]], axis=3)
    blocks = tf.concat([blocks[:, :, :-1], blocks[:, :, 1:]], axis=4)
    return tf.reshape(blocks, [-1, WINDOW * WINDOW, x.shape[-1]])


def local_scores(filters, windows, size) -> tf.Tensor:
    """Scores filters at the 81 positions around them.

    Args:
        filters: of each target position, in `tiles`.
        windows: of the features that they are compared with, see `windows`.
        size: (height, width) of the target.

    Returns:
        Means over channels, [batch, height, width, 81], dx fast.
    """
    scores = displacements(tf.matmul(filters, windows, transpose_b=True))
    return untile(scores, *size) / filters.shape[-1]


def untile(x, height, width) -> tf.Tensor:
    """Undoes `tiles`.

    Args:
        x: [batch * tile rows * tile columns, 64, channels].
        height, width: of the result.

    Returns:
        [batch, height, width, channels].
    """
    rows, columns = -(-height // TILE), -(-width // TILE)
    x = tf.reshape(x, [-1, rows, columns, TILE, TILE, x.shape[-1]])
    x = tf.transpose(x, [0, 1, 3, 2, 4, 5])
    x = tf.reshape(x, [-1, rows * TILE, columns * TILE, x.shape[-1]])
    return x[:, :height, :width]


def displacements(scores) -> tf.Tensor:
    """Picks from [tiles, 64, 256] the 81 columns near each row: [tiles, 64, 81], dx fast."""
    steps = np.arange(2 * RADIUS + 1)
    tile = np.arange(TILE)
    row = tile[:, None, None, None] + steps[:, None]
    column = tile[:, None, None] + steps
    columns = (row * WINDOW + column).reshape(TILE * TILE, -1)
    rows = np.arange(TILE * TILE)[:, None] * WINDOW * WINDOW
    flat = tf.reshape(scores, [-1, TILE * TILE * WINDOW * WINDOW])
    picked = tf.gather(flat, (rows + columns).reshape(-1), axis=1)
    return tf.reshape(picked, [-1, TILE * TILE, columns.shape[1]])


def displacement_indices() -> np.ndarray:
    """Tells which displacement leads from each position of a tile to each of its window.

    Returns:
        Integers [64, 256]: 0 to 80, dx fast, or 81 beyond the radius.
    """
    tile = RADIUS + np.stack(np.mgrid[:TILE, :TILE], axis=-1).reshape(-1, 1, 2)
    window = np.stack(np.mgrid[:WINDOW, :WINDOW], axis=-1).reshape(1, -1, 2)
    steps = window - tile + RADIUS
    side = 2 * RADIUS + 1
    near = np.all((steps >= 0) & (steps < side), axis=-1)
    return np.where(near, steps[..., 0] * side + steps[..., 1], side**2).astype(np.int32)


def _blocks(x, margin: int) -> tf.Tensor:
    """Pads by `margin` and to whole tiles: [batch, rows, columns, 8, 8, channels]."""
    height, width = spatial_size(x)
    bottom = -height % TILE + margin
    right = -width % TILE + margin
    x = tf.pad(x, [[0, 0], [margin, bottom], [margin, right], [0, 0]])
    rows, columns = (height + margin + bottom) // TILE, (width + margin + right) // TILE
    x = tf.reshape(x, [-1, rows, TILE, columns, TILE, x.shape[-1]])
    return tf.transpose(x, [0, 1, 3, 2, 4, 5])
