"""Local elastic perturbations, which a network cannot predict from their surroundings.

"Learning Accurate Dense Correspondences and When to Trust Them" (arXiv 2101.01710), section 3.4:
smooth noise, limited to a few small places.
"""

import tensorflow as tf

from tfdense.data import draws
from tfdense.data_config import PerturbationConfig

# The noise stands on nodes much closer to each other than the blur that follows is wide.
_NOISE_NODES = 33


def elastic_field(noise, deviation, strength, size) -> tf.Tensor:
    """Blurs noise with a Gaussian (cut off at 4 deviations, mirrored at the borders).

    Args:
        noise: [batch, size, size, 2], uniform in [-1, 1). Fewer rows and columns are nodes spread
            evenly over the image; they are weighted so that the field has the same variance.
        deviation: of the Gaussian, in pixels, [batch].
        strength: factor on the result, [batch].
        size: height and width, in pixels.

    Returns:
        float32 [batch, size, size, 2], in pixels.
    """
    nodes = noise.shape[1]
    step = (size - 1) / (nodes - 1)
    position = tf.range(size, dtype=tf.float32)[:, None]
    node = tf.range(nodes, dtype=tf.float32)[None, :] * step
    last = float(size - 1)
    images = [position - node, position + node, position - (2 * last - node)]
    # A node on the border is its own mirror image.
    weights = [1.0, tf.cast(node > 0, tf.float32), tf.cast(node < last, tf.float32)]
    deviation = deviation[:, None, None]
    radius = tf.floor(4.0 * deviation + 0.75)
    kernel = sum(
        weight
        * tf.exp(-0.5 * (distance / deviation) ** 2)
        * tf.cast(abs(distance) <= radius, tf.float32)
        for weight, distance in zip(weights, images, strict=True)
    )
    kernel /= tf.reduce_sum(kernel, axis=2, keepdims=True) * step**0.5
    blurred = tf.einsum("byi,bijc,bxj->byxc", kernel, noise, kernel)
    return blurred * strength[:, None, None, None]


def bump_mask(centres, radii, size) -> tf.Tensor:
    """Sums bumps ``2 exp(-d^2 / 2 radius^2)`` and clips the sum to 1.

    Args:
        centres: [batch, count, 2], (x, y) in pixels.
        radii: [batch, count], in pixels; a bump of radius 0 is none.
        size: height and width.

    Returns:
        float32 [batch, size, size].
    """
    position = tf.range(size, dtype=tf.float32)
    distance = (position - centres[..., None]) / tf.maximum(radii, 1e-3)[..., None, None]
    profiles = tf.exp(-0.5 * distance**2) * tf.cast(radii > 0, tf.float32)[..., None, None]
    # Clipping each bump before the sum, as the paper's code does, gives the same.
    bumps = tf.matmul(profiles[:, :, 1], profiles[:, :, 0], transpose_a=True)
    return tf.minimum(2.0 * bumps, 1.0)


def random_perturbation(seeds, config: PerturbationConfig, size) -> tf.Tensor:
    """Draws the displacement of each target pixel: the target at p shows what stood at p + e.

    Args:
        seeds: [batch, 2].
        config: the ranges.
        size: height and width of the target, in pixels.

    Returns:
        e, float32 [batch, size, size, 2], in pixels.
    """
    noise_seeds, field_seeds, bump_seeds, count_seeds = draws.split(seeds, 4)
    noise = draws.uniform(noise_seeds, [_NOISE_NODES, _NOISE_NODES, 2], -1.0, 1.0)
    draw = draws.uniform(field_seeds, [2])
    deviation, strength = (
        size * (low + (high - low) * draw[:, i])
        for i, (low, high) in enumerate((config.smoothness, config.strength))
    )
    most = config.count[1]
    draw = draws.uniform(bump_seeds, [most, 3])
    radii = config.radius[0] + (config.radius[1] - config.radius[0]) * draw[..., 2]
    margin = tf.minimum(3.0 * radii, size / 2)[..., None]
    centres = margin + (size - 2.0 * margin) * draw[..., :2]
    count = draws.count(count_seeds, config.probability, config.count)
    radii = tf.where(tf.range(most) < count[:, None], radii, 0.0)
    mask = bump_mask(centres, radii, size)
    return elastic_field(noise, deviation, strength, size) * mask[..., None]
