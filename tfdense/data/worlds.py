"""Pairs with depth: two cameras look at a world of surfaces, where all that they see is known."""

from typing import NamedTuple

import tensorflow as tf

from tfdense.data.random_worlds import random_world
from tfdense.data.rays import Camera, Rays, Seen, World, meet_sky, meet_surfaces
from tfdense.data.surfaces import Scene
from tfdense.data.textures import Texture, texture
from tfdense.data_config import DataConfig
from tfdense.geometry import map_to_flow

# Two depths at a pixel that differ by less than this share are of the same point.
_SAME = 1e-3
# What is less than this before a camera is not seen by it.
_BEHIND = 1e-3


class Textures(NamedTuple):
    """The images of worlds: photos [batch * photos], cut-outs [batch * objects] if any, the sky."""

    photos: Texture
    cutouts: Texture | None
    sky: Texture


def world_scene(seeds, canvases, cutouts, config: DataConfig, strength) -> tuple[Scene, tf.Tensor]:
    """Makes worlds and takes both images of them.

    Args:
        seeds: [batch, 2].
        canvases: uint8 [batch, photos, side, side, 3].
        cutouts: uint8 [batch, objects, side, side, 4], colours multiplied by alpha.
        config: sizes and ranges.
        strength: of all motions, [batch]: with 0 both images are the same.

    Returns:
        See `photograph`.
    """
    world = random_world(seeds, config, strength, canvases.shape[1:3], cutouts.shape[1:3])
    return photograph(world, textures(canvases, cutouts), config.size)


def textures(canvases, cutouts) -> Textures:
    """Prepares the images of worlds; the sky is the last photo of each."""
    flat = texture(tf.reshape(canvases, [-1, *canvases.shape[2:]]))
    sky = Texture(flat.words[canvases.shape[1] - 1 :: canvases.shape[1]], flat.side)
    if not cutouts.shape[1]:
        return Textures(flat, None, sky)
    return Textures(flat, texture(tf.reshape(cutouts, [-1, *cutouts.shape[2:]])), sky)


def photograph(world: World, images: Textures, size: int) -> tuple[Scene, tf.Tensor]:
    """Takes both images of worlds, with the flow and what hides its end.

    Args:
        world: what there is.
        images: of its surfaces.
        size: of the images, in pixels.

    Returns:
        The scene, and bool [batch, size, size]: where the source's camera does not see what the
        target shows, be that within its image or not, since it is hidden or behind the camera.
    """
    grid = tf.range(size, dtype=tf.float32)
    x, y = grid[None, None, :], grid[None, :, None]
    x, y = (tf.broadcast_to(p, [world.sky.origin.shape[0], size, size]) for p in (x, y))
    target = look(world, images, 0, x, y, size)
    position, nearness, ahead = project(target, world.cameras[1], size)
    # The image, and below it what is seen where the target's pixels lie.
    x, y = (tf.concat(p, axis=1) for p in zip((x, y), tf.unstack(position, axis=-1), strict=True))
    source = look(world, images, 1, x, y, size)
    seen = ahead & (source.layer[:, size:] == target.layer)
    seen &= tf.abs(source.nearness[:, size:] - nearness) <= _SAME * nearness
    layers = [tf.where(view.alone, view.layer, -1)[:, :size] for view in (source, target)]
    image = source.planes[:, :, :size]
    return Scene(image, target.planes, map_to_flow(position), *layers), ~seen


def look(world: World, images: Textures, view: int, x, y, size: int) -> Seen:
    """Tells what one camera sees at positions [batch, height, width], in pixels.

    Args:
        world: what there is.
        images: of its surfaces.
        view: 0 for the target's camera, 1 for the source's.
        x, y: float32 positions.
        size: of the camera's image, in pixels.
    """
    camera = world.cameras[view]
    x, y = ((p - (size - 1) / 2) / camera.focal[:, None, None] for p in (x, y))
    rays = Rays(x, y, view, 1 - view, camera, world.cameras[1 - view])
    seen = meet_sky(rays, images.sky, world.sky)
    seen = meet_surfaces(seen, rays, images.photos, world.planes)
    if images.cutouts is None:
        return seen
    count = world.planes.present.shape[1]
    return meet_surfaces(seen, rays, images.cutouts, world.objects, first=count)


def project(seen: Seen, camera: Camera, size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Tells where the other camera would see what one sees.

    Args:
        seen: by one camera.
        camera: the other one.
        size: of its image, in pixels.

    Returns:
        Positions, float32 [batch, height, width, 2], in pixels; one over the depths, [batch,
        height, width], 0 for the sky; and whether it lies before the camera at all, bool likewise.
    """
    x, y, depth = tf.unstack(seen.point, axis=1)
    ahead = depth > _BEHIND
    nearness = tf.where(ahead, 1.0 / tf.maximum(depth, _BEHIND), 0.0)
    scale = camera.focal[:, None, None] / tf.maximum(depth, _BEHIND)
    position = tf.stack([x * scale, y * scale], axis=-1) + (size - 1) / 2
    return position, tf.where(seen.layer > 0, nearness, 0.0), ahead


def relative_pose(world: World) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns R [batch, 3, 3] and t [batch, 3]: what the target has at p the source has at R p + t.

    Both positions are in the coordinates of the camera.
    """
    target, source = world.cameras
    rotation = tf.matmul(source.rotation, target.rotation, transpose_b=True)
    return rotation, tf.linalg.matvec(source.rotation, target.centre - source.centre)
