"""Random changes of colour and sharpness, which leave the geometry as it is."""

import math

import tensorflow as tf

from tfdense.data import draws
from tfdense.data.compression import compress
from tfdense.data.conditions import where_any
from tfdense.data.domains import random_domain
from tfdense.data.planes import LUMA, blur, each
from tfdense.data_config import PhotometryConfig

# What keeps the seeds of domains apart from those of the light.
_DOMAIN = 1


def random_appearance(planes, seeds, config: PhotometryConfig, noise_seeds=None) -> tf.Tensor:
    """Changes images as another domain, another camera, another light or a compression might.

    Args:
        planes: float32 [batch, 3, height, width], RGB, 0..255.
        seeds: [batch, 2].
        config: the ranges.
        noise_seeds: [batch, 2], of the noise alone: for images that get the same changes otherwise.

    Returns:
        float32 [batch, 3, height, width], 0..255.
    """
    choice_seeds, light_seeds, blur_seeds, own_seeds, jpeg_seeds = draws.split(seeds, 5)
    noise_seeds = own_seeds if noise_seeds is None else noise_seeds
    choice = draws.uniform(choice_seeds, [5])
    changed = choice[:, 0] < config.probability

    planes = random_domain(planes, draws.fold(seeds, _DOMAIN), config.domains, changed)

    def apply(planes, share, number, change):
        chosen = changed & (choice[:, number] < share)
        return where_any(chosen, lambda: tf.where(each(chosen), change(planes), planes), planes)

    grey = choice[:, 1] < config.grey
    steps = (
        (1.0, lambda x: _random_light(x, light_seeds, grey, config)),
        (config.blur, lambda x: _random_blur(x, blur_seeds, config)),
        (config.noise, lambda x: _random_noise(x, noise_seeds, config)),
        (config.jpeg, lambda x: _random_compression(x, jpeg_seeds, config)),
    )
    for number, (share, change) in enumerate(steps, 1):
        planes = apply(planes, share, number, change)
    return planes


def colour_matrix(saturation, hue) -> tf.Tensor:
    """Returns the matrices [..., 3, 3] that change saturation by a factor and turn the hue.

    Args:
        saturation: factor, [...]; 0 leaves the luma alone.
        hue: angle about the grey axis, in radians, [...].
    """
    grey = tf.constant([LUMA] * 3)
    axis = 1 / math.sqrt(3)
    cross = tf.constant([[0.0, -axis, axis], [axis, 0.0, -axis], [-axis, axis, 0.0]])
    saturation, cosine, sine = (
        tf.convert_to_tensor(x)[..., None, None] for x in (saturation, tf.cos(hue), tf.sin(hue))
    )
    turn = cosine * tf.eye(3) + sine * cross + (1.0 - cosine) * tf.fill([3, 3], 1 / 3)
    return tf.matmul(grey + saturation * (tf.eye(3) - grey), turn)


def _random_light(planes, seeds, grey, config: PhotometryConfig) -> tf.Tensor:
    """Changes saturation, hue, gamma, shading, contrast and brightness."""
    draw = draws.uniform(seeds, [7], -1.0, 1.0)
    height, width = planes.shape[2:]
    saturation = tf.where(grey, 0.0, 1.0 + draw[:, 0] * config.saturation)
    matrix = colour_matrix(saturation, draw[:, 1] * math.radians(config.hue))
    gamma = tf.exp(draw[:, 2] * config.gamma)
    slope_x, slope_y = (each(draw[:, i] * config.shading / 2) for i in (3, 4))
    shading = slope_x * tf.linspace(-1.0, 1.0, width)
    shading += slope_y * tf.linspace(-1.0, 1.0, height)[:, None]
    red, green, blue = tf.unstack(planes[:, None] / 255.0, axis=2)
    image = tf.clip_by_value(
        sum(matrix[:, :, i, None, None] * plane for i, plane in enumerate((red, green, blue))),
        0.0,
        1.0,
    )
    # A power that compilers turn into vector instructions.
    image = tf.exp(each(gamma) * tf.math.log(tf.maximum(image, 1e-6))) * (1.0 + shading)
    mean = tf.reduce_mean(image, axis=[1, 2, 3], keepdims=True)
    image = mean + (image - mean) * (1.0 + each(draw[:, 5]) * config.contrast)
    return 255.0 * tf.clip_by_value(image + each(draw[:, 6]) * config.brightness, 0.0, 1.0)


def _random_blur(planes, seeds, config: PhotometryConfig) -> tf.Tensor:
    deviation = draws.uniform(seeds, (), *config.blur_deviation)
    return blur(planes, deviation, config.blur_deviation[1])


def _random_noise(planes, seeds, config: PhotometryConfig) -> tf.Tensor:
    deviation_seeds, noise_seeds = draws.split(seeds, 2)
    deviation = each(draws.uniform(deviation_seeds) * config.noise_deviation)
    noise = deviation * draws.normal(noise_seeds, planes.shape[1:])
    return tf.clip_by_value(planes + noise, 0.0, 255.0)


def _random_compression(planes, seeds, config: PhotometryConfig) -> tf.Tensor:
    low, high = config.jpeg_quality
    return compress(planes, tf.floor(draws.uniform(seeds, (), low, high + 1)))
