"""Objects that move on their own in front of the photo.

The laws of motion are PDC-Net's ("Learning Accurate Dense Correspondences and When to Trust Them",
arXiv 2101.01710, section 3.4). Unlike there the mask leaves out all that is hidden in the source:
what an object covers there, be it photo or another object.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfdense.data.photos import ImageStore
from tfdense.data.sampling import compiled, sample_affine
from tfdense.data_config import ObjectConfig
from tfdense.geometry import flow_to_map
from tfdense.ops import warp

Cutout = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Draws an object from (seed, longer side in pixels): float32 [height, width, 4], RGB 0..255
multiplied by alpha, and alpha 0..1."""

# A pixel belongs to one layer alone if all others have at most this share of it.
_TRACE = 1 / 255

# Sides of a random convex shape.
_SIDES = 5


class Scene(NamedTuple):
    """A pair under construction.

    Attributes:
        source, target: float32 [size, size, 3], 0..255.
        flow: float32 [size, size, 2], of the foremost layer at each target pixel.
        source_layer, target_layer: float32 [size, size]: 0 is the photo, 1, 2, .. the objects from
            back to front, -1 where several share a pixel.
    """

    source: tf.Tensor
    target: tf.Tensor
    flow: tf.Tensor
    source_layer: tf.Tensor
    target_layer: tf.Tensor


def photo_scene(source, target, flow) -> Scene:
    """Begins a scene with nothing but the photo."""
    return Scene(source, target, flow, tf.zeros(source.shape[:2]), tf.zeros(source.shape[:2]))


@compiled
def visible(scene: Scene) -> tf.Tensor:
    """Tells where the match can be seen.

    Returns:
        float32 [size, size]: 1 where the target pixel shows one layer alone and its match lies in
        the source and shows the same layer, else 0.
    """
    return uncovered(scene) * warp.inside(scene.flow, *scene.flow.shape[:2])


@compiled
def uncovered(scene: Scene) -> tf.Tensor:
    """Tells where nothing hides the match (the reprojection mask of PDC-Net+).

    Returns:
        float32 [size, size]: like `visible`, and 1 too where the target pixel shows the photo alone
        and its match lies outside the source.
    """
    # The sampled source pixels (outside they count as photo, layer 0) all show layer k where mean
    # and mean square say so: E[(l - k)^2] = E[l^2] - 2 k E[l] + k^2 = 0.
    layers = tf.stack([scene.source_layer, scene.source_layer**2], axis=-1)
    mean, mean_square = tf.unstack(warp.bilinear(layers[None], scene.flow[None])[0], axis=-1)
    layer = scene.target_layer
    same = tf.logical_and(layer >= 0, mean_square - 2 * layer * mean + layer**2 < 1e-3)
    return tf.cast(same, tf.float32)


@compiled
def unmatched(scene: Scene) -> tf.Tensor:
    """Tells where there is no match to be seen.

    Returns:
        float32 [size, size]: 1 where the match lies outside the source, or behind something else
        there, else 0. Pixels that several layers share, here or there, count as neither matched
        nor unmatched.
    """
    size = scene.flow.shape[0]
    position = tf.cast(tf.round(flow_to_map(scene.flow)), tf.int32)
    x, y = tf.unstack(tf.clip_by_value(position, 0, size - 1), axis=-1)
    there = tf.gather(tf.reshape(scene.source_layer, [-1]), y * size + x)
    outside = warp.inside(scene.flow, *scene.flow.shape[:2]) == 0
    hidden = (scene.target_layer >= 0) & (there >= 0) & (there != scene.target_layer)
    return tf.cast(outside | hidden, tf.float32)


def add_object(scene: Scene, layer, cutout, place, motion) -> Scene:
    """Puts an object in front of a scene.

    Args:
        layer: number of the object, one more than that of the object before.
        cutout: float32 [height, width, 4], see `Cutout`.
        place: [2], where in the target the cut-out's first pixel stands, (x, y) in pixels.
        motion: [3, 3], the object's own affine map from target to source pixels.
    """
    height, width = scene.flow.shape[:2]
    to_cutout = _translation(-place)
    in_target = sample_affine(cutout, to_cutout, height, width)
    in_source = sample_affine(cutout, tf.matmul(to_cutout, tf.linalg.inv(motion)), height, width)
    return _stack(scene, tf.cast(layer, tf.float32), in_source, in_target, motion)


