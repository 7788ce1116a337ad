"""Running an exported file at once, and comparing its answer with Keras."""

import contextlib
import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import keras
import numpy as np
import tensorflow as tf

from tfdense.data import bundled_pair
from tfdense.exporting.signatures import match_fixed
from tfdense.images import read_image


class Bounds(NamedTuple):
    """The largest differences to Keras that an exported file may have, over all pixels.

    Attributes:
        flow: Euclidean, in px.
        confidence: of P_1.
    """

    flow: float
    confidence: float


BOUNDS = {"float32": Bounds(1e-3, 1e-3), "float16": Bounds(0.1, 1e-2)}


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
        flow_difference: to Keras with weights of this precision, Euclidean, in px, the largest.
        confidence_difference: likewise.
        rounding_difference: how far the flow moves in Keras, in px, in the median, when the
            weights are rounded to this precision.
    """

    path: Path
    size: int
    operations: Mapping[str, int]
    precision: str
    flow_difference: float
    confidence_difference: float
    rounding_difference: float

    @property
    def passed(self) -> bool:
        """Whether the differences are within their bounds; NaN is not."""
        bounds = BOUNDS[self.precision]
        return (
            self.flow_difference <= bounds.flow and self.confidence_difference <= bounds.confidence
        )

    def __str__(self) -> str:
        bounds = BOUNDS[self.precision]
        lines = [f"{self.path}: {self.size / 1e6:.2f} MB"]
        if self.operations:
            counts = (f"{name} {count}" for name, count in self.operations.items())
            lines.append(f"operations: {', '.join(counts)}")
        if self.precision != "float32":
            lines.append(
                f"rounding the weights to {self.precision} moves the flow by "
                f"{self.rounding_difference:.2g} px in the median"
            )
        lines.append(
            f"largest difference to Keras with {self.precision} weights: flow "
            f"{self.flow_difference:.2g} px, confidence {self.confidence_difference:.2g}"
        )
        verdict = "kept" if self.passed else "exceeded"
        lines.append(f"bound: flow {bounds.flow:g} px, confidence {bounds.confidence:g}: {verdict}")
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
    run: Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]],
    model: keras.Model,
    size: tuple[int, int],
    precision: str,
    operations: Mapping[str, int] = types.MappingProxyType({}),
) -> ExportReport:
    """Compares an exported file with the network that it was made from, on the bundled pair.

    The comparison is with the network whose weights are rounded as in the file. Against the exact
    weights no largest difference could be bounded: where the target shows nothing of the source,
    the maximum of the correlation is a tie that any rounding may decide otherwise.

    Args:
        path: where the export shall stand; for the report.
        written: where it stands for now.
        run: answers two images uint8 [height, width, 3] with "flow" [height, width, 2] and
            "confidence" [height, width].
        model: the network in Keras.
        size: (height, width) to run at.
        precision: of the weights in the file.
        operations: for the report.

    Raises:
        VerificationError: if a difference exceeds its bound.
    """
    pair = read_pair(size)
    answer = run(*pair)
    exact = _run_keras(model, *pair)
    with _rounded_weights(model, precision):
        rounded = _run_keras(model, *pair)
    report = ExportReport(
        path=path,
        size=sum(file.stat().st_size for file in (written, *written.rglob("*")) if file.is_file()),
        operations=operations,
        precision=precision,
        flow_difference=float(_distance(answer["flow"], rounded["flow"]).max()),
        confidence_difference=float(np.abs(answer["confidence"] - rounded["confidence"]).max()),
        rounding_difference=float(np.median(_distance(rounded["flow"], exact["flow"]))),
    )
    if not report.passed:
        raise VerificationError(f"{report}\nIt was not kept.")
    return report


def _run_keras(model: keras.Model, source, target) -> dict[str, np.ndarray]:
    answer = match_fixed(model, tf.constant(source[None]), tf.constant(target[None]))
    return {name: values[0].numpy() for name, values in answer.items()}


@contextlib.contextmanager
def _rounded_weights(model: keras.Model, precision: str) -> Iterator[None]:
    """Rounds the weights of a network inside the block."""
    exact = model.get_weights()
    model.set_weights([values.astype(precision) for values in exact])
    try:
        yield
    finally:
        model.set_weights(exact)


def _distance(flow, other) -> np.ndarray:
    return np.linalg.norm(flow - other, axis=-1)
