"""Matching with an exported .tflite file: needs numpy and ai-edge-litert, no TensorFlow.

from tfdense.lite import LiteMatcher

match = LiteMatcher("pdcnet.tflite").match(source, target)  # RGB arrays of any size
match.flow, match.confidence
"""

import dataclasses
import math
import numbers
import operator
import threading
from collections.abc import Collection
from pathlib import Path

import numpy as np

from tfdense.checks import check_flag, check_radius, photo_to_match
from tfdense.errors import InputError, shown
from tfdense.images import Photo
from tfdense.lite_runners import ACCELERATORS, CompiledRunner, InterpreterRunner
from tfdense.masking import UNKNOWN_LOG_VARIANCE, hide
from tfdense.numpy_mixture import NumpyMixture
from tfdense.pixels import pixel_positions, to_bytes
from tfdense.resampling import resize_image, resize_smooth, sample
from tfdense.results.answers import check_answer, to_match
from tfdense.results.match import Match
from tfdense.tflite_files import open_file, signature_names
from tfdense.tiles.matching import match_tiles
from tfdense.tiles.spans import Tiles, checked

# More than any device has.
_MOST_THREADS = 1024


class LiteMatcher:
    """Matches pairs of images with a .tflite file that ``tfdense export tflite`` wrote.

    Threads may share it; the network runs for one of them at a time. A pickle holds no network,
    only what it was made from.

    Attributes:
        metadata: what the file says of itself: preset, mixture, size, stride, radius, conventions,
            hash of the weights, version.
        sizes: each (height, width) at which the network may see a pair.
        size: the first of them.

    Args:
        path: of the file.
        threads: how many LiteRT may use, 1 to 1024; None leaves it to LiteRT.
        accelerator: "cpu"; or "gpu" or "npu" where LiteRT finds one, with the CPU for what that
            does not take.
        size: the only one to use of a file that has several. None takes for each pair the one whose
            ratio of sides is next to the target's, and of such the largest that does not exceed it.

    Raises:
        InputError: if the path is none, the file is missing, broken or damaged, or was not written
            by tfdense, or by a later version; if it has no such size, there is no such accelerator,
            or threads are no such number.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int | None = None,
        accelerator: str = "cpu",
        size: tuple[int, int] | None = None,
    ):
        threads = _checked_threads(threads)
        if not isinstance(accelerator, str) or accelerator not in ACCELERATORS:
            raise InputError(
                f"Expected an accelerator of {', '.join(ACCELERATORS)}. "
                f"Received: {shown(accelerator)}"
            )
        interpreter, self.metadata, _ = open_file(path, num_threads=threads)
        signatures = signature_names(self.metadata)
        if size is not None:
            size = _chosen_size(size, signatures, path)
            signatures = {size: signatures[size]}
        self.sizes = tuple(signatures)
        self.size = self.sizes[0]
        self._lock = threading.Lock()
        self._origin = Path(path).absolute(), threads, accelerator, size
        try:
            self._runner = InterpreterRunner(interpreter, signatures)
        except ValueError as error:
            raise InputError(f"{path} is broken: {error}.") from None
        if accelerator != "cpu":
            self._runner = CompiledRunner(Path(path), signatures, accelerator, threads)

    def __reduce__(self):
        return LiteMatcher, self._origin

    def __repr__(self) -> str:
        sizes = ", ".join(f"{height}x{width}" for height, width in self.sizes)
        return f"<LiteMatcher of {self._origin[0]}, {sizes}>"

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """Returns the (height, width) at which the network sees a target of this one."""

        def preference(size):
            stretch = abs(math.log(size[0] * width / (size[1] * height)))
            area, exceeds = math.prod(size), size[0] > height or size[1] > width
            return round(stretch, 2), exceeds, area if exceeds else -area

        return min(self.sizes, key=preference)

    def run(self, source: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
        """Matches two images of exactly one of the file's sizes.

        Args:
            source, target: [height, width, 3], RGB, see `tfdense.pixels.to_bytes`.

        Returns:
            float32: "flow" [height, width, 2], "confidence" [height, width], "log_variance" and
            "logits" [height, width, components]. The flow is (dx, dy) in px, from target to
            source; the confidence is the probability that the match is right to 1 px.

        Raises:
            InputError: if an image has another size or is none.
        """
        images = {"source": _as_bytes(source, "source"), "target": _as_bytes(target, "target")}
        size = images["target"].shape[:2]
        expected = size if size in self.sizes else self.size
        for name, image in images.items():
            if image.shape[:2] != expected:
                raise InputError(
                    f"Expected a {name} of height and width {expected}, the size of this file. "
                    f"Received: {image.shape[:2]}. `match` takes any size."
                )
        # A network holds one pair of inputs.
        with self._lock:
            try:
                answer = self._runner.run(size, {name: x[None] for name, x in images.items()})
            except (RuntimeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise InputError(f"The .tflite file is broken: {reason}") from None
        outputs = {name: values[0] for name, values in answer.items()}
        check_answer(outputs, size)
        return outputs

    def match(
        self,
        source,
        target,
        radius: float | None = None,
        both_ways: bool = False,
        source_mask=None,
        target_mask=None,
        tiles: Tiles = None,
    ) -> Match:
        """Finds for every pixel of the target its place in the source.

        As `tfdense.matcher.Matcher.match` does with this file, and with the same numbers.

        Args:
            source, target: arrays [height, width, 3], RGB, or [height, width], of any size, see
                `tfdense.images.load_image`. Other forms need the packages that read them.
            radius: R of the confidence, in px of the source; None takes one pixel of the source as
                the network sees it, but at least 1. `Match.radius` says what was taken.
            both_ways: also matches the source's pixels in the target: `Match.reverse`.
            source_mask, target_mask: which pixels count, arrays [height, width].
            tiles: of images larger than what the network sees: how many (rows, columns) of parts
                the target is cut into, each of which is matched again, after the coarse match, with
                all the detail that the network can see. True takes as many as show it the target's
                own pixels. None or False looks at the whole once. See `tfdense.tiles.matching`.

        Returns:
            The match, at the target's size.

        Raises:
            InputError: if an image is none or too small, a mask has another size than its image,
                the radius is not positive and finite, `both_ways` neither True nor False, tiles are
                none, or the file answers what is not finite.
        """
        radius, both_ways = check_radius(radius), check_flag("both_ways", both_ways)
        tiles = checked(tiles)
        source = photo_to_match("source", source, source_mask)
        target = photo_to_match("target", target, target_mask)
        match = self._match(source, target, radius, tiles)
        if not both_ways:
            return match
        return dataclasses.replace(match, reverse=self._match(target, source, radius, tiles))

    def _match(self, source: Photo, target: Photo, radius: float | None, tiles: Tiles) -> Match:
        mixture = self._mixture()
        size = self.size_for(*target.pixels.shape[:2])
        shown = tuple(
            Photo(hide(photo.pixels, photo.mask, role), photo.mask)
            for role, photo in (("source", source), ("target", target))
        )
        outputs = self.run(*(resize_image(photo.pixels, size) for photo in shown))
        if source.mask is not None or target.mask is not None:
            outputs = _forget_masked(outputs, *(_shares(photo, size) for photo in shown))
        if not tiles:
            return to_match(outputs, mixture, source, target, radius, resize_smooth)
        return match_tiles(self.run, outputs, mixture, source, target, shown, radius, tiles)

    def _mixture(self) -> NumpyMixture:
        try:
            return NumpyMixture(self.metadata["mixture"]["name"])
        except (KeyError, TypeError):
            raise InputError(
                "Expected a file whose mixture this version knows, for the confidence. "
                f"Received: {self.metadata.get('mixture')}"
            ) from None


def _checked_threads(threads) -> int | None:
    if threads is None:
        return None
    whole = isinstance(threads, numbers.Integral) and not isinstance(threads, bool)
    if not whole or not 1 <= threads <= _MOST_THREADS:
        raise InputError(
            f"Expected threads to be a whole number from 1 to {_MOST_THREADS}, or None. "
            f"Received: {shown(threads)}"
        )
    return int(threads)


def _chosen_size(size, sizes: Collection[tuple[int, int]], path) -> tuple[int, int]:
    """Returns a size of those that a file has."""
    try:
        chosen = tuple(map(operator.index, size))
    except TypeError:
        chosen = None
    if chosen not in sizes:
        raise InputError(
            f"Expected a size of {', '.join(map(str, sizes))}, as {path} has. "
            f"Received: {shown(size)}"
        )
    return chosen


def _as_bytes(image, name: str) -> np.ndarray:
    """Returns an image as uint8 [height, width, 3]."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise InputError(f"Expected a {name} of shape [height, width, 3]. Received: {image.shape}")
    return to_bytes(image, name)


def _shares(photo: Photo, size: tuple[int, int]) -> np.ndarray:
    """Returns to what share of 255 each pixel that the network sees counts, uint8."""
    if photo.mask is None:
        return np.full(size, 255, np.uint8)
    return resize_image(np.where(photo.mask, np.uint8(255), np.uint8(0))[..., None], size)[..., 0]


def _forget_masked(
    outputs: dict[str, np.ndarray], source: np.ndarray, target: np.ndarray
) -> dict[str, np.ndarray]:
    """As `tfdense.inference.backends.MaskedBackend`: nothing is known of what is masked."""
    grid = pixel_positions(target.shape)
    places = np.clip(grid + outputs["flow"], 0, [source.shape[1] - 1, source.shape[0] - 1])
    masked = np.minimum(sample(source, places.astype(np.float32)), target) < 128
    return {
        **outputs,
        "log_variance": np.where(masked[..., None], UNKNOWN_LOG_VARIANCE, outputs["log_variance"]),
    }
