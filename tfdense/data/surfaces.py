"""What both images of a pair show: a bent photo and, in front of it, objects.

Every surface has its texture and its place in both images; the foremost one at a target pixel says
where its match is.
"""

from typing import NamedTuple

import tensorflow as tf

from tfdense.data import matrices
from tfdense.data.cameras import View
from tfdense.data.objects import Objects
from tfdense.data.textures import Texture, mirrored, sample, texture
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
    mapping = flow_to_map(flow)
    seen = tf.concat([tf.broadcast_to(pixel_grid(*flow.shape[1:3]), flow.shape), mapping], axis=0)
    area = tf.concat([tf.ones(flow.shape[:3]), _area(mapping)], axis=0)
    views = View(*(tf.tile(part, [2, 1]) for part in view))
    x, y = (mirrored(p, photo.side) for p in views.position(*tf.unstack(seen, axis=-1)))
    area *= tf.reduce_prod(tf.abs(views.scale), axis=-1)[:, None, None]
    source, target = tf.split(sample(photo, x, y, area)[:, :3], 2)
    layer = tf.zeros(flow.shape[:3], tf.int32)
    return Scene(source, target, flow, layer, layer)


def add_objects(scene: Scene, cutouts, objects: Objects) -> Scene:
    """Puts objects in front of a scene, the last one foremost.

    Args:
        scene: of the photo.
        cutouts: uint8 [batch, count, side, side, 4], colours multiplied by alpha.
        objects: where they are; the present ones come first.
    """
    size = scene.flow.shape[1:3]
    to_source = tf.matmul(objects.to_cutout, matrices.inverse(objects.motion))
    to_cutouts = tf.concat([to_source, objects.to_cutout], axis=0)
    last = tf.reduce_max(tf.reduce_sum(tf.cast(objects.present, tf.int32), axis=1))

    def add(number, scene: Scene):
        cutout = texture(tf.gather(cutouts, number, axis=1))
        here = tf.gather(objects.present, number, axis=1)
        views = _cut_out(cutout, tf.gather(to_cutouts, number, axis=1), size)
        in_source, in_target = (
            tf.where(here[:, None, None, None], view, 0.0) for view in tf.split(views, 2)
        )
        foremost = in_target[:, 3] >= 255 / 2
        moved = _affine_flow(tf.gather(objects.motion, number, axis=1), *size)
        number += 1
        source, source_layer = _over(in_source, number, scene.source, scene.source_layer)
        target, target_layer = _over(in_target, number, scene.target, scene.target_layer)
        flow = tf.where(foremost[..., None], moved, scene.flow)
        return number, Scene(source, target, flow, source_layer, target_layer)

    return tf.while_loop(lambda number, _: number < last, add, (0, scene))[1]


def _cut_out(cutouts: Texture, to_cutout, size) -> tf.Tensor:
    """Samples cut-outs in the pixels of images, float32 [n, 4, height, width]."""
    x = tf.range(size[1], dtype=tf.float32)
    y = tf.range(size[0], dtype=tf.float32)[:, None]
    x, y, _ = matrices.transform(to_cutout, x, y)
    (a, b), (c, d) = (tf.unstack(row, axis=-1) for row in tf.unstack(to_cutout[:, :2, :2], axis=1))
    return sample(cutouts, x, y, tf.abs(a * d - b * c)[:, None, None])


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
