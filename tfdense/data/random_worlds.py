"""Random worlds: a wall, the ground, panels, reliefs and objects, and two cameras before them.

The unit is about the distance of the cameras from the middle of the scene, which lies at (0, 0, 1);
x points right, y down. Without any motion both cameras are at the origin and look along z.
"""

import math

import tensorflow as tf

from tfdense.data import draws, matrices
from tfdense.data.cameras import View
from tfdense.data.canvases import MARGIN
from tfdense.data.rays import Camera, Surfaces, World
from tfdense.data.relief import WAVES, Relief
from tfdense.data_config import DataConfig, WorldsConfig

_MIDDLE = (0.0, 0.0, 1.0)
# The wall is that much farther than the farthest panel, and it and the ground reach so far.
_WALL_DEPTH, _WALL_EXTENT, _GROUND_EXTENT = (1.0, 1.5), (1.0, 3.0), 8.0
# The ground lies so far below the cameras; a panel reaches so far, as share of its depth.
_GROUND_DEPTH, _PANEL_EXTENT = (0.25, 0.6), (0.2, 0.6)
# Objects are so far; those and their like stand roughly upright.
_OBJECT_DEPTH, _UPRIGHT = (0.4, 1.2), 20.0


def random_world(seeds, config: DataConfig, strength, photos, cutouts) -> World:
    """Draws worlds.

    Args:
        seeds: [batch, 2].
        config: the ranges.
        strength: of all motions, [batch].
        photos: number and side of the photos of a world.
        cutouts: number and side of the cut-outs of a world.
    """
    camera_seeds, ground_seeds, plane_seeds, sky_seeds, object_seeds = draws.split(seeds, 5)
    ground = draws.uniform(ground_seeds, [2])
    below = _between(_GROUND_DEPTH, ground[:, 1])
    has_ground = ground[:, 0] < config.worlds.ground
    cameras, focal = _random_cameras(
        camera_seeds, config, strength, tf.where(has_ground, below, 1.0)
    )
    draw = draws.uniform(sky_seeds, [4])
    sky = _random_view(draw, 2.0 * focal, photos[1], config)
    planes = _random_planes(plane_seeds, config, focal, tf.where(has_ground, below, -1.0), photos)
    objects = _random_objects(object_seeds, config, focal, strength, cutouts)
    return World(cameras, sky, planes, objects)


def _random_cameras(seeds, config: DataConfig, strength, below):
    """Draws both cameras and the focal length without zoom; none sinks to `below` the middle."""
    worlds = config.worlds
    draw = draws.uniform(seeds, [14])
    field = _between([math.radians(angle) for angle in worlds.field_of_view], draw[:, 0])
    focal = 0.5 * config.size / tf.tan(0.5 * field)
    baseline = _between_logarithms(worlds.baseline, draw[:, 1])
    weak = tf.sqrt(baseline / worlds.baseline[1]) * strength
    angle = strength * baseline * (math.pi / 180)
    # To move about a level axis is to rise or sink.
    level = tf.clip_by_value(0.5 * below / tf.sin(tf.maximum(angle, 1e-3)), 0.0, 1.0)
    level *= tf.sin(math.pi * (draw[:, 2] - 0.5))
    side = tf.where(draw[:, 3] < 0.5, -1.0, 1.0)
    axis = tf.stack([level, side * tf.sqrt(1.0 - level**2), 0.0 * level], axis=-1)
    approach = strength * tf.math.log(_between_logarithms(worlds.approach, draw[:, 4]))
    zoom = strength * tf.math.log(_between_logarithms(worlds.zoom, draw[:, 5]))
    zoom = tf.where(draw[:, 6] < worlds.zoom_probability, zoom, 0.0)
    cameras = []
    for part, own in ((-draw[:, 7], draw[:, 8:11]), (1.0 - draw[:, 7], draw[:, 11:14])):
        about = matrices.turn(axis, part * angle)
        centre = tf.constant(_MIDDLE) - about[..., 2] * tf.exp(part * approach)[:, None]
        own = (2.0 * own - 1.0) * weak[:, None]
        pan = worlds.pan * field[:, None] * own[:, :2]
        roll = math.radians(worlds.rotation) * own[:, 2]
        facing = _about(1, pan[:, 0]) @ _about(0, pan[:, 1])
        rotation = _about(2, roll) @ facing @ tf.linalg.matrix_transpose(about)
        cameras.append(Camera(rotation, centre, focal * tf.exp(part * zoom)))
    return tuple(cameras), focal


