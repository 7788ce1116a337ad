"""Random warps of the whole image: homography, affine, thin-plate spline and their composition.

All of them map target to source in normalised coordinates u in [-1, 1], where
pixel = (u + 1)(size - 1) / 2: the centres of the outermost pixels lie at -1 and 1.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdense.data.sampling import compiled
from tfdense.data_config import WarpConfig
from tfdense.geometry import flow_to_map, map_to_flow

# The splines' control points, x slow and y fast.
CONTROL_POINTS = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)], np.float32)
CORNERS = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)], np.float32)

# Depth of a target corner relative to that of the centre.
_NEAREST_HORIZON = 0.2


class Warp(NamedTuple):
    """A point p goes to ``homography(p + spline(p))``.

    Attributes:
        homography: [3, 3].
        spline: [12, 2]: weights of the nine kernels, then of 1, x and y; zero bends nothing.
    """

    homography: tf.Tensor
    spline: tf.Tensor


def normalise(points, height, width) -> tf.Tensor:
    """Turns pixels (x, y) into normalised coordinates."""
    return points * tf.constant([2.0 / (width - 1), 2.0 / (height - 1)]) - 1.0


def denormalise(points, height, width) -> tf.Tensor:
    """Turns normalised coordinates into pixels (x, y)."""
    return (points + 1.0) * tf.constant([(width - 1) / 2.0, (height - 1) / 2.0])


@compiled
def warp_flow(warp: Warp, displacement) -> tf.Tensor:
    """Returns the flow of a warp whose argument is displaced first: ``warp(p + e(p)) - p``.

    Args:
        warp: from target to source.
        displacement: e, float32 [height, width, 2], in pixels; its size is the images'.

    Returns:
        float32 [height, width, 2], in pixels.
    """
    height, width, _ = displacement.shape
    points = normalise(flow_to_map(displacement), height, width)
    return map_to_flow(denormalise(warp_points(warp, points), height, width))


def warp_points(warp: Warp, points) -> tf.Tensor:
    """Maps normalised points [height, width, 2] from target to source."""
    shape = points.shape
    points = tf.reshape(points, [-1, 2])
    bent = tf.reduce_any(tf.not_equal(warp.spline, 0.0))
    points = tf.cond(bent, lambda: points + _spline(warp.spline, points), lambda: points)
    mapped = tf.matmul(points, warp.homography[:, :2], transpose_b=True) + warp.homography[:, 2]
    # A bent target can reach beyond the horizon; what lies there has no match.
    return tf.reshape(mapped[:, :2] / tf.maximum(mapped[:, 2:], 1e-3), shape)


def spline_weights(displacements) -> tf.Tensor:
    """Solves for the spline that moves the control points by `displacements` [9, 2].

    Returns:
        [12, 2], see `Warp`.
    """
    return tf.matmul(tf.constant(_spline_inverse()), displacements)


def homography_between(points, destinations) -> tf.Tensor:
    """Returns the homography [3, 3] that sends four points [4, 2] to four others [4, 2]."""
    x, y = points[:, 0], points[:, 1]
    u, v = destinations[:, 0], destinations[:, 1]
    one, zero = tf.ones_like(x), tf.zeros_like(x)
    rows = tf.concat(
        [
            tf.stack([x, y, one, zero, zero, zero, -u * x, -u * y], axis=1),
            tf.stack([zero, zero, zero, x, y, one, -v * x, -v * y], axis=1),
        ],
        axis=0,
    )
    solution = tf.linalg.solve(rows, tf.concat([u, v], axis=0)[:, None])
    return tf.reshape(tf.concat([solution[:, 0], [1.0]], axis=0), [3, 3])


def random_warp(seed, config: WarpConfig, strength=1.0) -> Warp:
    """Draws a warp.

    Args:
        seed: int [2], for stateless random numbers.
        config: the ranges.
        strength: 0 gives the identity, 1 the full ranges.
    """
    kind_seed, homography_seed, affine_seed, spline_seed = tf.unstack(tf.random.split(seed, 4))
    weights = [config.homography, config.affine, config.thin_plate_spline, config.composition]
    kind = tf.random.stateless_categorical(tf.math.log([weights]), 1, kind_seed)[0, 0]
    composed = tf.equal(kind, 3)
    strength = tf.where(composed, strength * config.composition_strength, strength)

    def part(number, draw, part_seed, identity):
        drawn = tf.logical_or(composed, tf.equal(kind, number))
        return tf.cond(drawn, lambda: draw(part_seed, config, strength), lambda: identity)

    homography = part(0, random_homography, homography_seed, tf.eye(3))
    affine = part(1, random_affine, affine_seed, tf.eye(3))
    displacements = part(2, random_displacements, spline_seed, tf.zeros([9, 2]))
    return Warp(tf.matmul(homography, affine), spline_weights(displacements))


def random_homography(seed, config: WarpConfig, strength) -> tf.Tensor:
    """Draws where the source's corners appear in the target; returns target to source, [3, 3]."""
    moves = tf.random.stateless_uniform([4, 2], seed, -1.0, 1.0) * config.corner_displacement
    full = homography_between(CORNERS + moves * strength, CORNERS)
    half = homography_between(CORNERS + moves * strength * 0.5, CORNERS)
    # Rarely the horizon comes close to the target's corners; what lies beyond has no match.
    depth = tf.matmul(tf.constant(CORNERS), full[2:, :2], transpose_b=True) + full[2, 2]
    return tf.where(tf.reduce_min(depth) > _NEAREST_HORIZON, full, half)


