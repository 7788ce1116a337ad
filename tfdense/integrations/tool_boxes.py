"""What the matchers of vismatch and of image-matching-models have in common.

Both call ``_forward(img0, img1)`` of a subclass of their `BaseMatcher` with tensors [3, height,
width] of values in 0..1, and take key points (x, y) in px of these images.
"""

from typing import NamedTuple

import numpy as np

import tfdense
from tfdense.results.spreading import DEFAULT_THRESHOLD


class FoundKeypoints(NamedTuple):
    """Key points that belong together, the most confident first.

    Attributes:
        keypoints0: (x, y) in the first image, the source, in px, float32 [count, 2].
        keypoints1: (x, y) in the second image, the target, in px, float32 [count, 2].
        confidence: P_R, float32 [count].
    """

    keypoints0: np.ndarray
    keypoints1: np.ndarray
    confidence: np.ndarray


class DenseMatching:
    """Matches tensors: to be named before `BaseMatcher` among the classes to inherit from.

    Args:
        device: for the tool box; TensorFlow takes the device that it finds.
        max_num_keypoints: how many matches at most, spread over the second image.
        model: what `tfdense.load` takes.
        threshold: the least confidence of a match.
        options: `setting`, `mode`, `max_side` and `fill` are for `tfdense.load`, the rest for the
            tool box.
    """

    def __init__(
        self,
        device: str = "cpu",
        max_num_keypoints: int = 2048,
        model="pdcnet-lite",
        threshold: float = DEFAULT_THRESHOLD,
        **options,
    ):
        own = {
            name: options.pop(name)
            for name in ("setting", "mode", "max_side", "fill")
            if name in options
        }
        super().__init__(device, **options)
        self._matcher = tfdense.load(model, **own)
        self._count, self._threshold = max_num_keypoints, threshold

    def find(self, img0, img1) -> FoundKeypoints:
        """Matches two images, tensors or arrays [3, height, width] of values in 0..1."""
        match = self._matcher.match(*map(_pixels, (img0, img1)))
        return FoundKeypoints(*match.matches(self._count, self._threshold))


def _pixels(image) -> np.ndarray:
    """Returns a tensor as uint8 [height, width, 3]; resizing may have left values beyond 0..1."""
    array = np.asarray(image.cpu() if hasattr(image, "cpu") else image, np.float32)
    return np.rint(255 * np.clip(array, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
