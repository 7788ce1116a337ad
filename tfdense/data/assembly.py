"""Training pairs as a pure function of photos, cut-outs and seeds.

All shapes are fixed and every operation is one that XLA compiles, so that the same function makes
pairs on a CPU, in a tf.data pipeline, and on an accelerator, within the training step.
"""

import tensorflow as tf

from tfdense.data import draws, masks
from tfdense.data.appearance import random_appearance
from tfdense.data.cameras import random_view
from tfdense.data.histograms import with_histograms
from tfdense.data.objects import random_objects
from tfdense.data.perturbations import random_perturbation
from tfdense.data.surfaces import add_objects, photo_scene
from tfdense.data.textures import texture
from tfdense.data.warps import random_warp, warp_flow
from tfdense.data_config import DataConfig

# What keeps this draw apart from those of the pair itself.
_UNRELATED = 1

_MASKS = {"visible": masks.visible, "uncovered": masks.uncovered, "all": masks.everywhere}


def make_pairs(canvases, cutouts, seeds, config: DataConfig, strength) -> dict[str, tf.Tensor]:
    """Makes a batch of training pairs.

    Pair i depends on nothing but its canvas, cut-outs and seed, the configuration and the strength:
    not on the batch, except for what `mixed` does.

    Args:
        canvases: uint8 [batch, side, side, 3], one photo for each pair; the side is
            `tfdense.data.canvases.canvas_side(config)`.
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
    (
        warp_seeds,
        strength_seeds,
        perturbation_seeds,
        view_seeds,
        object_seeds,
        source_seeds,
        target_seeds,
    ) = draws.split(seeds, 7)
    strength *= draws.uniform(strength_seeds, (), config.warp.least_strength, 1.0)
    displacement = random_perturbation(perturbation_seeds, config.perturbation, config.size)
    flow = warp_flow(random_warp(warp_seeds, config.warp, strength), displacement)
    view = random_view(view_seeds, flow, canvases.shape[1], config.warp)
    scene = photo_scene(texture(canvases), view, flow)
    if cutouts.shape[1]:
        side = cutouts.shape[2]
        objects = random_objects(object_seeds, config.objects, side, config.size)
        scene = add_objects(scene, cutouts, objects)
    images = tf.concat([scene.source, scene.target], axis=0)
    if config.photometry.probability:
        image_seeds = tf.concat([source_seeds, target_seeds], axis=0)
        images = random_appearance(images, image_seeds, config.photometry)
    source, target = tf.split(tf.transpose(images, [0, 2, 3, 1]), 2)
    layers = (scene.flow, scene.source_layer, scene.target_layer)
    mask = _MASKS[config.mask](*layers)
    pairs = {
        "source": source,
        "target": target,
        "flow": scene.flow,
        "mask": mask,
        "unmatched": masks.unmatched(*layers) * (1.0 - mask),
    }
    return mixed(pairs, seeds, config)


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
