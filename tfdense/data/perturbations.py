"""Local elastic perturbations, which a network cannot predict from their surroundings.

"Learning Accurate Dense Correspondences and When to Trust Them" (arXiv 2101.01710), section 3.4:
smooth noise, limited to a few small places.
"""

import tensorflow as tf

from tfdense.data_config import PerturbationConfig

# The noise stands on nodes much closer to each other than the blur that follows is wide.
_NOISE_NODES = 33


def elastic_field(noise, deviation, strength, size) -> tf.Tensor:
    """Blurs noise with a Gaussian (cut off at 4 deviations, mirrored at the borders).

    Args:
        noise: [size, size, 2], uniform in [-1, 1). Fewer rows and columns are nodes spread evenly
            over the image; they are weighted so that the field has the same variance.
        deviation: of the Gaussian, in pixels.
        strength: factor on the result.
        size: height and width, in pixels.

    Returns:
        float32 [size, size, 2], in pixels.
    """
    nodes = noise.shape[0]
    step = (size - 1) / (nodes - 1)
    position = tf.range(size, dtype=tf.float32)[:, None]
    node = tf.range(nodes, dtype=tf.float32)[None, :] * step
    last = float(size - 1)
    images = [position - node, position + node, position - (2 * last - node)]
    # A node on the border is its own mirror image.
    weights = [1.0, tf.cast(node > 0, tf.float32), tf.cast(node < last, tf.float32)]
    radius = tf.floor(4.0 * deviation + 0.75)
    kernel = sum(
        weight
        * tf.exp(-0.5 * (distance / deviation) ** 2)
        * tf.cast(abs(distance) <= radius, tf.float32)
        for weight, distance in zip(weights, images, strict=True)
    )
    kernel /= tf.reduce_sum(kernel, axis=1, keepdims=True) * step**0.5
    planes = tf.transpose(noise, [2, 0, 1])
    blurred = tf.matmul(tf.matmul(kernel[None], planes), kernel[None], transpose_b=True)
    return tf.transpose(blurred, [1, 2, 0]) * strength


def bump_mask(centres, radii, size) -> tf.Tensor:
    """Sums bumps ``2 exp(-d^2 / 2 radius^2)`` and clips the sum to 1.

    Args:
        centres: [count, 2], (x, y) in pixels.
        radii: [count], in pixels.
        size: height and width.

    Returns:
        float32 [size, size].
    """
    position = tf.range(size, dtype=tf.float32)
    profiles = tf.exp(-0.5 * ((position[:, None, None] - centres) / radii[:, None]) ** 2)
    # Clipping each bump before the sum, as the paper's code does, gives the same.
    bumps = tf.matmul(profiles[..., 1], profiles[..., 0], transpose_b=True)
    return tf.minimum(2.0 * bumps, 1.0)


def random_perturbation(seed, config: PerturbationConfig, size) -> tf.Tensor:
    """Draws the displacement of each target pixel: the target at p shows what stood at p + e.

    Args:
        seed: int [2].
        config: the ranges.
        size: height and width of the target, in pixels.

    Returns:
        e, float32 [size, size, 2], in pixels.
    """
    seeds = tf.unstack(tf.random.split(seed, 5))
    noise = tf.random.stateless_uniform([_NOISE_NODES, _NOISE_NODES, 2], seeds[0], -1.0, 1.0)
    deviation = tf.random.stateless_uniform([], seeds[1], *config.smoothness) * size
    strength = tf.random.stateless_uniform([], seeds[2], *config.strength) * size
    fewest, most = config.count
    draw = tf.random.stateless_uniform([most, 3], seeds[3])
    radii = config.radius[0] + (config.radius[1] - config.radius[0]) * draw[:, 2]
    margin = tf.minimum(3.0 * radii, size / 2)[:, None]
    centres = margin + (size - 2.0 * margin) * draw[:, :2]
    control = tf.random.stateless_uniform([2], seeds[4])
    count = fewest + tf.cast(control[0] * (most - fewest + 1), tf.int32)
    count = tf.where(control[1] < config.probability, count, 0)
    mask = bump_mask(centres[:count], radii[:count], size)
    return elastic_field(noise, deviation, strength, size) * mask[..., None]
