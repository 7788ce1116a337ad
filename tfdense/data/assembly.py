"""Training pairs as a pure function of photos, cut-outs and seeds.

All shapes are fixed and every operation is one that XLA compiles, so that the same function makes
pairs on a CPU, in a tf.data pipeline, and on an accelerator, within the training step.
"""

import tensorflow as tf

from tfdense.data import draws, masks
from tfdense.data.appearance import random_appearance
from tfdense.data.cameras import random_view
from tfdense.data.conditions import where_any
from tfdense.data.histograms import with_histograms
from tfdense.data.objects import random_objects
from tfdense.data.perturbations import random_perturbation
from tfdense.data.surfaces import Scene, add_objects, photo_scene
from tfdense.data.textures import texture
from tfdense.data.warps import random_warp, warp_flow
from tfdense.data.worlds import world_scene
from tfdense.data_config import DataConfig

# What keeps these draws apart from those of the pair itself.
_UNRELATED, _WORLD = 1, 3

_MASKS = {"visible": masks.visible, "uncovered": masks.uncovered, "all": masks.everywhere}


def make_pairs(canvases, cutouts, seeds, config: DataConfig, strength) -> dict[str, tf.Tensor]:
    """Makes a batch of training pairs.

    Pair i depends on nothing but its canvas, cut-outs and seed, the configuration and the strength:
    not on the batch, except for what `mixed` does.

    Args:
        canvases: uint8 [batch, side, side, 3], one photo for each pair; the side is
            `tfdense.data.canvases.canvas_side(config)`. For worlds also [batch, photos, side, side,
            3], of which a warp takes the first.
        cutouts: uint8 [batch, objects, side, side, 4], RGB multiplied by alpha, and alpha, with
            transparent margins; the side is `canvases.cutout_side(config)`, their number
            `canvases.cutout_count(config)`, which may be 0.
        seeds: int32 [batch, 2].
        config: sizes and ranges; a constant of the compiled function.
        strength: of the warps at most, float32 scalar in 0..1; `config.warp.least_strength` has its
            least share.

    Returns:
        dict: ``source``, ``target`` float32 [batch, size, size, 3], 0..255; ``flow`` float32
        [batch, size, size, 2], from target to source in pixels; ``mask`` float32
        [batch, size, size], 1 where the flow is ground truth, as `config.mask` says; ``unmatched``
        likewise, 1 where it is known that there is no match.
    """
    *scene_seeds, source_seeds, target_seeds = draws.split(seeds, 7)
    photos = canvases if canvases.shape.rank == 5 else canvases[:, None]
    scene, hidden = _scene(seeds, scene_seeds, photos, cutouts, config, strength)
    images = tf.concat([scene.source, scene.target], axis=0)
    if config.photometry.probability:
        image_seeds = tf.concat([source_seeds, target_seeds], axis=0)
        images = random_appearance(images, image_seeds, config.photometry)
    source, target = tf.split(tf.transpose(images, [0, 2, 3, 1]), 2)
    layers = (scene.flow, scene.source_layer, scene.target_layer)
    mask, unmatched = _MASKS[config.mask](*layers), masks.unmatched(*layers)
    if hidden is not None:
        if config.mask != "all":
            mask = tf.where(hidden, 0.0, mask)
        unmatched = tf.where(hidden & (scene.target_layer >= 0), 1.0, unmatched)
    pairs = {
        "source": source,
        "target": target,
        "flow": scene.flow,
        "mask": mask,
        "unmatched": unmatched * (1.0 - mask),
    }
    return mixed(pairs, seeds, config)


def _scene(seeds, scene_seeds, photos, cutouts, config: DataConfig, strength):
    """Makes the images of warped photos or of worlds; tells what depth hides, if there is any."""

    def warped():
        return _warped(scene_seeds, photos[:, 0], cutouts, config, strength)

    if not config.worlds.share:
        return warped(), None
    choice_seeds, world_seeds = draws.split(draws.fold(seeds, _WORLD), 2)
    chosen = draws.uniform(choice_seeds) < config.worlds.share
    shape = [photos.shape[0], config.size, config.size]
    number = tf.zeros(shape, tf.int32)
    image = tf.zeros([shape[0], 3, *shape[1:]])
    nothing = Scene(image, image, tf.zeros([*shape, 2]), number, number)
    flat = where_any(~chosen, warped, nothing), tf.zeros(shape, tf.bool)

    def with_worlds():
        own_strength = _pair_strength(scene_seeds[1], config, strength)
        worlds = world_scene(world_seeds, photos, cutouts, config, own_strength)
        return tf.nest.map_structure(
            lambda new, old: tf.where(
                tf.reshape(chosen, [-1] + [1] * (new.shape.rank - 1)), new, old
            ),
            worlds,
            flat,
        )

    return where_any(chosen, with_worlds, flat)


def _warped(seeds, canvases, cutouts, config: DataConfig, strength) -> Scene:
    """Makes both images of photos and random warps of them."""
    warp_seeds, strength_seeds, perturbation_seeds, view_seeds, object_seeds = seeds
    strength = _pair_strength(strength_seeds, config, strength)
    displacement = random_perturbation(perturbation_seeds, config.perturbation, config.size)
    flow = warp_flow(random_warp(warp_seeds, config.warp, strength), displacement)
    view = random_view(view_seeds, flow, canvases.shape[1], config.warp)
    scene = photo_scene(texture(canvases), view, flow)
    if cutouts.shape[1]:
        side = cutouts.shape[2]
        objects = random_objects(object_seeds, config.objects, side, config.size)
        scene = add_objects(scene, cutouts, objects)
    return scene


def _pair_strength(seeds, config: DataConfig, strength) -> tf.Tensor:
    return strength * draws.uniform(seeds, (), config.warp.least_strength, 1.0)


def with_appearance(pairs: dict, seeds, config: DataConfig) -> dict:
    """Changes the light of pairs of real photos, of each image on its own.

    Args:
        pairs: see `make_pairs`.
        seeds: [batch, 2].
        config: the ranges.
    """
    image_seeds = draws.split(seeds, 2)
    changed = {
        name: tf.transpose(
            random_appearance(tf.transpose(pairs[name], [0, 3, 1, 2]), own, config.photometry),
            [0, 2, 3, 1],
        )
        for name, own in zip(("source", "target"), image_seeds, strict=True)
    }
    return pairs | changed


def mixed(pairs: dict, seeds, config: DataConfig) -> dict:
    """Does what takes several pairs: gives images the histograms of others, then other sources.

    Args:
        pairs: see `make_pairs`; nothing happens to a single one.
        seeds: int32 [batch, 2], those of the pairs.
        config: how often either happens.
    """
    if config.photometry.probability:
        pairs = with_histograms(pairs, seeds, config.photometry.domains)
    return with_unrelated(pairs, seeds, config.unrelated)


def with_unrelated(pairs: dict, seeds, share: float) -> dict:
    """Gives some pairs of a batch the source of another one, so that nothing in them has a match.

    Args:
        pairs: see `make_pairs`; nothing happens to a single one.
        seeds: int32 [batch, 2], those of the pairs.
        share: of the pairs that are made unrelated, on average.
    """
    if not share or seeds.shape[0] == 1:
        return pairs
    chosen = (draws.uniform(draws.fold(seeds, _UNRELATED)) < share)[:, None, None]
    source = pairs["source"]
    return {
        **pairs,
        "source": tf.where(chosen[..., None], tf.roll(source, 1, axis=0), source),
        "mask": tf.where(chosen, 0.0, pairs["mask"]),
        "unmatched": tf.where(chosen, 1.0, pairs["unmatched"]),
    }