@compiled
def _stack(scene: Scene, layer, in_source, in_target, motion) -> Scene:
    height, width = scene.flow.shape[:2]
    foremost = in_target[..., 3:] >= 0.5
    return Scene(
        _over(in_source, scene.source),
        _over(in_target, scene.target),
        tf.where(foremost, _affine_flow(motion, height, width), scene.flow),
        _mark(in_source[..., 3], layer, scene.source_layer),
        _mark(in_target[..., 3], layer, scene.target_layer),
    )


def add_random_objects(scene: Scene, seed, config: ObjectConfig, cutout: Cutout) -> Scene:
    """Puts a random number of randomly moving objects in front of a scene.

    Args:
        scene: of the photo.
        seed: int [2].
        config: the ranges.
        cutout: draws what an object looks like.
    """
    size = scene.flow.shape[0]
    count_seed, objects_seed = tf.unstack(tf.random.split(seed, 2))
    draw = tf.random.stateless_uniform([2], count_seed)
    fewest, most = config.count
    count = fewest + tf.cast(draw[0] * (most - fewest + 1), tf.int32)
    count = tf.where(draw[1] < config.probability, count, 0)

    def add(layer, scene):
        drawn = _random_object(tf.random.fold_in(objects_seed, layer), config, cutout, size)
        return layer + 1, add_object(scene, layer, *drawn)

    return tf.while_loop(lambda layer, _: layer <= count, add, (1, scene))[1]


def object_motion(shift, angle, log_scale, height, width) -> tf.Tensor:
    """Returns an object's affine map: a shift, then a turn, then a change of size.

    Args:
        shift: [2], (x, y) in pixels.
        angle: in radians, counter-clockwise as seen, about the image's centre.
        log_scale: logarithm of the factor; the point that stays is a quarter of the image's size.
        height, width: of the image.

    Returns:
        [3, 3], target to source, in pixels.
    """
    centre = tf.constant([width / 2, height / 2])
    cosine, sine = tf.cos(angle), tf.sin(angle)
    turn = tf.stack([tf.stack([cosine, sine]), tf.stack([-sine, cosine])])
    scale = tf.exp(log_scale)
    offset = tf.linalg.matvec(turn, shift - centre) + centre
    offset = scale * offset + (1.0 - scale) * tf.constant([0.25 * width, 0.25 * height])
    return _affine(scale * turn, offset)


def file_cutouts(store: ImageStore) -> Cutout:
    """Draws objects from files with an alpha channel, see `photos.cutout_decoder`."""

    def draw(seed, length):
        cutout = store.read(_random_index(seed, store))
        sides = tf.cast(tf.shape(cutout)[:2], tf.float32)
        sides *= tf.cast(length, tf.float32) / tf.reduce_max(sides)
        sides = tf.maximum(tf.cast(tf.round(sides), tf.int32), 1)
        resized = tf.image.resize(cutout, sides, antialias=True)
        return tf.concat([resized[..., :3], resized[..., 3:] / 255.0], axis=-1)

    return draw


def shape_cutouts(store: ImageStore) -> Cutout:
    """Cuts random polygons and blobs from photos."""

    def draw(seed, length):
        photo_seed, place_seed, shape_seed = tf.unstack(tf.random.split(seed, 3))
        photo = store.read(_random_index(photo_seed, store))
        sides = tf.shape(photo)[:2]
        length = tf.minimum(length, tf.reduce_min(sides))
        room = tf.cast(sides - length + 1, tf.float32)
        first = tf.cast(tf.random.stateless_uniform([2], place_seed) * room, tf.int32)
        colour = tf.slice(photo, [first[0], first[1], 0], [length, length, 3])
        alpha = random_shape(shape_seed, length)[..., None]
        return tf.concat([tf.cast(colour, tf.float32) * alpha, alpha], axis=-1)

    return draw


