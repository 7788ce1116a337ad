"""What both images of a pair show: a bent photo and, in front of it, objects.

Every surface has its texture and its place in both images; the foremost one at a target pixel says
where its match is.
"""

from typing import NamedTuple

import tensorflow as tf

from tfdense.data import matrices
from tfdense.data.cameras import View
from tfdense.data.objects import Objects
from tfdense.data.textures import Texture, mirrored, sample
from tfdense.geometry import flow_to_map, pixel_grid

# A pixel belongs to one layer alone if all others have at most this share of it.
_TRACE = 1 / 255


class Scene(NamedTuple):
    """A pair before its light changes.

    Attributes:
        source, target: float32 [batch, 3, size, size], 0..255: planes of one colour each.
        flow: float32 [batch, size, size, 2], of the foremost layer at each target pixel.
        source_layer, target_layer: int32 [batch, size, size], see `tfdense.data.masks`.
    """

    source: tf.Tensor
    target: tf.Tensor
    flow: tf.Tensor
    source_layer: tf.Tensor
    target_layer: tf.Tensor


def photo_scene(photo: Texture, view: View, flow) -> Scene:
    """Begins a scene with nothing but the photo.

    Args:
        photo: the photos, [batch]; beyond their borders stand mirror images.
        view: where the source lies in them.
        flow: float32 [batch, size, size, 2], from the target to the source.
    """
    batch, height, width = flow.shape[:3]
    grid = tf.broadcast_to(pixel_grid(height, width), flow.shape)
    enlarged = tf.reduce_prod(tf.abs(view.scale), axis=-1)[:, None, None]
    mapping = flow_to_map(flow)

    def image(position, area):
        x, y = (mirrored(p, photo.side) for p in view.position(*tf.unstack(position, axis=-1)))
        return sample(photo, x, y, area)[:, :3]

    layer = tf.zeros([batch, height, width], tf.int32)
    return Scene(
        image(grid, enlarged), image(mapping, enlarged * _area(mapping)), flow, layer, layer
    )


def add_objects(scene: Scene, cutouts: Texture, objects: Objects) -> Scene:
    """Puts objects in front of a scene, the last one foremost.

    Args:
        scene: of the photo.
        cutouts: what they look like, [batch * count]; colours multiplied by alpha.
        objects: where they are.
    """
    batch, count = objects.present.shape
    height, width = scene.flow.shape[1:3]
    to_source = tf.matmul(objects.to_cutout, matrices.inverse(objects.motion))
    in_target = _cut_out(cutouts, objects.to_cutout, objects.present, height, width)
    in_source = _cut_out(cutouts, to_source, objects.present, height, width)
    source, target, flow, source_layer, target_layer = scene
    motions = _affine_flow(objects.motion, height, width)
    for i in range(count):
        foremost = in_target[:, i, 3] >= 255 / 2
        flow = tf.where(foremost[..., None], motions[:, i], flow)
        source, source_layer = _over(in_source[:, i], i + 1, source, source_layer)
        target, target_layer = _over(in_target[:, i], i + 1, target, target_layer)
    return Scene(source, target, flow, source_layer, target_layer)


def _cut_out(cutouts: Texture, transform, present, height, width) -> tf.Tensor:
    """Samples the cut-outs in the image's pixels, [batch, count, 4, height, width]."""
    batch, count = present.shape
    x = tf.range(width, dtype=tf.float32)
    y = tf.range(height, dtype=tf.float32)[:, None]
    transform = tf.reshape(transform, [-1, 3, 3])
    x, y, _ = matrices.transform(transform, x, y)
    linear = transform[:, :2, :2]
    area = tf.abs(linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0])
    sampled = sample(cutouts, x, y, area[:, None, None])
    sampled = tf.reshape(sampled, [batch, count, 4, height, width])
    return tf.where(present[..., None, None, None], sampled, 0.0)


def _over(front, number: int, image, layer) -> tuple[tf.Tensor, tf.Tensor]:
    """Puts RGB and alpha [batch, 4, height, width] over an image and into its map of layers."""
    alpha = front[:, 3] / 255.0
    marked = tf.where(alpha >= 1 - _TRACE, number, -1)
    return (
        front[:, :3] + (1.0 - alpha[:, None]) * image,
        tf.where(alpha <= _TRACE, layer, marked),
    )


def _area(mapping) -> tf.Tensor:
    """Returns how many source pixels one target pixel of a map covers, from its differences."""
    across = mapping[:, :, 1:] - mapping[:, :, :-1]
    down = mapping[:, 1:] - mapping[:, :-1]
    across = tf.pad(across, [[0, 0], [0, 0], [0, 1], [0, 0]], "SYMMETRIC")
    down = tf.pad(down, [[0, 0], [0, 1], [0, 0], [0, 0]], "SYMMETRIC")
    return tf.abs(across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0])


def _affine_flow(transform, height, width) -> tf.Tensor:
    x = tf.range(width, dtype=tf.float32)
    y = tf.range(height, dtype=tf.float32)[:, None]
    moved = matrices.transform(transform - tf.eye(3), x, y)
    return tf.stack(moved[:2], axis=-1)