def random_affine(seed, config: WarpConfig, strength) -> tf.Tensor:
    """Draws a rotation, a stretch along two turned axes and a shift, as a matrix [3, 3]."""
    draw = tf.random.stateless_uniform([6], seed, -1.0, 1.0)
    low, high = config.stretch
    stretch = 0.5 * (high + low) + 0.5 * (high - low) * draw[2:4]
    stretch = 1.0 + (stretch - 1.0) * strength
    rotation = _rotation(draw[0] * math.radians(config.rotation) * strength)
    axes = _rotation(draw[1] * math.radians(config.stretch_direction))
    linear = rotation @ tf.transpose(axes) @ tf.linalg.diag(stretch) @ axes
    shift = draw[4:, None] * config.translation * strength
    return tf.concat([tf.concat([linear, shift], axis=1), [[0.0, 0.0, 1.0]]], axis=0)


def random_displacements(seed, config: WarpConfig, strength) -> tf.Tensor:
    """Draws how far the control points of a spline move, [9, 2]."""
    return tf.random.stateless_normal([9, 2], seed) * config.control_point_deviation * strength


def _rotation(angle) -> tf.Tensor:
    cosine, sine = tf.cos(angle), tf.sin(angle)
    return tf.stack([tf.stack([cosine, -sine]), tf.stack([sine, cosine])])


def _spline(weights, points) -> tf.Tensor:
    """Evaluates a spline [12, 2] at points [n, 2]: kernel r^2 log r^2 and an affine part."""
    squares = tf.reduce_sum(points**2, axis=1, keepdims=True)
    ones = tf.ones_like(squares)
    features = tf.concat([squares, points, ones], axis=1)
    # r^2 = |p|^2 - 2 p.c + |c|^2 for all control points c in one product.
    to_distances = np.concatenate(
        [np.ones((1, 9)), -2 * CONTROL_POINTS.T, (CONTROL_POINTS**2).sum(axis=1)[None]]
    ).astype(np.float32)
    distances = tf.maximum(tf.matmul(features, to_distances), 1e-12)
    kernels = distances * tf.math.log(distances)
    return tf.matmul(kernels, weights[:9]) + tf.matmul(
        tf.concat([ones, points], axis=1), weights[9:]
    )


def _spline_inverse() -> np.ndarray:
    """Returns the first nine columns of the inverse of the spline's linear system, [12, 9]."""
    points = CONTROL_POINTS.astype(np.float64)
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    kernel = distances * np.log(np.where(distances > 0, distances, 1.0))
    affine = np.concatenate([np.ones((9, 1)), points], axis=1)
    system = np.block([[kernel, affine], [affine.T, np.zeros((3, 3))]])
    return np.linalg.inv(system)[:, :9].astype(np.float32)
