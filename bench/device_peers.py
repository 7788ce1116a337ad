"""What else one could run on a CPU: methods that see both images shrunk to the size of a file."""

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation.baselines import BASELINES, BaselineMatch, choose
from tfdense.exporting.verification import read_pair
from tfdense.inference.resizing import resize_image, resize_smooth
from tfdense.results.answers import rescale_flow


@dataclasses.dataclass(frozen=True, eq=False)
class Peer:
    """A method that matches images of one size.

    Attributes:
        method: see `tfdense.evaluation.baselines`.
        size: (height, width) of what it sees.
    """

    method: object
    size: tuple[int, int]

    def match(self, source: np.ndarray, target: np.ndarray) -> BaselineMatch:
        """Matches two images of any sizes, as a network of that size does."""
        seen = self.method.match(*(resize_image(image, self.size) for image in (source, target)))
        return BaselineMatch(
            rescale_flow(seen.flow, source.shape, target.shape, resize_smooth),
            resize_smooth(seen.confidence, target.shape),
        )

    def timed(self, threads: int) -> Callable[[], object]:
        """Returns what computes one flow: of the bundled pair, since images change the time."""
        images = read_pair(self.size)

        def run():
            _set_threads(threads)
            return self.method.flow(*images)

        return run


def peers(names: Sequence[str], size: tuple[int, int]) -> dict[str, Peer]:
    """Returns methods of `tfdense.evaluation.baselines` and `bench.peers` by name.

    Raises:
        InputError: if there is no such method, or it cannot be run here.
    """
    if not {*names} <= {*BASELINES}:
        from bench.peers import learned

        try:
            BASELINES.update(learned())
        except ModuleNotFoundError as error:
            raise InputError(
                f"Expected methods of {', '.join(BASELINES)}, or the package {error.name} for "
                f"others: pip install 'tfdense[learned-peers]'. Received: {', '.join(names)}"
            ) from None
    if unknown := [name for name in names if name not in BASELINES]:
        raise InputError(f"Expected methods of {', '.join(BASELINES)}. Received: {unknown[0]}")
    return {name: Peer(method, size) for name, method in choose(names).items()}


def _set_threads(threads: int) -> None:
    cv2.setNumThreads(threads)
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)
