"""Running an exported file at once, and comparing its answer with Keras."""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import keras
import numpy as np
import tensorflow as tf

from tfdense.data import bundled_pair
from tfdense.exporting.signatures import match_fixed
from tfdense.images import read_image
from tfdense.mixture import Mixture

Run = Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]


class Difference(NamedTuple):
    """Between two answers.

    Attributes:
        flow: Euclidean, in px.
        confidence: of P_1.
    """

    flow: float
    confidence: float

    def within(self, bound: "Difference") -> bool:
        """Whether neither exceeds its bound; NaN does."""
        return self.flow <= bound.flow and self.confidence <= bound.confidence

    def __str__(self) -> str:
        return f"flow {self.flow:.2g} px, confidence {self.confidence:.2g}"


LARGEST = Difference(1e-3, 1e-3)
MEDIAN = Difference(0.25, 0.02)
# Of bytes the flow's counts as in `LARGEST`: it changes where nothing matches, by more than 1 px.
MEDIAN_OF_BYTES = Difference(0.05, 0.02)
# Where a network states more than this standard deviation, in px, it found no match. How many times
# as large a difference it may have there, see `verify`.
GUESSED = 32.0
ALLOWANCE = 30.0


class VerificationError(Exception):
    """An exported file answers differently than Keras; it was not kept."""


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was written, and how well it agrees with Keras on a real pair.

    Attributes:
        path: of the file or folder.
        size: of the file, or of all files in the folder, in bytes.
        operations: the number of each operation in a .tflite file; empty for a SavedModel.
        precision: of the weights.
        largest: of all pixels, with the same weights, the flow's relative to three standard
            deviations where these exceed 1 px, a thirtieth of that where nothing was found, see
            `verify`; bounded by `LARGEST`.
        median: between the file and Keras, which has the weights in float32, the flow's where a
            match was found; bounded by `MEDIAN`, or, of int8, relative as `largest` is, by
            `MEDIAN_OF_BYTES`.
    """

    path: Path
    size: int
    operations: Mapping[str, int]
    precision: str
    largest: Difference
    median: Difference

    @property
    def passed(self) -> bool:
        """Whether the differences are within their bounds."""
        return self.largest.within(LARGEST) and self.median.within(self._median_bound)

    @property
    def _median_bound(self) -> Difference:
        return MEDIAN_OF_BYTES if self.precision == "int8" else MEDIAN

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.size / 1e6:.2f} MB, weights of {self.precision}"]
        if self.operations:
            counts = (f"{name} {count}" for name, count in self.operations.items())
            lines.append(f"operations: {', '.join(counts)}")
        relative = ", relative to 3 σ > 1 px"
        of_median = relative if self.precision == "int8" else ""
        for name, difference, bound in (
            (
                f"largest difference with equal weights{relative}, / {ALLOWANCE:.0f} where "
                f"σ > {GUESSED:.0f} px",
                self.largest,
                LARGEST,
            ),
            (
                f"median difference to Keras{of_median}, flow where σ <= {GUESSED:.0f} px",
                self.median,
                self._median_bound,
            ),
        ):
            verdict = "kept" if difference.within(bound) else "exceeded"
            lines.append(f"{name}: {difference}; bound: {bound}: {verdict}")
        if self.precision == "int8":
            lines.append(
                "in float32: biases and all arithmetic. Kernels in 8 bits make the file small; "
                "correlation, coordinates and the flow in 8 bits would move it by many pixels"
            )
        return "\n".join(lines)


def read_pair(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Reads the bundled real pair: source and target, uint8 [height, width, 3] of `size`."""
    source, target = (
        cv2.resize(read_image(path), size[::-1], interpolation=cv2.INTER_AREA)
        for path in bundled_pair()
    )
    return source, target


