"""Random warps of the whole image: homography, affine, thin-plate spline and their composition.

All of them map target to source in normalised coordinates u in [-1, 1], where
pixel = (u + 1)(size - 1) / 2: the centres of the outermost pixels lie at -1 and 1.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdense.data import draws, matrices
from tfdense.data.conditions import where_any
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
        homography: [batch, 3, 3].
        spline: [batch, 12, 2]: weights of the nine kernels, then of 1, x and y; zero bends nothing.
    """

    homography: tf.Tensor
    spline: tf.Tensor


def warp_flow(warp: Warp, displacement) -> tf.Tensor:
    """Returns the flow of a warp whose argument is displaced first: ``warp(p + e(p)) - p``.

    Args:
        warp: from target to source.
        displacement: e, float32 [batch, height, width, 2], in pixels; its size is the images'.

    Returns:
        float32 [batch, height, width, 2], in pixels.
    """
    height, width = displacement.shape[1:3]
    half = tf.constant([(width - 1) / 2.0, (height - 1) / 2.0])
    points = flow_to_map(displacement) / half - 1.0
    bent = tf.reduce_any(warp.spline != 0, axis=[1, 2])
    points = where_any(bent, lambda: points + _spline(warp.spline, points), points)
    x, y, depth = matrices.transform(warp.homography, points[..., 0], points[..., 1])
    # A bent target can reach beyond the horizon; what lies there has no match.
    mapped = tf.stack([x, y], axis=-1) / tf.maximum(depth, 1e-3)[..., None]
    return map_to_flow((mapped + 1.0) * half)


def spline_weights(displacements) -> tf.Tensor:
    """Solves for the spline that moves the control points by `displacements` [batch, 9, 2].

    Returns:
        [batch, 12, 2], see `Warp`.
    """
    return tf.matmul(tf.constant(_spline_inverse()), displacements)


def random_warp(seeds, config: WarpConfig, strength=1.0) -> Warp:
    """Draws warps.

    Args:
        seeds: [batch, 2].
        config: the ranges.
        strength: [batch] or a number: 0 gives the identity, 1 the full ranges.
    """
    kind_seeds, homography_seeds, affine_seeds, spline_seeds = draws.split(seeds, 4)
    weights = np.cumsum(
        [config.homography, config.affine, config.thin_plate_spline, config.composition]
    )
    drawn = draws.uniform(kind_seeds)[:, None] * weights[-1]
    kind = tf.reduce_sum(tf.cast(drawn >= weights[:-1].astype(np.float32), tf.int32), axis=-1)
    composed = kind == 3
    strength *= tf.where(composed, config.composition_strength, 1.0)

    def part(number):
        """Returns the strength of one kind: none where it was not drawn."""
        return tf.where(composed | (kind == number), strength, 0.0)

    homography = random_homography(homography_seeds, config, part(0))
    affine = random_affine(affine_seeds, config, part(1))
    displacements = random_displacements(spline_seeds, config, part(2))
    return Warp(tf.matmul(homography, affine), spline_weights(displacements))


def random_homography(seeds, config: WarpConfig, strength) -> tf.Tensor:
    """Draws where the corners of the source appear; maps target to source, [batch, 3, 3]."""
    moves = draws.uniform(seeds, [4, 2], -1.0, 1.0) * config.corner_displacement
    moves *= strength[:, None, None]
    full = matrices.homography_between(CORNERS + moves, CORNERS + 0.0 * moves)
    half = matrices.homography_between(CORNERS + 0.5 * moves, CORNERS + 0.0 * moves)
    # Rarely the horizon comes close to the target's corners; what lies beyond has no match.
    depth = tf.matmul(full[:, 2:, :2], CORNERS, transpose_b=True)[:, 0] + full[:, 2, 2:]
    usable = tf.reduce_min(depth, axis=-1) > _NEAREST_HORIZON
    return tf.where(usable[:, None, None], full, half)


def random_affine(seeds, config: WarpConfig, strength) -> tf.Tensor:
    """Draws a rotation, a stretch along two turned axes and a shift, as matrices [batch, 3, 3]."""
    draw = draws.uniform(seeds, [6], -1.0, 1.0)
    low, high = config.stretch
    stretch = 0.5 * (high + low) + 0.5 * (high - low) * draw[:, 2:4]
    stretch = 1.0 + (stretch - 1.0) * strength[:, None]
    turn = matrices.rotation(draw[:, 0] * math.radians(config.rotation) * strength)
    axes = matrices.rotation(draw[:, 1] * math.radians(config.stretch_direction))
    linear = turn @ tf.linalg.matrix_transpose(axes) @ (stretch[..., None] * axes)
    return matrices.affine(linear, draw[:, 4:] * config.translation * strength[:, None])


def random_displacements(seeds, config: WarpConfig, strength) -> tf.Tensor:
    """Draws how far the control points of a spline move, [batch, 9, 2]."""
    return draws.normal(seeds, [9, 2]) * config.control_point_deviation * strength[:, None, None]


def _spline(weights, points) -> tf.Tensor:
    """Evaluates splines [batch, 12, 2] at points [batch, height, width, 2].

    The kernel is ``r^2 log r^2``, to which comes an affine part.
    """
    weights = weights[:, :, None, None]
    x, y = points[..., :1], points[..., 1:]
    moved = weights[:, 9] + weights[:, 10] * x + weights[:, 11] * y
    for number, (centre_x, centre_y) in enumerate(CONTROL_POINTS):
        square = tf.maximum((x - centre_x) ** 2 + (y - centre_y) ** 2, 1e-12)
        moved += weights[:, number] * (square * tf.math.log(square))
    return moved


def _spline_inverse() -> np.ndarray:
    """Returns the first nine columns of the inverse of the spline's linear system, [12, 9]."""
    points = CONTROL_POINTS.astype(np.float64)
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    kernel = distances * np.log(np.where(distances > 0, distances, 1.0))
    affine = np.concatenate([np.ones((9, 1)), points], axis=1)
    system = np.block([[kernel, affine], [affine.T, np.zeros((3, 3))]])
    return np.linalg.inv(system)[:, :9].astype(np.float32)
