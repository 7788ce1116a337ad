"""Matching two images of any size.

The network sees both images at one working size. Its answer is brought to the target's size and
into the source's own pixels with half-pixel centres, so that a shift stays exact to the border.
"""

from pathlib import Path

import cv2
import numpy as np

from tfdense.errors import InputError
from tfdense.inference.backends import (
    Backend,
    KerasBackend,
    LiteBackend,
    SavedModelBackend,
    newest_saved_model,
)
from tfdense.inference.checks import image_to_match
from tfdense.inference.match import Match
from tfdense.models import PRESETS
from tfdense.models import load as load_model


def load(name_or_path: str | Path, max_side: int) -> "Matcher":
    """Loads a network for matching; see `tfdense.load`."""
    if str(name_or_path) not in PRESETS:
        path = Path(name_or_path)
        if not path.exists():
            raise InputError(
                f"There is no model {path}. Expected a preset ({', '.join(sorted(PRESETS))}), the "
                "folder of a run, its .weights.h5, an exported SavedModel or a .tflite file."
            )
        if path.suffix == ".tflite":
            return Matcher(LiteBackend(path))
        if saved_model := newest_saved_model(path):
            return Matcher(SavedModelBackend(saved_model, max_side))
    model, _ = load_model(name_or_path)
    return Matcher(KerasBackend(model, max_side))


class Matcher:
    """Matches pairs of images with one network.

    Args:
        backend: runs the network.
    """

    def __init__(self, backend: Backend):
        self._backend = backend

    def match(self, source, target, radius: float | None = 1.0) -> Match:
        """Finds for every pixel of the target its place in the source.

        Args:
            source, target: paths, or arrays [height, width, 3] or [height, width] with values in
                0..255, uint8 or floating; their sizes may differ.
            radius: R of the confidence, in px of the source. None takes one pixel of the source
                as the network sees it, but at least 1: of a photo that is shrunk six times the
                place is known to some six pixels, and P_1 is small everywhere.

        Returns:
            The match, at the target's size.

        Raises:
            InputError: if an image cannot be read, is no image or too small, or the radius is
                not positive.
        """
        if radius is not None and not radius > 0:
            raise InputError(f"Expected a positive radius. Received: {radius}")
        source, target = image_to_match("source", source), image_to_match("target", target)
        size = self._backend.working_size(*target.shape[:2])
        outputs = self._backend.run(_resize_image(source, size), _resize_image(target, size))

        # Pixels of the source per working pixel, (x, y).
        scale = np.array(source.shape[1::-1]) / size[::-1]
        geometric_mean = float(np.sqrt(scale.prod()))
        if radius is None:
            radius = max(1.0, geometric_mean)
        log_variance = _resize_smooth(outputs["log_variance"], target.shape)
        logits = _resize_smooth(outputs["logits"], target.shape)
        confidence = self._backend.mixture.confidence(
            log_variance, logits, (radius / scale[0], radius / scale[1])
        )
        return Match(
            flow=_rescale_flow(outputs["flow"], source.shape, target.shape),
            confidence=confidence.numpy(),
            log_variance=log_variance + np.float32(2 * np.log(geometric_mean)),
            logits=logits,
            radius=radius,
            source=source,
            target=target,
        )


def _resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes with half-pixel centres; averages areas along an axis that shrinks."""
    height, width = size
    for new in ((width, image.shape[0]), (width, height)):
        shrinks = new[0] < image.shape[1] or new[1] < image.shape[0]
        image = cv2.resize(
            image, new, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
    return image


def _resize_smooth(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return cv2.resize(values, shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _rescale_flow(flow: np.ndarray, source: tuple, target: tuple) -> np.ndarray:
    """Brings a flow between two images at a working size to the images' own sizes.

    The flow is interpolated rather than the places it points to: beyond the centres of the
    outermost working pixels it stays constant, as a place would not.

    Args:
        flow: [height, width, 2], in working pixels.
        source, target: shapes of the images.

    Returns:
        float32 [height, width, 2] at the target's size, in px of the source.
    """
    result = _resize_smooth(flow, target)
    for axis in (0, 1):
        working, own, aim = flow.shape[1 - axis], target[1 - axis], source[1 - axis]
        position = np.arange(own)
        # The target's pixel is at p = (position + 0.5) working / own - 0.5 of the working size,
        # and p + flow is at (p + flow + 0.5) aim / working - 0.5 of the source.
        at_rest = (position + 0.5) * (aim / own) - 0.5 - position
        result[..., axis] *= np.float32(aim / working)
        result[..., axis] += np.expand_dims(at_rest.astype(np.float32), axis)
    return result
