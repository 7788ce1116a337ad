"""Matching with an exported .tflite file: needs numpy and ai-edge-litert, no TensorFlow.

from tfdense.lite import LiteMatcher

matcher = LiteMatcher("pdcnet.tflite")
answer = matcher.match(source, target)  # RGB arrays of any size
answer["flow"], answer["confidence"]
"""

import threading
from pathlib import Path

import numpy as np

from tfdense.errors import InputError
from tfdense.masking import UNKNOWN_LOG_VARIANCE, as_mask, hide, is_masked
from tfdense.pixels import to_bytes
from tfdense.tflite_files import open_file

_OUTPUTS = {"flow", "confidence", "log_variance", "logits"}


class LiteMatcher:
    """Matches pairs of images with a .tflite file that ``tfdense export tflite`` wrote.

    Threads may share it; the network runs for one of them at a time. A pickle holds no network,
    only the file's path.

    Attributes:
        metadata: what the file says of itself: preset, mixture, size, stride, radius, conventions,
            hash of the weights, version.
        size: the (height, width) that the network sees.

    Args:
        path: of the file.
        threads: how many LiteRT may use; None leaves it to LiteRT.

    Raises:
        InputError: if the file is missing or broken, or was not written by tfdense, or by a later
            version.
    """

    def __init__(self, path: str | Path, threads: int | None = None):
        if threads is not None and threads < 1:
            raise InputError(f"Expected at least one thread. Received: {threads}")
        interpreter, self.metadata, _ = open_file(path, num_threads=threads)
        self.size = tuple(self.metadata["size"])
        try:
            self._runner = interpreter.get_signature_runner("match")
            inputs = self._runner.get_input_details()
            fits = {*self._runner.get_output_details()} >= _OUTPUTS and all(
                tuple(inputs[role]["shape"]) == (1, *self.size, 3) for role in ("source", "target")
            )
        except (ValueError, RuntimeError, KeyError):
            fits = False
        if not fits:
            raise InputError(f"{path} is broken: no signature match that fits its description.")
        self._lock = threading.Lock()
        self._origin = Path(path).absolute(), threads

    def __reduce__(self):
        return LiteMatcher, self._origin

    def run(self, source: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
        """Matches two images of exactly the file's size.

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
        for name, image in images.items():
            if image.shape[:2] != self.size:
                raise InputError(
                    f"Expected a {name} of height and width {self.size}, the size of this file. "
                    f"Received: {image.shape[:2]}. `match` takes any size."
                )
        # An interpreter holds one pair of inputs.
        with self._lock:
            try:
                answer = self._runner(**{name: image[None] for name, image in images.items()})
            except (RuntimeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise InputError(f"The .tflite file is broken: {reason}") from None
        return {name: values[0] for name, values in answer.items()}

    def match(
        self,
        source: np.ndarray,
        target: np.ndarray,
        source_mask: np.ndarray | None = None,
        target_mask: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Matches two images of any size, by resizing them to the file's size.

        Args:
            source, target: [height, width, 3], RGB, see `tfdense.pixels.to_bytes`.
            source_mask, target_mask: which pixels count, [height, width]; what is not 0 does. See
                `tfdense.masking`.

        Returns:
            As `run`, at the target's size and in px of the source; and "radius" [2], R in x and y
            of the confidence in px of the source: one pixel of the file's size.

        Raises:
            InputError: if an image is none, or a mask has another size than its image.
        """
        source, target = _as_bytes(source, "source"), _as_bytes(target, "target")
        if source_mask is not None:
            source_mask = as_mask(source_mask, source.shape[:2], "mask of the source")
        if target_mask is not None:
            target_mask = as_mask(target_mask, target.shape[:2], "mask of the target")
        source = hide(source, source_mask, "source")
        target = hide(target, target_mask, "target")
        images = (np.rint(_resize(image, self.size)) for image in (source, target))
        answer = self.run(*(image.astype(np.uint8) for image in images))
        size = target.shape[:2]
        # Pixels of the source per pixel that the network sees, (x, y).
        scale = np.float32(source.shape[1::-1]) / np.float32(self.size[::-1])
        # With half-pixel centres, the flow of a resized but otherwise equal image is not zero.
        grid = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), axis=-1)
        ratio = np.divide(source.shape[1::-1], target.shape[1::-1])
        at_rest = (grid + 0.5) * (ratio - 1.0)
        flow = _resize(answer["flow"], size) * scale + at_rest.astype(np.float32)
        confidence = _resize(answer["confidence"][..., None], size)[..., 0]
        log_variance = _resize(answer["log_variance"], size) + np.log(scale).sum()
        masked = is_masked(flow, source_mask, target_mask)
        return {
            "flow": flow,
            "confidence": np.where(masked, np.float32(0), confidence),
            "log_variance": np.where(masked[..., None], UNKNOWN_LOG_VARIANCE, log_variance),
            "logits": _resize(answer["logits"], size),
            "radius": scale,
        }


def _as_bytes(image, name: str) -> np.ndarray:
    """Returns an image as uint8 [height, width, 3]."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise InputError(f"Expected a {name} of shape [height, width, 3]. Received: {image.shape}")
    if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
        raise InputError(
            f"Expected a {name} of uint8, uint16 or floating values. Received: {image.dtype}"
        )
    return to_bytes(image, name)


def _resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes [height, width, channels], bilinear; smooths along an axis that shrinks."""
    height, width, channels = values.shape
    rows, columns = _weights(height, size[0]), _weights(width, size[1])
    values = values.astype(np.float32).reshape(height, width * channels)
    return columns @ (rows @ values).reshape(size[0], width, channels)


def _weights(size: int, new_size: int) -> np.ndarray:
    """Returns the share of each old position in each new one, [new_size, size].

    A triangle around the new position, half-pixel centres, as wide as the coarser of both grids.
    """
    scale = size / new_size
    centre = (np.arange(new_size) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(size) - centre[:, None]) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
