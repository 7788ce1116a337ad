"""The loss of JPEG: cosine transforms of 8x8 blocks, rounded to multiples that a quality sets.

The standard's (ITU-T T.81) colour space, halved colour resolution, example tables of annex K, and
libjpeg's law of the quality. Writing and reading the coefficients loses nothing and is left out.
"""

import numpy as np
import tensorflow as tf

_BLOCK = 8

_LUMINANCE = np.array(
    [[16, 11, 10, 16, 24, 40, 51, 61],
     [12, 12, 14, 19, 26, 58, 60, 55],
     [14, 13, 16, 24, 40, 57, 69, 56],
     [14, 17, 22, 29, 51, 87, 80, 62],
     [18, 22, 37, 56, 68, 109, 103, 77],
     [24, 35, 55, 64, 81, 104, 113, 92],
     [49, 64, 78, 87, 103, 121, 120, 101],
     [72, 92, 95, 98, 112, 100, 103, 99]],
    np.float32,
)  # fmt: skip
_CHROMINANCE = np.full([_BLOCK, _BLOCK], 99, np.float32)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# JFIF: luma, and the differences of blue and red to it, scaled to the same range.
_TO_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)
_TO_RGB = np.linalg.inv(_TO_YCBCR).astype(np.float32)


def compress(planes, quality) -> tf.Tensor:
    """Returns what is left of images after JPEG compression.

    Args:
        planes: float32 [batch, 3, height, width], RGB, 0..255.
        quality: [batch], 1..100.

    Returns:
        float32 [batch, 3, height, width], 0..255, whole numbers.
    """
    height, width = planes.shape[2:]
    # Blocks of the halved colours cover 16 pixels.
    rest = [[0, -side % (2 * _BLOCK)] for side in (height, width)]
    padded = tf.pad(tf.round(planes), [[0, 0], [0, 0], *rest], "SYMMETRIC")
    luminance, *chrominance = _mix(_TO_YCBCR, tf.unstack(padded, axis=1))
    factor = tf.where(quality < 50, 5000.0 / quality, 200.0 - 2.0 * quality)[:, None, None] / 100.0

    def lose(plane, table):
        steps = tf.clip_by_value(tf.floor(table * factor + 0.5), 1.0, 255.0)
        return _quantised(plane, tf.reshape(steps, [-1, 1, 1, _BLOCK * _BLOCK]))

    luminance = lose(luminance - 128.0, _LUMINANCE) + 128.0
    chrominance = [_double(lose(_halve(plane), _CHROMINANCE)) for plane in chrominance]
    image = tf.stack(_mix(_TO_RGB, [luminance, *chrominance]), axis=1)
    return tf.clip_by_value(tf.round(image[:, :, :height, :width]), 0.0, 255.0)


def _quantised(plane, steps) -> tf.Tensor:
    """Rounds the cosine transforms of blocks of [batch, height, width] to multiples of steps."""
    batch, height, width = plane.shape
    rows, columns = height // _BLOCK, width // _BLOCK
    blocks = tf.reshape(plane, [batch, rows, _BLOCK, columns, _BLOCK])
    blocks = tf.reshape(tf.transpose(blocks, [0, 1, 3, 2, 4]), [batch, rows, columns, -1])
    transform = _cosine_transform()
    coefficients = tf.round(tf.tensordot(blocks, transform, 1) / steps) * steps
    blocks = tf.tensordot(coefficients, transform.T, 1)
    blocks = tf.reshape(blocks, [batch, rows, columns, _BLOCK, _BLOCK])
    return tf.reshape(tf.transpose(blocks, [0, 1, 3, 2, 4]), plane.shape)


def _cosine_transform() -> np.ndarray:
    """Returns the orthonormal transform of a block's 64 pixels into its 64 coefficients."""
    frequency, position = np.mgrid[:_BLOCK, :_BLOCK]
    row = np.cos((2 * position + 1) * frequency * np.pi / (2 * _BLOCK)) * np.sqrt(2 / _BLOCK)
    row[0] /= np.sqrt(2)
    return np.kron(row, row).T.astype(np.float32)


def _halve(plane) -> tf.Tensor:
    batch, height, width = plane.shape
    boxes = tf.reshape(plane, [batch, height // 2, 2, width // 2, 2])
    return tf.reduce_mean(boxes, axis=(2, 4))


def _double(plane) -> tf.Tensor:
    """Enlarges [batch, height, width] twofold as libjpeg does: three parts nearer, one farther."""
    for axis in (1, 2):
        size = plane.shape[axis]
        before = tf.gather(plane, [0, *range(size - 1)], axis=axis)
        after = tf.gather(plane, [*range(1, size), size - 1], axis=axis)
        pair = tf.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after], axis=axis + 1)
        shape = list(plane.shape)
        shape[axis] *= 2
        plane = tf.reshape(pair, shape)
    return plane


def _mix(matrix, planes) -> list[tf.Tensor]:
    return [sum(float(w) * plane for w, plane in zip(row, planes, strict=True)) for row in matrix]