def verify(
    path: Path,
    written: Path,
    chain: Sequence[tuple[Run, Run]],
    sizes: Sequence[tuple[int, int]],
    precision: str = "float32",
    operations: Mapping[str, int] = types.MappingProxyType({}),
) -> ExportReport:
    """Compares an exported file with the network that it was made from, on the bundled pair.

    What is the same function of the same weights must answer the same at every pixel, up to what
    float32 rounds. A network amplifies that where it finds no match: a flow that differs in its
    last digits sees another correlation and gets another correction. There Keras and LiteRT, both
    in float32, are about as far from Keras in float64 as from each other. (The pdcnet-lite that
    ships: 0.13 px where it states a standard deviation of 97 px, but 9e-5 px where it states less
    than 1 px.) So a difference of the flow counts relative to three standard deviations where
    these exceed 1 px.

    Larger images have more places to take for a match, and amplify more: of the bundled pair at
    480x640, two thirds of which match nothing, Keras with and without oneDNN differs by up to 2.2
    px, 0.009 of three standard deviations, where it states more than 40 px, and by up to 0.00016
    where it states less. So a thirtieth of the difference counts where more than `GUESSED` is
    stated.

    Rounded weights give another function, whose largest difference says little: where the target
    shows nothing of the source, the maximum of the correlation is a tie that any rounding may
    decide otherwise. So a file of rounded weights is compared over a link: a file with the weights
    in float32 must equal Keras everywhere, and with its weights rounded, but stored in float32, it
    must equal the file with rounded weights everywhere. What the rounding itself does is bounded in
    the median over the pixels, the flow's over those where no more than `GUESSED` is stated.

    Args:
        path: where the export shall stand; for the report.
        written: where it stands for now.
        chain: pairs of functions that must answer the same at every pixel, each of two images uint8
            [height, width, 3] to what `match_fixed` answers for one pair. The first link ends at
            Keras, see `keras_run`; the last begins with the exported file.
        sizes: each (height, width) to run at.
        precision: of the weights in the file.
        operations: for the report.

    Raises:
        VerificationError: if a difference exceeds its bound.
    """
    pairs = [read_pair(size) for size in sizes]
    links = [[(run(*images), exact(*images)) for run, exact in chain] for images in pairs]
    compare = _relative_differences if precision == "int8" else _differences
    medians = [_median_difference(compare, each[-1][0], each[0][1]) for each in links]
    report = ExportReport(
        path=path,
        size=sum(file.stat().st_size for file in (written, *written.rglob("*")) if file.is_file()),
        operations=operations,
        precision=precision,
        largest=_largest_difference(link for each in links for link in each),
        median=Difference(*np.max(medians, axis=0)),
    )
    if not report.passed:
        raise VerificationError(f"{report}\nIt was not kept.")
    return report


def keras_run(model: keras.Model) -> Run:
    """Returns the function of two images that a network computes in Keras."""

    def run(source: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
        answer = match_fixed(model, tf.constant(source[None]), tf.constant(target[None]))
        return {name: values[0].numpy() for name, values in answer.items()}

    return run


def _largest_difference(links) -> Difference:
    """Returns the largest difference within pairs of answers, see `verify`."""
    largest = []
    for answer, expected in links:
        flow, confidence = _relative_differences(answer, expected)
        flow = np.where(_deviation(expected) > GUESSED, flow / ALLOWANCE, flow)
        largest.append((np.max(flow), np.max(confidence)))
    return Difference(*np.max(largest, axis=0))


def _median_difference(compare: Callable, answer, expected) -> Difference:
    """Returns the median of the differences, the flow's where a match was found at all."""
    flow, confidence = compare(answer, expected)
    found = _deviation(expected) <= GUESSED
    return Difference(np.median(flow[found] if found.any() else flow), np.median(confidence))


def _relative_differences(answer, expected) -> tuple[np.ndarray, np.ndarray]:
    """Returns `_differences`, the flow's relative to three standard deviations, see `verify`."""
    flow, confidence = _differences(answer, expected)
    return flow / np.maximum(3.0 * _deviation(expected), 1.0), confidence


def _deviation(answer) -> np.ndarray:
    """Returns the standard deviation that a network states at each pixel, in px."""
    return np.sqrt(Mixture.variance(answer["log_variance"], answer["logits"]))


def _differences(answer, expected) -> tuple[np.ndarray, np.ndarray]:
    """Returns the differences of flow and confidence at each pixel, [height, width]."""
    flow = np.linalg.norm(answer["flow"] - expected["flow"], axis=-1)
    return flow, np.abs(answer["confidence"] - expected["confidence"])
