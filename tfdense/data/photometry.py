"""Random changes of colour and sharpness, which leave the geometry as it is."""

import math

import tensorflow as tf

from tfdense.data.sampling import compiled
from tfdense.data_config import PhotometryConfig

# Luma of ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


def random_photometry(image, seed, config: PhotometryConfig, noise_seed=None) -> tf.Tensor:
    """Changes an image as another camera, another light or a compression might.

    Args:
        image: float32 [height, width, 3], RGB, 0..255.
        seed: int [2].
        config: the ranges.
        noise_seed: int [2], of the noise alone: two images that get the same changes otherwise.

    Returns:
        float32 [height, width, 3], 0..255.
    """
    choice_seed, light_seed, blur_seed, own_seed, jpeg_seed = tf.unstack(tf.random.split(seed, 5))
    noise_seed = own_seed if noise_seed is None else noise_seed
    choice = tf.random.stateless_uniform([5], choice_seed)

    def change():
        changed = _random_light(image, light_seed, choice[1] < config.grey, config)
        for chance, share, alter, alter_seed in (
            (choice[2], config.blur, _random_blur, blur_seed),
            (choice[3], config.noise, _random_noise, noise_seed),
            (choice[4], config.jpeg, _random_compression, jpeg_seed),
        ):
            changed = tf.cond(
                chance < share,
                lambda alter=alter, x=changed, s=alter_seed: alter(x, s, config),
                lambda x=changed: x,
            )
        return tf.clip_by_value(changed, 0.0, 255.0)

    return tf.cond(choice[0] < config.probability, change, lambda: image)


def blur(image, deviation, largest_deviation) -> tf.Tensor:
    """Blurs an image with a Gaussian, mirrored at the borders.

    Args:
        image: float32 [height, width, channels].
        deviation: of the Gaussian, in pixels.
        largest_deviation: number that bounds it: the kernel reaches three times as far.
    """
    radius = min(math.ceil(3 * largest_deviation), min(image.shape[:2]) - 1)
    distance = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernel = tf.exp(-0.5 * (distance / tf.maximum(deviation, 1e-3)) ** 2)
    kernel /= tf.reduce_sum(kernel)
    planes = tf.transpose(image, [2, 0, 1])[..., None]
    planes = tf.pad(planes, [[0, 0], [radius, radius], [radius, radius], [0, 0]], "REFLECT")
    planes = tf.nn.conv2d(planes, kernel[:, None, None, None], 1, "VALID")
    planes = tf.nn.conv2d(planes, kernel[None, :, None, None], 1, "VALID")
    return tf.transpose(planes[..., 0], [1, 2, 0])


def colour_matrix(saturation, hue) -> tf.Tensor:
    """Returns the matrix [3, 3] that changes saturation by a factor and turns the hue.

    Args:
        saturation: factor; 0 leaves the luma alone.
        hue: angle about the grey axis, in radians.
    """
    grey = tf.constant([_LUMA] * 3)
    axis = 1 / math.sqrt(3)
    cross = tf.constant([[0.0, -axis, axis], [axis, 0.0, -axis], [-axis, axis, 0.0]])
    cosine, sine = tf.cos(hue), tf.sin(hue)
    turn = cosine * tf.eye(3) + sine * cross + (1.0 - cosine) * tf.fill([3, 3], 1 / 3)
    return tf.matmul(grey + saturation * (tf.eye(3) - grey), turn)


def _random_light(image, seed, grey, config: PhotometryConfig) -> tf.Tensor:
    """Changes saturation, hue, gamma, shading, contrast and brightness."""
    draw = tf.random.stateless_uniform([7], seed, -1.0, 1.0)
    saturation = tf.where(grey, 0.0, 1.0 + draw[0] * config.saturation)
    return _develop(
        image,
        matrix=colour_matrix(saturation, draw[1] * math.radians(config.hue)),
        gamma=tf.exp(draw[2] * config.gamma),
        slope=draw[3:5] * config.shading / 2,
        contrast=1.0 + draw[5] * config.contrast,
        brightness=draw[6] * config.brightness,
    )


@compiled
def _develop(image, matrix, gamma, slope, contrast, brightness) -> tf.Tensor:
    height, width, _ = image.shape
    shading = slope[0] * tf.linspace(-1.0, 1.0, width)
    shading += slope[1] * tf.linspace(-1.0, 1.0, height)[:, None]
    image = tf.matmul(image / 255.0, matrix[None], transpose_b=True)
    image = tf.clip_by_value(image, 0.0, 1.0) ** gamma * (1.0 + shading[..., None])
    mean = tf.reduce_mean(image)
    return 255.0 * tf.clip_by_value(mean + (image - mean) * contrast + brightness, 0.0, 1.0)


def _random_blur(image, seed, config: PhotometryConfig) -> tf.Tensor:
    deviation = tf.random.stateless_uniform([], seed, *config.blur_deviation)
    return blur(image, deviation, config.blur_deviation[1])


def _random_noise(image, seed, config: PhotometryConfig) -> tf.Tensor:
    deviation_seed, noise_seed = tf.unstack(tf.random.split(seed, 2))
    deviation = tf.random.stateless_uniform([], deviation_seed) * config.noise_deviation
    return image + deviation * tf.random.stateless_normal(image.shape, noise_seed)


def _random_compression(image, seed, config: PhotometryConfig) -> tf.Tensor:
    low, high = config.jpeg_quality
    quality = tf.random.stateless_uniform([], seed, low, high + 1, tf.int32)
    pixels = tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)
    compressed = tf.cast(tf.image.adjust_jpeg_quality(pixels, quality), tf.float32)
    return tf.ensure_shape(compressed, image.shape)
