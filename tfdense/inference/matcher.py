"""Matching two images of any size.

The network sees both images at one working size. Its answer is brought to the target's size and
into the source's own pixels with half-pixel centres, so that a shift stays exact to the border.
"""

import dataclasses
from pathlib import Path

import numpy as np

from tfdense.errors import InputError
from tfdense.images import Photo
from tfdense.inference.answers import to_match
from tfdense.inference.backends import (
    Backend,
    KerasBackend,
    LiteBackend,
    MaskedBackend,
    SavedModelBackend,
    newest_saved_model,
    refuse_fork,
)
from tfdense.inference.checks import photo_to_match
from tfdense.inference.filling import fill_uncertain
from tfdense.inference.match import Match
from tfdense.inference.modes import MODES, Mode
from tfdense.inference.resizing import resize_smooth
from tfdense.masking import hide
from tfdense.mixture import Mixture
from tfdense.models import PRESETS
from tfdense.models import load as load_model
from tfdense.models.presets import is_preset


def load(
    name_or_path: str | Path, max_side: int, mode: Mode, fill: bool, refine: bool = True
) -> "Matcher":
    """Loads a network for matching; see `tfdense.load` and `tfdense.inference.settings`."""
    preset = is_preset(name_or_path)
    # What a pickle holds counts in any working directory.
    origin = (
        name_or_path if preset else Path(name_or_path).absolute(),
        max_side,
        mode,
        fill,
        refine,
    )
    return Matcher(_load_backend(name_or_path, max_side, refine), mode, fill, origin)


def _load_backend(name_or_path: str | Path, max_side: int, refine: bool) -> Backend:
    if not is_preset(name_or_path):
        path = Path(name_or_path)
        if not path.exists():
            raise InputError(
                f"There is no model {path}. Expected a preset ({', '.join(sorted(PRESETS))}), as a "
                "string, the folder of a run, its .weights.h5, a .keras file, an exported "
                "SavedModel or a .tflite file."
            )
        if path.suffix == ".tflite":
            return LiteBackend(path)
        if saved_model := newest_saved_model(path):
            return SavedModelBackend(saved_model, max_side)
    refuse_fork()
    model, _ = load_model(name_or_path)
    return KerasBackend(model, max_side, refine)


class Matcher:
    """Matches pairs of images with one network.

    Threads may share it. A process forked after TensorFlow was used cannot use it, except one from
    a .tflite file; one that was started with "spawn" can. A pickle holds no network, only what
    `load` was given.

    Args:
        backend: runs the network.
        mode: how it is used, see `tfdense.inference.modes`: "direct" runs it once; "homography"
            is for large changes of view, "multiscale" also for large changes of size,
            "wide-baseline" for any turn, too, and "plane" for nothing but a plane.
        fill: whether uncertain pixels get the flow of the certain ones around them, see
            `tfdense.inference.filling`.
        origin: the arguments of `load`, if that made it.

    Raises:
        InputError: if there is no such mode.
    """

    def __init__(
        self,
        backend: Backend,
        mode: Mode = "direct",
        fill: bool = False,
        origin: tuple | None = None,
    ):
        if mode not in MODES:
            raise InputError(f"Expected a mode of {', '.join(MODES)}. Received: {mode!r}")
        self._backend = backend
        self._mode = mode
        self._run = MODES[mode]
        self._fill = fill
        self._origin = origin

    def __repr__(self) -> str:
        origin = "" if self._origin is None else f" of {self._origin[0]}"
        return f"<Matcher{origin}, mode {self._mode}{', filled' if self._fill else ''}>"

    def __reduce__(self):
        if self._origin is None:
            raise InputError(
                "Expected a matcher of tfdense.load, which is pickled as what it was loaded from. "
                "Received: one made of a backend."
            )
        return load, self._origin

    @property
    def mixture(self) -> Mixture:
        """What the log-variances and logits of its matches are parameters of."""
        return self._backend.mixture

    def match(
        self,
        source,
        target,
        radius: float | None = None,
        both_ways: bool = False,
        source_mask=None,
        target_mask=None,
    ) -> Match:
        """Finds for every pixel of the target its place in the source.

        Args:
            source, target: paths, or arrays [height, width, 3] or [height, width] with values in
                0..255, uint8 or floating; their sizes may differ.
            radius: R of the confidence, in px of the source. None takes one pixel of the source
                as the network sees it, but at least 1: of a photo that is shrunk six times the
                place is known to some six pixels, and P_1 is small everywhere. `Match.radius`
                says what was taken.
            both_ways: also matches the source's pixels in the target, which takes as long again:
                `Match.reverse`, for the checks that need it.
            source_mask, target_mask: which pixels count, paths or arrays [height, width] of the
                image's size: what is not 0 counts. So does an image's own alpha channel, from a
                half on. Where the target is masked, or its match in the source, the confidence is
                0; what is masked does not change the rest.

        Returns:
            The match, at the target's size.

        Raises:
            InputError: if an image cannot be read, is no image or too small, the radius is not
                positive, or the process was forked after TensorFlow was used.
        """
        if radius is not None and not radius > 0:
            raise InputError(f"Expected a positive radius. Received: {radius}")
        source = photo_to_match("source", source, source_mask)
        target = photo_to_match("target", target, target_mask)
        match = self._match(source, target, radius)
        if not both_ways:
            return match
        return dataclasses.replace(match, reverse=self._match(target, source, radius))

    def _match(self, source: Photo, target: Photo, radius: float | None) -> Match:
        height, width = target.pixels.shape[:2]
        size = self._backend.working_size(height, width)
        backend, *images = self._seen(source, target)
        outputs = self._run(backend, *images, size)
        if self._fill:
            outputs = fill_uncertain(backend, outputs, images[1][..., :3])
        return to_match(outputs, self._backend.mixture, source, target, radius, resize_smooth)

    def _seen(self, source: Photo, target: Photo) -> tuple[Backend, np.ndarray, np.ndarray]:
        """Returns what runs the network, and the images for it."""
        if source.mask is None and target.mask is None:
            return self._backend, source.pixels, target.pixels
        images = []
        for role, (pixels, mask) in (("source", source), ("target", target)):
            alpha = np.full(pixels.shape[:2], 255, np.uint8)
            if mask is not None:
                alpha[~mask] = 0
            images.append(np.dstack([hide(pixels, mask, role), alpha]))
        return MaskedBackend(self._backend), *images