def random_shape(seed, length) -> tf.Tensor:
    """Draws the union of two convex shapes with straight or rounded sides.

    Args:
        seed: int [2].
        length: height and width, in pixels.

    Returns:
        alpha, float32 [length, length], 0..1, smoothed over about one pixel along the edges.
    """
    angle_seed, distance_seed, rest_seed = tf.unstack(tf.random.split(seed, 3))
    jitter = tf.random.stateless_uniform([2, _SIDES], angle_seed)
    angle = 2 * math.pi * (tf.range(_SIDES, dtype=tf.float32) + jitter) / _SIDES
    half = tf.cast(length - 1, tf.float32) / 2
    distance = half * tf.random.stateless_uniform([2, _SIDES], distance_seed, 0.35, 0.8)
    rest = tf.random.stateless_uniform([3], rest_seed, -1.0, 1.0)
    offset = half * 0.25 * tf.stack([rest[:2], -rest[:2]])
    distance += tf.cos(angle) * offset[:, :1] + tf.sin(angle) * offset[:, 1:]
    position = tf.range(length, dtype=tf.float32)[:, None, None] - half
    # Distance inwards from each side, [y, x, shape, side].
    inwards = distance - position[None] * tf.cos(angle) - position[:, None] * tf.sin(angle)
    # The smooth minimum over the sides rounds the corners off; it is the lowest, by log 2 where
    # two sides meet, which is given back.
    rounding = 1.0 + tf.maximum(rest[2], 0.0) * half / 6
    inwards = rounding * (math.log(2.0) - tf.reduce_logsumexp(-inwards / rounding, axis=-1))
    border = tf.abs(tf.range(length, dtype=tf.float32) - half)
    border = half - tf.maximum(border[:, None], border[None])
    return tf.clip_by_value(tf.minimum(tf.reduce_max(inwards, axis=-1), border), 0.0, 1.0)


def _random_object(seed, config: ObjectConfig, cutout: Cutout, size):
    """Draws (cut-out, place, motion), see `add_object`."""
    cutout_seed, draw_seed = tf.unstack(tf.random.split(seed, 2))
    draw = tf.random.stateless_uniform([10], draw_seed)
    low, high = config.size
    length = tf.cast(tf.math.ceil(size * (low + (high - low) * draw[0])), tf.int32)
    image = cutout(cutout_seed, length)
    centre = draw[1:3] * size
    signed = 2.0 * draw[3:7] - 1.0
    anywhere = draw[7:9] * size - centre
    shift = tf.where(draw[9] < config.nudge_probability, signed[:2] * config.nudge, anywhere)
    angle = signed[2] * math.radians(config.rotation)
    motion = object_motion(shift, angle, signed[3] * config.log_scale, size, size)
    # Whole pixels, so that the object is as sharp in the target as its photo.
    extent = tf.cast(tf.shape(image)[1::-1], tf.float32)
    return image, tf.round(centre - extent / 2), motion


def _random_index(seed, store: ImageStore) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed, 0, len(store), tf.int64)


def _affine_flow(transform, height, width) -> tf.Tensor:
    x, y = tf.range(width, dtype=tf.float32), tf.range(height, dtype=tf.float32)
    change = transform[:2] - tf.eye(2, 3)
    return x[:, None] * change[:, 0] + (y[:, None, None] * change[:, 1] + change[:, 2])


def _over(front, image) -> tf.Tensor:
    return front[..., :3] + (1.0 - front[..., 3:]) * image


def _mark(alpha, layer, layers) -> tf.Tensor:
    marked = tf.where(alpha >= 1 - _TRACE, layer, -1.0)
    return tf.where(alpha <= _TRACE, layers, marked)


def _affine(linear, offset) -> tf.Tensor:
    return tf.concat([tf.concat([linear, offset[:, None]], axis=1), [[0.0, 0.0, 1.0]]], axis=0)


def _translation(shift) -> tf.Tensor:
    return _affine(tf.eye(2), shift)
