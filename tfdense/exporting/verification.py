"""Running an exported file at once, and comparing its answer with Keras."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf

from tfdense.data import bundled_pair
from tfdense.exporting.signatures import match_fixed
from tfdense.images import read_image


@dataclasses.dataclass(frozen=True)
class Bounds:
    """How far an exported file may differ from Keras in float32.

    Attributes:
        flow: in px.
        confidence: of P_1.
        share: of the pixels that must stay within; 1 bounds the largest difference.
    """

    flow: float
    confidence: float
    share: float


# Weights rounded to float16 decide ties: where the target shows nothing of the source, the maximum
# of the correlation may jump across the image. So a hundredth of the pixels is left out there.
BOUNDS = {
    "float32": Bounds(flow=1e-3, confidence=1e-3, share=1.0),
    "float16": Bounds(flow=0.1, confidence=1e-2, share=0.99),
}


class VerificationError(Exception):
    """An exported file answers differently than Keras; it was not kept."""


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was written, and how well it agrees with Keras on a real pair.

    Attributes:
        path: of the file or folder.
        size: of the file, or of all files in the folder, in bytes.
        operations: the number of each operation in a .tflite file; empty for a SavedModel.
        bounds: what the differences had to stay within.
        flow_difference: Euclidean, in px, the largest over all pixels.
        confidence_difference: the largest over all pixels.
        bounded_flow_difference, bounded_confidence_difference: the largest over the share of the
            pixels that is bounded.
    """

    path: Path
    size: int
    operations: Mapping[str, int]
    bounds: Bounds
    flow_difference: float
    confidence_difference: float
    bounded_flow_difference: float
    bounded_confidence_difference: float

    @property
    def passed(self) -> bool:
        """Whether the differences are within their bounds; NaN is not."""
        return (
            self.bounded_flow_difference <= self.bounds.flow
            and self.bounded_confidence_difference <= self.bounds.confidence
        )

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.size / 1e6:.2f} MB"]
        if self.operations:
            counts = (f"{name} {count}" for name, count in self.operations.items())
            lines.append(f"operations: {', '.join(counts)}")
        lines.append(
            "largest difference to Keras: "
            f"flow {self.flow_difference:.2g} px, confidence {self.confidence_difference:.2g}"
        )
        if self.bounds.share < 1:
            lines.append(
                f"of {self.bounds.share:.0%} of the pixels: flow "
                f"{self.bounded_flow_difference:.2g} px, confidence "
                f"{self.bounded_confidence_difference:.2g}"
            )
        lines.append(
            f"bound: flow {self.bounds.flow:g} px, confidence {self.bounds.confidence:g}: "
            + ("kept" if self.passed else "exceeded")
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
    run: Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]],
    model: keras.Model,
    size: tuple[int, int],
    bounds: Bounds,
    operations: Mapping[str, int] = types.MappingProxyType({}),
) -> ExportReport:
    """Compares an exported file with the network that it was made from, on the bundled pair.

    Args:
        path: where the export shall stand; for the report.
        written: where it stands for now.
        run: answers two images uint8 [height, width, 3] with "flow" [height, width, 2] and
            "confidence" [height, width].
        model: the network in Keras.
        size: (height, width) to run at.
        bounds: what to stay within.
        operations: for the report.

    Raises:
        VerificationError: if a difference exceeds its bound.
    """
    source, target = read_pair(size)
    answer = run(source, target)
    expected = match_fixed(model, tf.constant(source[None]), tf.constant(target[None]))
    flow = np.linalg.norm(answer["flow"] - expected["flow"][0].numpy(), axis=-1)
    confidence = np.abs(answer["confidence"] - expected["confidence"][0].numpy())
    report = ExportReport(
        path=path,
        size=sum(file.stat().st_size for file in (written, *written.rglob("*")) if file.is_file()),
        operations=operations,
        bounds=bounds,
        flow_difference=float(flow.max()),
        confidence_difference=float(confidence.max()),
        bounded_flow_difference=float(np.quantile(flow, bounds.share)),
        bounded_confidence_difference=float(np.quantile(confidence, bounds.share)),
    )
    if not report.passed:
        raise VerificationError(f"{report}\nNothing was written.")
    return report
