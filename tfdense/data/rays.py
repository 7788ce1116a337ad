"""What the rays of a camera meet: the foremost of a few surfaces, by a depth test at each ray."""

from typing import NamedTuple

import tensorflow as tf

from tfdense.data import matrices
from tfdense.data.cameras import View
from tfdense.data.conditions import where_any
from tfdense.data.relief import Relief, meet
from tfdense.data.textures import Texture, mirrored, sample

# Surfaces nearer than the one or farther than the other are not seen, in units of the world.
_NEAREST, _FARTHEST = 0.05, 100.0
# A pixel shows one surface alone if all others have at most this share of it.
_TRACE = 1 / 255
# Ratio of the sides of what a pixel covers, up to which its area alone counts.
_LONGEST = 6.0


class Camera(NamedTuple):
    """A pinhole camera; x points right, y down, z forward.

    Attributes:
        rotation: [batch, 3, 3], from the world to the camera.
        centre: [batch, 3], in the world.
        focal: [batch], in pixels; the principal point is the image's centre.
    """

    rotation: tf.Tensor
    centre: tf.Tensor
    focal: tf.Tensor


class Surfaces(NamedTuple):
    """Rectangles in space, or reliefs over them, with a texture.

    Attributes:
        axes: [views, batch, count, 3, 3], orthonormal: the columns are the directions of u, v and
            w, where w is across; the views are the target and the source.
        origin: [views, batch, count, 3], where u, v and w are 0, in the world.
        extent: [batch, count, 2]: they reach over -extent..extent in u and v.
        view: [batch, count, 2] each: the texture has (u, v) at the pixel ``origin + scale (u, v)``.
        image: int32 [batch, count], number of the texture of each.
        present: bool [batch, count]; the present ones come first.
        relief: [batch, count, ..]; None if all are flat.
    """

    axes: tf.Tensor
    origin: tf.Tensor
    extent: tf.Tensor
    view: View
    image: tf.Tensor
    present: tf.Tensor
    relief: Relief | None = None


class World(NamedTuple):
    """What there is to be seen.

    Attributes:
        cameras: of the target and of the source.
        sky: what is infinitely far, see `meet_sky`.
        planes: textured with photos.
        objects: textured with cut-outs.
    """

    cameras: tuple[Camera, Camera]
    sky: View
    planes: Surfaces
    objects: Surfaces


class Seen(NamedTuple):
    """What rays meet.

    Attributes:
        planes: float32 [batch, 3, height, width], RGB, 0..255.
        layer: int32 [batch, height, width], of the foremost surface: its number + 1, 0 for the sky.
        alone: bool [batch, height, width], whether a ray meets nothing else.
        nearness: float32 [batch, height, width], one over the depth; 0 for the sky.
        point: float32 [batch, 3, height, width], what is met as seen from another camera: (x, y, z)
            in its coordinates, in the other view; of the sky the direction.
    """

    planes: tf.Tensor
    layer: tf.Tensor
    alone: tf.Tensor
    nearness: tf.Tensor
    point: tf.Tensor


class Rays(NamedTuple):
    """Rays of one camera, and the camera from which what they meet is seen too.

    Attributes:
        x, y: [batch, height, width] or broadcasting to it: directions are (x, y, 1) in the camera.
        view, other_view: which place of the surfaces either camera sees.
        camera, other: the cameras.
    """

    x: tf.Tensor
    y: tf.Tensor
    view: int
    other_view: int
    camera: Camera
    other: Camera


def meet_sky(rays: Rays, texture: Texture, view: View) -> Seen:
    """Begins with what is infinitely far: an image in stereographic projection about the z axis.

    Args:
        rays: of the camera.
        texture: [batch].
        view: [batch, 2] each, where the image shows what is at (x, y) / (1 + z) for a direction
            (x, y, z) of length 1.
    """
    to_world = tf.linalg.matrix_transpose(rays.camera.rotation)
    direction = matrices.transform(to_world, rays.x, rays.y)
    point = matrices.transform(tf.matmul(rays.other.rotation, to_world), rays.x, rays.y)
    length = tf.sqrt(rays.x**2 + rays.y**2 + 1.0)
    ahead = tf.maximum(length + direction[2], 1e-3)
    u, v = view.position(direction[0] / ahead, direction[1] / ahead)
    u, v = (mirrored(position, texture.side) for position in (u, v))
    scale = tf.abs(view.scale[:, :1, None] * view.scale[:, 1:, None])
    scale /= rays.camera.focal[:, None, None] ** 2
    area = scale / (ahead**2 * length)
    layer = tf.zeros_like(u, tf.int32)
    planes = sample(texture, u, v, area)[:, :3]
    return Seen(planes, layer, layer == 0, tf.zeros_like(u), tf.stack(point, axis=1))


