"""Matrices of plane and space, [..., 3, 3], by arithmetic that every accelerator compiles."""

import tensorflow as tf


def inverse(matrix) -> tf.Tensor:
    """Inverts matrices [..., 3, 3]: cross products of the rows over the determinant."""
    a, b, c = tf.unstack(matrix, axis=-2)
    columns = [_cross(b, c), _cross(c, a), _cross(a, b)]
    determinant = tf.reduce_sum(a * columns[0], axis=-1)
    return tf.stack(columns, axis=-1) / determinant[..., None, None]


def affine(linear, offset) -> tf.Tensor:
    """Returns [..., 3, 3] of ``p -> linear p + offset``, from [..., 2, 2] and [..., 2]."""
    top = tf.concat([linear, offset[..., None]], axis=-1)
    bottom = tf.zeros_like(top[..., :1, :]) + tf.constant([0.0, 0.0, 1.0])
    return tf.concat([top, bottom], axis=-2)


def rotation(angle) -> tf.Tensor:
    """Returns the matrix [..., 2, 2] that turns x towards y by an angle [...] in radians."""
    cosine, sine = tf.cos(angle), tf.sin(angle)
    rows = [tf.stack([cosine, -sine], axis=-1), tf.stack([sine, cosine], axis=-1)]
    return tf.stack(rows, axis=-2)


def turn(axis, angle) -> tf.Tensor:
    """Returns the rotation of space, by Rodrigues' formula.

    Args:
        axis: [..., 3], of length 1.
        angle: [...], in radians, right-handed.

    Returns:
        [..., 3, 3].
    """
    x, y, z = tf.unstack(axis, axis=-1)
    zero = tf.zeros_like(x)
    rows = [tf.stack(row, axis=-1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    cross = tf.stack(rows, axis=-2)
    sine, half = (f[..., None, None] for f in (tf.sin(angle), tf.sin(angle / 2.0)))
    return tf.eye(3) + sine * cross + 2.0 * half**2 * tf.matmul(cross, cross)


def homography_between(points, destinations) -> tf.Tensor:
    """Returns the homography [..., 3, 3] that sends four points [..., 4, 2] to four others.

    Each is the way from the first four points to a basis and from there to the others; its last
    element is 1.
    """
    matrix = tf.matmul(_basis(destinations), inverse(_basis(points)))
    return matrix / matrix[..., 2:, 2:]


def transform(matrix, x, y) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Maps points by matrices.

    Args:
        matrix: [..., 3, 3].
        x, y: [..., height, width] or of a shape that broadcasts to it.

    Returns:
        The three homogeneous coordinates, [..., height, width] each.
    """
    m = matrix[..., None, None]
    return tuple(
        m[..., i, 0, :, :] * x + m[..., i, 1, :, :] * y + m[..., i, 2, :, :] for i in range(3)
    )


def _basis(points) -> tf.Tensor:
    """Returns the matrix that sends (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1) to four points."""
    points = tf.convert_to_tensor(points)
    columns = tf.linalg.matrix_transpose(
        tf.concat([points, tf.ones_like(points[..., :1])], axis=-1)
    )
    first = columns[..., :3]
    weights = tf.matmul(inverse(first), columns[..., 3:])
    return first * tf.linalg.matrix_transpose(weights)


def _cross(a, b) -> tf.Tensor:
    turned = [tf.roll(a, -1, -1) * tf.roll(b, -2, -1), tf.roll(a, -2, -1) * tf.roll(b, -1, -1)]
    return turned[0] - turned[1]
