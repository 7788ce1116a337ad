"""From two images to what the network sees of them, and from its answer to a match."""

import numpy as np

from tfdense.images import Photo
from tfdense.inference.answers import to_match
from tfdense.inference.backends import Backend, MaskedBackend
from tfdense.inference.filling import fill_uncertain
from tfdense.inference.match import Match
from tfdense.inference.refinement import Outputs
from tfdense.inference.resizing import resize_smooth
from tfdense.inference.spans import Tiles
from tfdense.inference.tiles import match_tiles
from tfdense.masking import hide

# A target that is by no more than this larger than what the network sees needs no tiles.
_AS_LARGE = 1.1


def seen(backend: Backend, source: Photo, target: Photo) -> tuple[Backend, np.ndarray, np.ndarray]:
    """Returns what runs the network, and the images for it.

    Args:
        backend: runs the network on images without masks.
        source, target: the images; their masks become a fourth channel.
    """
    if source.mask is None and target.mask is None:
        return backend, source.pixels, target.pixels
    images = []
    for role, (pixels, mask) in (("source", source), ("target", target)):
        alpha = np.full(pixels.shape[:2], 255, np.uint8)
        if mask is not None:
            alpha[~mask] = 0
        images.append(np.dstack([hide(pixels, mask, role), alpha]))
    return MaskedBackend(backend), *images


def answer(
    backend: Backend,
    outputs: Outputs,
    source: Photo,
    target: Photo,
    radius: float | None = None,
    fill: bool = False,
    tiles: Tiles = None,
) -> Match:
    """Brings what the network gives at its working size to a match of the images themselves.

    Args:
        backend: that ran the network.
        outputs: what `Backend.run` answers.
        source, target: the images.
        radius: R of the confidence, in px of the source; None takes one pixel of the source as the
            network sees it, but at least 1.
        fill: whether uncertain pixels get the flow of the certain ones around them.
        tiles: see `tfdense.inference.matcher.Matcher.match`.
    """
    shown = tuple(
        Photo(hide(photo.pixels, photo.mask, role), photo.mask)
        for role, photo in (("source", source), ("target", target))
    )
    if fill:
        outputs = fill_uncertain(backend, outputs, shown[1].pixels)
    larger = np.array(target.pixels.shape[:2]) / outputs["flow"].shape[:2]
    if tiles is True and larger.max() < _AS_LARGE:
        tiles = False
    if tiles:
        return match_tiles(
            backend.run, outputs, backend.mixture, source, target, shown, radius, tiles
        )
    return to_match(outputs, backend.mixture, source, target, radius, resize_smooth)
