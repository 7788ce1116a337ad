"""From two images to a match, in five steps.

1. *Propose*: views of both images, turned and shrunk, propose a homography (`proposing`).
2. *Match*: the network runs on the source warped by it (`looks`).
3. *Fit*: its matches give a better one, or an affine map (`fitting`).
4. *Refine*: the last two again, as long as the network gets more confident.
5. *Complete*: the pixels that it is uncertain of get another flow (`plane`, `filling`).

What a mode does in each of them is data, see `tfdense.inference.modes`; a direct match is step 2
alone.
"""

from operator import attrgetter

import numpy as np

from tfdense.images import Photo
from tfdense.inference.backends import Backend, MaskedBackend
from tfdense.inference.filling import fill_uncertain
from tfdense.inference.fitting import fit_maps
from tfdense.inference.looks import Look, Outputs, Pair
from tfdense.inference.modes import PLAIN, Plan
from tfdense.inference.plane import follow_plane
from tfdense.inference.proposing import find_best_view
from tfdense.inference.resizing import resize_smooth
from tfdense.masking import hide
from tfdense.results.answers import to_match
from tfdense.results.match import Match
from tfdense.tiles.matching import match_tiles
from tfdense.tiles.spans import Tiles

# A target that is by no more than this larger than what the network sees needs no tiles.
_AS_LARGE = 1.1
# Of looks that are equally confident the former stays: max takes the first.
_CONFIDENCE = attrgetter("confidence")


def pair_of(backend: Backend, source: Photo, target: Photo) -> Pair:
    """Returns two images as the steps take them.

    Args:
        backend: runs the network on images without masks.
        source, target: the images; their masks become a fourth channel.
    """
    size = backend.working_size(*target.pixels.shape[:2])
    if source.mask is None and target.mask is None:
        return Pair(backend, source.pixels, target.pixels, size)
    images = []
    for role, (pixels, mask) in (("source", source), ("target", target)):
        alpha = np.full(pixels.shape[:2], 255, np.uint8)
        if mask is not None:
            alpha[~mask] = 0
        images.append(np.dstack([hide(pixels, mask, role), alpha]))
    return Pair(MaskedBackend(backend), *images, size)


def run(plan: Plan, pair: Pair) -> Outputs:
    """Takes the steps of a plan, but for filling.

    Homographies are sought without the level at full resolution.

    Returns:
        What `Backend.run` does; that of a single run if no homography is found.
    """
    best = Look(pair)
    if plan.searches:
        sought = _refine(plan, _propose(plan, Look(pair.coarse)))
        same = sought.pair.backend is pair.backend
        best = sought if same else best.warped(sought.homography)
    return follow_plane(pair.backend.mixture, best.outputs) if plan.plane else best.outputs


def _propose(plan: Plan, first: Look) -> Look:
    """Returns the first look, or one at the source warped by the best proposal."""
    best = first
    for search in plan.searches:
        if best.confidence >= search.enough:
            break
        found = find_best_view(first, search)
        if found is None:
            continue
        view, homography = found
        if not plan.refinements:
            best = first.warped(homography)
        elif view != PLAIN:  # What the first look has shown, it is refined from.
            best = max(best, first.warped(homography), key=_CONFIDENCE)
    return best


def _refine(plan: Plan, best: Look) -> Look:
    """Returns the most confident look, each fitted to the matches of the one before."""
    for _ in range(plan.refinements):
        former = best
        for homography in fit_maps(former.pair.backend.mixture, former.outputs):
            best = max(best, former.warped(homography), key=_CONFIDENCE)
        if best is former:
            break
    return best


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
        tiles: see `tfdense.matcher.Matcher.match`.
    """
    shown = tuple(
        Photo(hide(photo.pixels, photo.mask, role), photo.mask)
        for role, photo in (("source", source), ("target", target))
    )
    if fill:
        outputs = fill_uncertain(backend.mixture, outputs, shown[1].pixels)
    larger = np.array(target.pixels.shape[:2]) / outputs["flow"].shape[:2]
    if tiles is True and larger.max() < _AS_LARGE:
        tiles = False
    if tiles:
        return match_tiles(
            backend.run, outputs, backend.mixture, source, target, shown, radius, tiles
        )
    return to_match(outputs, backend.mixture, source, target, radius, resize_smooth)
