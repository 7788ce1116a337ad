"""One training pair from one photo."""

from typing import NamedTuple

import tensorflow as tf

from tfdense.data.objects import (
    Cutout,
    add_random_objects,
    photo_scene,
    uncovered,
    unmatched,
    visible,
)
from tfdense.data.perturbations import random_perturbation
from tfdense.data.photometry import random_photometry
from tfdense.data.photos import largest_area
from tfdense.data.sampling import sample_mirrored
from tfdense.data.warps import random_warp, warp_flow
from tfdense.data_config import DataConfig
from tfdense.geometry import flow_to_map, pixel_grid

_MASKS = {
    "visible": visible,
    "uncovered": uncovered,
    "all": lambda scene: tf.ones(scene.flow.shape[:2]),
}


class View(NamedTuple):
    """Where the source lies in the photo: its pixel q shows the photo's ``origin + scale q``.

    Attributes:
        origin: [2], (x, y) in pixels of the photo.
        scale: [2], pixels of the photo to one of the source; negative in x if mirrored.
    """

    origin: tf.Tensor
    scale: tf.Tensor


def random_pair(photo, seed, config: DataConfig, cutout: Cutout, strength, photometric) -> dict:
    """Makes a training pair.

    Args:
        photo: uint8 [height, width, 3], of at most `photos.largest_area` pixels.
        seed: int [2]; the pair depends on nothing else that is random.
        config: the ranges.
        cutout: draws what moving objects look like.
        strength: of the warp at most, 0..1; `config.warp.least_strength` has its least share.
        photometric: whether the images get changes of colour too.

    Returns:
        dict: ``source``, ``target`` float32 [size, size, 3], 0..255; ``flow`` float32
        [size, size, 2]; ``mask`` float32 [size, size], 1 where the flow is ground truth, as
        `config.mask` says; ``unmatched`` float32 [size, size], 1 where there is no match.
    """
    warp_seed, perturbation_seed, view_seed, object_seed, source_seed, target_seed = tf.unstack(
        tf.random.split(seed, 6)
    )
    share = tf.random.stateless_uniform(
        [], tf.random.fold_in(warp_seed, 1), config.warp.least_strength, 1.0
    )
    displacement = random_perturbation(perturbation_seed, config.perturbation, config.size)
    flow = warp_flow(random_warp(warp_seed, config.warp, strength * share), displacement)
    view = random_view(view_seed, flow, tf.shape(photo)[1::-1], config)

    def sample(positions):
        positions = view.origin + view.scale * positions
        return sample_mirrored(photo, positions, largest_area(config.size))

    source = sample(pixel_grid(config.size, config.size))
    target = sample(flow_to_map(flow))
    scene = photo_scene(source, target, flow)
    scene = add_random_objects(scene, object_seed, config.objects, cutout)
    source, target = scene.source, scene.target
    if photometric:
        source = random_photometry(source, source_seed, config.photometry)
        target = random_photometry(target, target_seed, config.photometry)
    mask = _MASKS[config.mask](scene)
    return {
        "source": source,
        "target": target,
        "flow": scene.flow,
        "mask": mask,
        "unmatched": unmatched(scene) * (1.0 - mask),
    }


def with_unrelated(batch: dict, seed, share: float) -> dict:
    """Gives some pairs of a batch the source of another one, so that nothing in them has a match.

    Args:
        batch: at least two pairs, see `random_pair`.
        seed: int [2].
        share: of the pairs that are made unrelated, on average.
    """
    count = batch["source"].shape[0]
    chosen = tf.random.stateless_uniform([count], seed) < share
    masks = chosen[:, None, None]
    return {
        **batch,
        "source": tf.where(masks[..., None], tf.roll(batch["source"], 1, axis=0), batch["source"]),
        "mask": tf.where(masks, 0.0, batch["mask"]),
        "unmatched": tf.where(masks, 1.0, batch["unmatched"]),
    }


def random_view(seed, flow, photo_size, config: DataConfig) -> View:
    """Places the source in the photo, so that the target stays in it too where possible.

    A target that does not fit shrinks the view down to the smallest one allowed; what still sticks
    out is centred.

    Args:
        seed: int [2].
        flow: float32 [size, size, 2], from the target to the source.
        photo_size: int [2], (width, height) in pixels.
        config: `config.warp` has the ranges.
    """
    draw = tf.random.stateless_uniform([4], seed)
    last = tf.cast(photo_size - 1, tf.float32)
    end = config.size - 1.0
    smallest, largest = (share * tf.reduce_min(last) / end for share in config.warp.view)
    mapping = flow_to_map(flow)
    # A few pixels far out shall not decide.
    first_seen = tf.maximum(tf.reduce_min(mapping, axis=[0, 1]), -0.75 * end)
    first_seen = tf.minimum(first_seen, 0.0)
    last_seen = tf.minimum(tf.reduce_max(mapping, axis=[0, 1]), 1.75 * end)
    last_seen = tf.maximum(last_seen, end)
    fitting = tf.reduce_min(last / (last_seen - first_seen))
    scale = smallest + (largest - smallest) * draw[0]
    scale = tf.maximum(tf.minimum(scale, fitting), smallest)
    lowest, highest = -scale * first_seen, last - scale * last_seen
    place = tf.where(highest >= lowest, draw[1:3], 0.5)
    origin = lowest + place * (highest - lowest)
    origin = tf.clip_by_value(origin, 0.0, last - scale * end)
    mirrored = tf.stack([draw[3] < config.warp.mirror, False])
    return View(
        tf.where(mirrored, last - origin, origin),
        tf.where(mirrored, -scale, scale),
    )