def meet_surfaces(seen: Seen, rays: Rays, textures: Texture, surfaces: Surfaces, first=0) -> Seen:
    """Puts surfaces into what is seen, each in front of what is farther.

    Args:
        seen: what there is already.
        rays: those of `seen`.
        textures: some for each pair, [batch * images].
        surfaces: of the world.
        first: number of the first of them.
    """
    last = tf.reduce_max(tf.reduce_sum(tf.cast(surfaces.present, tf.int32), axis=1))
    images = textures.words.shape[0] // surfaces.present.shape[0]
    begin = images * tf.range(surfaces.present.shape[0])

    def add(number, seen: Seen):
        def at(part, axis):
            return None if part is None else tf.gather(part, number, axis=axis)

        axes, origin = (at(part, 2) for part in (surfaces.axes, surfaces.origin))
        view = View(*(at(part, 1) for part in surfaces.view))
        relief = surfaces.relief and Relief(*(at(part, 1) for part in surfaces.relief))
        met = _meet(rays, axes, origin, at(surfaces.extent, 1), relief)
        nearer = at(surfaces.present, 1)[:, None, None] & (met.nearness > seen.nearness)
        met = met._replace(cover=tf.where(nearer, met.cover, 0.0))

        def with_surface():
            words = tf.gather(textures.words, begin + at(surfaces.image, 1))
            front = _shown(met, Texture(words, textures.side), view)
            point = _seen_from(rays, axes, origin, met)
            return _over(front, first + number + 1, met.nearness, point, seen)

        shows = tf.reduce_any(met.cover > 0.0, axis=[1, 2])
        return number + 1, where_any(shows, with_surface, seen)

    return tf.while_loop(lambda number, _: number < last, add, (0, seen))[1]


class _Met(NamedTuple):
    """Where rays meet one surface.

    Attributes:
        place: (u, v, w), [batch, height, width] each.
        nearness: as in `Seen`.
        cover: the share of each pixel that lies within the border.
        area: how much of the surface a pixel covers.
    """

    place: tuple
    nearness: tf.Tensor
    cover: tf.Tensor
    area: tf.Tensor


def _meet(rays: Rays, axes, origin, extent, relief: Relief | None) -> _Met:
    own, camera = axes[rays.view], rays.camera
    start = tf.linalg.matvec(own, camera.centre - origin[rays.view], transpose_a=True)
    turn = tf.matmul(own, camera.rotation, transpose_a=True, transpose_b=True)
    direction = matrices.transform(turn, rays.x, rays.y)
    begin = [part[:, None, None] for part in tf.unstack(start, axis=-1)]
    nearness = -direction[2] / begin[2]
    depth = 1.0 / _nonzero(nearness)
    if relief is not None:
        bent = relief.height > 0.0
        depth = where_any(bent, lambda: meet(relief, start, direction, depth), depth)
        nearness = 1.0 / _nonzero(depth)
    place = tuple(p + depth * along for p, along in zip(begin, direction, strict=True))
    # How far a step to the next pixel leads along the surface, as if it were flat.
    step = depth / camera.focal[:, None, None]
    lean = step / _nonzero(direction[2])
    (u_x, u_y), (v_x, v_y) = (
        [
            step * turn[:, i, j, None, None] - lean * direction[i] * turn[:, 2, j, None, None]
            for j in range(2)
        ]
        for i in range(2)
    )
    # What covers a long strip of the texture needs a more reduced copy than its area says.
    long = (u_x**2 + u_y**2 + v_x**2 + v_y**2) / _LONGEST
    area = tf.maximum(tf.abs(u_x * v_y - u_y * v_x), long)
    cover = tf.cast((nearness > 1.0 / _FARTHEST) & (nearness < 1.0 / _NEAREST), tf.float32)
    for number, (step_x, step_y) in enumerate(((u_x, u_y), (v_x, v_y))):
        inside = extent[:, number, None, None] - tf.abs(place[number])
        inside /= tf.maximum(tf.sqrt(step_x**2 + step_y**2), 1e-9)
        cover = tf.minimum(cover, tf.clip_by_value(0.5 + inside, 0.0, 1.0))
    return _Met(place, nearness, cover, area)


def _shown(met: _Met, texture: Texture, view: View) -> tf.Tensor:
    """Returns RGB, multiplied by alpha, and alpha, float32 [batch, 4, height, width], 0..255."""
    area = met.area * tf.abs(tf.reduce_prod(view.scale, axis=-1))[:, None, None]
    x, y = (mirrored(position, texture.side) for position in view.position(*met.place[:2]))
    return met.cover[:, None] * sample(texture, x, y, area)


def _seen_from(rays: Rays, axes, origin, met: _Met) -> tf.Tensor:
    """Returns where the other camera sees what is met, [batch, 3, height, width]."""
    turn = tf.matmul(rays.other.rotation, axes[rays.other_view])
    shift = tf.linalg.matvec(rays.other.rotation, origin[rays.other_view] - rays.other.centre)
    point = [
        sum(turn[:, i, j, None, None] * met.place[j] for j in range(3)) + shift[:, i, None, None]
        for i in range(3)
    ]
    return tf.stack(point, axis=1)


def _over(front, layer, nearness, point, seen: Seen) -> Seen:
    alpha = front[:, 3] / 255.0
    foremost = alpha >= 0.5
    return Seen(
        front[:, :3] + (1.0 - alpha[:, None]) * seen.planes,
        tf.where(foremost, layer, seen.layer),
        tf.where(alpha <= _TRACE, seen.alone, alpha >= 1.0 - _TRACE),
        tf.where(foremost, nearness, seen.nearness),
        tf.where(foremost[:, None], point, seen.point),
    )


def _nonzero(values) -> tf.Tensor:
    return tf.where(tf.abs(values) < 1e-9, 1e-9, values)
