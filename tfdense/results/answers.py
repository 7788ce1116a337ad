"""Bringing what a network answers to the images it was asked about. Needs numpy alone."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from tfdense.errors import InputError
from tfdense.images import Photo
from tfdense.masking import UNKNOWN_LOG_VARIANCE, is_masked
from tfdense.results.match import Match

Enlarge = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
"""Resizes floats [height, width, channels] smoothly to a shape's height and width."""


class HasConfidence(Protocol):
    """What is needed of a mixture, see `tfdense.mixture.Mixture`."""

    def confidence(self, log_variance, logits, radius): ...


def check_answer(outputs: Mapping[str, np.ndarray], size: tuple[int, int]) -> None:
    """Refuses what a network answers if no match can be made of it.

    Each backend gives what its network answers to this, before anything is computed from it.

    Args:
        outputs: see `to_match`; there may be more.
        size: (height, width) of the target that the network saw.

    Raises:
        InputError: if an output has another shape, or a number is not finite.
    """
    expected = {"flow": (*size, 2)}
    for name in ("log_variance", "logits"):
        expected[name] = (*size, *np.shape(outputs["logits"])[-1:])
    for name, shape in expected.items():
        if np.shape(outputs[name]) != shape:
            raise InputError(
                f"Expected the network to answer a {name} of shape {shape} to a target of "
                f"{size[1]}x{size[0]} px. Received: {np.shape(outputs[name])}"
            )
    if not all(np.isfinite(outputs[name]).all() for name in expected):
        raise InputError(
            "The network answers numbers that are not finite: are its weights damaged?"
        )


def to_match(
    outputs: Mapping[str, np.ndarray],
    mixture: HasConfidence,
    source: Photo,
    target: Photo,
    radius: float | None,
    enlarge: Enlarge,
) -> Match:
    """Returns the match of two images that were resized for the network.

    Args:
        outputs: "flow" [height, width, 2], "log_variance" and "logits"
            [height, width, components], in px of what the network saw.
        mixture: what the latter two are parameters of.
        source, target: the images.
        radius: R of the confidence, in px of the source; None takes one pixel of what the network
            saw, but at least 1.
        enlarge: brings the outputs to the target's size.
    """
    size = outputs["flow"].shape[:2]
    # Pixels of the source per working pixel, (x, y).
    scale = np.array(source.pixels.shape[1::-1]) / size[::-1]
    geometric_mean = float(np.sqrt(scale.prod()))
    if radius is None:
        radius = max(1.0, geometric_mean)
    shape = target.pixels.shape
    flow = rescale_flow(outputs["flow"], source.pixels.shape, shape, enlarge)
    log_variance = enlarge(outputs["log_variance"], shape)
    logits = enlarge(outputs["logits"], shape)
    confidence = mixture.confidence(log_variance, logits, (radius / scale[0], radius / scale[1]))
    log_variance += np.float32(2 * np.log(geometric_mean))
    masked = is_masked(flow, source.mask, target.mask)
    return Match(
        flow=flow,
        confidence=np.where(masked, np.float32(0), confidence),
        log_variance=np.where(masked[..., None], UNKNOWN_LOG_VARIANCE, log_variance),
        logits=logits,
        radius=radius,
        source=source.pixels,
        target=target.pixels,
        source_mask=source.mask,
        target_mask=target.mask,
    )


def rescale_flow(
    flow: np.ndarray, source: tuple[int, ...], target: tuple[int, ...], enlarge: Enlarge
) -> np.ndarray:
    """Brings a flow between two images at a working size to the images' own sizes.

    The flow is interpolated rather than the places it points to: beyond the centres of the
    outermost working pixels it stays constant, as a place would not.

    Args:
        flow: [height, width, 2], in working pixels.
        source, target: shapes of the images.
        enlarge: brings it to the target's size.

    Returns:
        float32 [height, width, 2] at the target's size, in px of the source.
    """
    result = enlarge(flow, target)
    for axis in (0, 1):
        working, own, aim = flow.shape[1 - axis], target[1 - axis], source[1 - axis]
        position = np.arange(own)
        # The target's pixel is at p = (position + 0.5) working / own - 0.5 of the working size,
        # and p + flow is at (p + flow + 0.5) aim / working - 0.5 of the source.
        at_rest = (position + 0.5) * (aim / own) - 0.5 - position
        result[..., axis] *= np.float32(aim / working)
        result[..., axis] += np.expand_dims(at_rest.astype(np.float32), axis)
    return result