def _random_planes(seeds, config: DataConfig, focal, below, photos) -> Surfaces:
    """Draws the wall, the ground where `below` is positive, and panels."""
    worlds = config.worlds
    count_seeds, place_seeds, view_seeds, *relief_seeds = draws.split(seeds, 5)
    most = worlds.surfaces[1]
    draw = draws.uniform(place_seeds, [most, 8])
    number = tf.range(most)
    is_wall = number == 0
    is_ground = (number == 1) & (below > 0.0)[:, None]
    depth = _between_logarithms(worlds.depth, draw[..., 0])
    depth = tf.where(is_wall, worlds.depth[1] * _between(_WALL_DEPTH, draw[..., 0]), depth)
    reach = (0.5 * config.size / focal)[:, None, None] * depth[..., None]
    origin = tf.concat([reach * (2.0 * draw[..., 1:3] - 1.0), depth[..., None]], axis=-1)
    origin *= tf.where(is_wall[:, None], [0.3, 0.3, 1.0], 1.0)
    height = tf.stack([0.0 * below, below, 0.0 * below + 1.0], axis=-1)[:, None]
    origin = tf.where(is_ground[..., None], height, origin)
    extent = depth[..., None] * _between(_PANEL_EXTENT, draw[..., 3:5])
    wall = depth[..., None] * _between(_WALL_EXTENT, draw[..., 3:5])
    extent = tf.where(is_wall[:, None], wall, extent)
    extent = tf.where(is_ground[..., None], _GROUND_EXTENT, extent)
    # The wall turns half as far as panels; the ground is nearly level.
    tilt = tf.where(is_wall, 0.5, 1.0) * math.radians(worlds.tilt) * draw[..., 5]
    tilt = tf.where(is_ground, math.radians(8.0) * draw[..., 5], tilt)
    axes = _random_axes(tilt, draw[..., 6:8])
    axes = tf.where(is_ground[..., None, None], _about(0, -math.pi / 2) @ axes, axes)
    view_draw = draws.uniform(view_seeds, [most, 4])
    near = tf.where(is_ground, 2.0 * below[:, None], depth)
    view = _random_view(view_draw, focal[:, None] / near, photos[1], config)
    size_draw = draws.uniform(count_seeds)
    count = worlds.surfaces[0] + tf.cast(
        size_draw * (worlds.surfaces[1] - worlds.surfaces[0] + 1), tf.int32
    )
    relief = None
    if worlds.relief:
        relief = _random_relief(relief_seeds, worlds, tf.minimum(near, 1.0), extent)
    return Surfaces(
        tf.stack([axes, axes]),
        tf.stack([origin, origin]),
        extent,
        view,
        tf.broadcast_to(number % photos[0], depth.shape),
        number < count[:, None],
        relief,
    )


def _random_relief(seeds, worlds: WorldsConfig, scale, extent) -> Relief:
    """Draws reliefs, as high and as wide as a scale [batch, count] has it."""
    choice_seeds, wave_seeds = seeds
    most = worlds.surfaces[1]
    choice = draws.uniform(choice_seeds, [most, 3])
    height = scale * _between(worlds.relief_height, choice[..., 1])
    height = tf.where(choice[..., 0] < worlds.relief, height, 0.0)
    draw = draws.uniform(wave_seeds, [most, WAVES, 4])
    length = scale[..., None] * tf.constant([1.0, 0.7, 0.5, 0.35]) * (0.8 + 0.5 * draw[..., 0])
    angle = 2.0 * math.pi * draw[..., 1]
    waves = tf.stack([tf.cos(angle) / length, tf.sin(angle) / length, draw[..., 2]], axis=-1)
    # From hills to plateaus.
    steepness = 0.5 + 1.5 * choice[..., 2]
    amplitudes = steepness[..., None] * tf.constant([0.35, 0.3, 0.2, 0.15])
    amplitudes *= 0.5 + 0.5 * draw[..., 3]
    return Relief(height, waves, amplitudes, tf.minimum(extent, 1.5 * scale[..., None]))


def _random_objects(seeds, config: DataConfig, focal, strength, cutouts) -> Surfaces:
    """Draws objects before the middle of the scene, some of which move between the views."""
    worlds = config.worlds
    count_seeds, place_seeds, motion_seeds = draws.split(seeds, 3)
    most, side = cutouts
    draw = draws.uniform(place_seeds, [most, 7])
    depth = _between(_OBJECT_DEPTH, draw[..., 0])
    pixel = depth / focal[:, None]
    place = config.size * pixel[..., None] * (draw[..., 1:3] - 0.5)
    origin = tf.concat([place, depth[..., None]], axis=-1)
    # Without its transparent margin.
    texel = (
        pixel * config.size * _between(config.objects.size, draw[..., 3]) / (side - 2.0 * MARGIN)
    )
    extent = tf.tile(0.5 * side * texel[..., None], [1, 1, 2])
    view = View(
        tf.fill([*extent.shape], (side - 1) / 2), tf.tile(1.0 / texel[..., None], [1, 1, 2])
    )
    axes = _random_axes(math.radians(worlds.tilt) * draw[..., 4], draw[..., 5:7])
    motion = draws.uniform(motion_seeds, [most, 8], -1.0, 1.0)
    amount = tf.where(motion[..., 0] < 2.0 * worlds.moving - 1.0, strength[:, None], 0.0)
    shift = amount[..., None] * worlds.shift * depth[..., None] * motion[..., 1:4]
    axis = motion[..., 4:7] / tf.maximum(tf.norm(motion[..., 4:7], axis=-1, keepdims=True), 1e-3)
    turned = matrices.turn(axis, amount * math.radians(worlds.turn) * motion[..., 7])
    if most:
        count = draws.count(count_seeds, config.objects.probability, config.objects.count)
    else:
        count = tf.zeros([focal.shape[0]], tf.int32)
    return Surfaces(
        tf.stack([axes, turned @ axes]),
        tf.stack([origin, origin + shift]),
        extent,
        view,
        tf.broadcast_to(tf.range(most), depth.shape),
        tf.range(most) < count[:, None],
    )


def _random_axes(tilt, draw) -> tf.Tensor:
    """Turns planes that face the viewer about an axis across, then a little in themselves."""
    angle = 2.0 * math.pi * draw[..., 0]
    axis = tf.stack([tf.cos(angle), tf.sin(angle), 0.0 * angle], axis=-1)
    upright = _about(2, math.radians(_UPRIGHT) * (2.0 * draw[..., 1] - 1.0))
    return matrices.turn(axis, tilt) @ upright * tf.constant([1.0, 1.0, -1.0])


def _random_view(draw, pixels, side: int, config: DataConfig) -> View:
    """Lays a photo on surfaces, about as sharp as a view of `config.warp` has it.

    Args:
        draw: [..., 4].
        pixels: of the image to a unit of the surface, [...].
        side: of the photo, in pixels.
        config: sizes and ranges.
    """
    scale = (side / config.size) * pixels * _between(config.warp.view, draw[..., 0])
    mirror = tf.where(draw[..., 3] < config.warp.mirror, -1.0, 1.0)
    # Its middle, or nearly: what is beyond its border is a mirror image.
    origin = (side - 1) * (0.3 + 0.4 * draw[..., 1:3])
    return View(origin, tf.stack([scale * mirror, scale], axis=-1))


def _about(axis: int, angle) -> tf.Tensor:
    angle = tf.convert_to_tensor(angle, tf.float32)
    unit = tf.one_hot(axis, 3)
    return matrices.turn(tf.broadcast_to(unit, [*angle.shape, 3]), angle)


def _between(bounds, draw) -> tf.Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * draw


def _between_logarithms(bounds, draw) -> tf.Tensor:
    return tf.exp(_between([math.log(bound) for bound in bounds], draw))
