"""Runs methods on pairs with ground truth and sums up how well they did."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tfdense.evaluation import metrics
from tfdense.evaluation.geometric import (
    area_under_recall,
    homography_corner_error,
    mean_average_precision,
    pose_error,
)
from tfdense.evaluation.pairs import EvaluationPair
from tfdense.inference.checks import image_to_match

if TYPE_CHECKING:  # The classical methods are measured without TensorFlow.
    from tfdense.inference.two_view import Homography, Pose
    from tfdense.mixture import Mixture

RADII = (1.0, 3.0, 5.0)
_PCK_THRESHOLDS = (1.0, 3.0, 5.0, 10.0)
_CORNER_THRESHOLDS = (3.0, 5.0, 10.0)
_POSE_THRESHOLDS = (5.0, 10.0, 20.0)
# Means over the points of a pair; the others are not, so that they are averaged over pairs only.
_POINT_MEANS = ("aepe", *(f"pck_{threshold:g}" for threshold in _PCK_THRESHOLDS), "fl")


class Estimate(Protocol):
    """What any method gives for two images.

    Attributes:
        flow: [height, width, 2] at the target's size, in px, into the source.
        confidence: orders the pixels by how far to trust them, [height, width].
    """

    flow: np.ndarray
    confidence: np.ndarray


class Matches(Protocol):
    """A method: a `Baseline` or a `tfdense.inference.matcher.Matcher`."""

    def match(self, source: np.ndarray, target: np.ndarray) -> Estimate: ...


@dataclasses.dataclass(frozen=True)
class Measurement:
    """How a method did on a pair.

    Attributes:
        pair, method: their names.
        values: by name: ``points`` (how many have ground truth), ``aepe`` in px, ``pck_T`` and
            ``fl`` in percent, ``ause`` and ``ause_pck_5`` by the method's own confidence, and
            ``seconds``, in which a classical method matches in both directions for its confidence.
            Where pair and method have a homography: ``corner_error`` in px, infinite if none was
            found. Where both have cameras: ``pose_error`` in degrees, likewise; a pair without
            points has only this and the seconds. Of a network also: ``ause_forward_backward`` (by
            the error of going to the source and back), ``nll`` in nats and ``mean_confidence``, of
            P_1.
        reliability: of a network: for each of `RADII` the counts of `metrics.reliability`,
            [radii, bins, 3].
    """

    pair: str
    method: str
    values: dict[str, float]
    reliability: np.ndarray | None = None


def measure(
    methods: dict[str, Matches], pairs: Iterable[EvaluationPair], mixture: Mixture | None = None
) -> Iterable[Measurement]:
    """Runs each method on each pair.

    Args:
        methods: by name. One whose matches have a ``log_variance`` is a network.
        pairs: with ground truth.
        mixture: of the network.

    Yields:
        A measurement for each pair and method, pair by pair. A network's first pair takes longer,
        since it is prepared meanwhile.

    Raises:
        InputError: if an image is too small to be matched.
    """
    for pair in pairs:
        for role in ("source", "target"):
            image_to_match(f"{role} of the pair {pair.name}", getattr(pair, role))
        for name, method in methods.items():
            start = time.perf_counter()
            match = method.match(pair.source, pair.target)
            seconds = time.perf_counter() - start
            values = {"seconds": seconds}
            if pair.cameras is not None and hasattr(match, "pose"):
                pose = match.pose(pair.cameras.source, pair.cameras.target)
                values["pose_error"] = _pose_error(pair, pose)
            if not len(pair.points):
                yield Measurement(pair.name, name, values)
                continue
            values |= _accuracy(pair, match)
            if pair.homography is not None and hasattr(match, "homography"):
                values["corner_error"] = _corner_error(pair, match.homography())
            if not hasattr(match, "log_variance"):
                yield Measurement(pair.name, name, values)
                continue
            backward = method.match(pair.target, pair.source).flow
            probabilistic, reliability = _probabilistic(pair, match, backward, mixture)
            yield Measurement(pair.name, name, values | probabilistic, reliability)


def _accuracy(pair: EvaluationPair, match: Estimate) -> dict[str, float]:
    errors = metrics.endpoint_error(metrics.sample(match.flow, pair.points), pair.true_flow)
    uncertainty = -metrics.sample(match.confidence, pair.points)
    return {
        "points": len(errors),
        "aepe": metrics.average_endpoint_error(errors),
        **{
            f"pck_{threshold:g}": metrics.percentage_of_correct_keypoints(errors, threshold)
            for threshold in _PCK_THRESHOLDS
        },
        "fl": metrics.outlier_percentage(errors, pair.true_flow),
        "ause": metrics.area_under_sparsification_error(errors, uncertainty),
        "ause_pck_5": metrics.area_under_sparsification_error(
            errors, uncertainty, lambda e: metrics.percentage_of_correct_keypoints(e, 5.0), 100.0
        ),
    }


def _corner_error(pair: EvaluationPair, homography: Homography | None) -> float:
    if homography is None:
        return float("inf")
    matrix = np.linalg.inv(homography.matrix)
    return homography_corner_error(matrix, pair.homography, *pair.target.shape[:2])


def _pose_error(pair: EvaluationPair, pose: Pose | None) -> float:
    if pose is None:
        return float("inf")
    cameras = pair.cameras
    return pose_error(pose.rotation, pose.translation, cameras.rotation, cameras.translation)


def _probabilistic(pair, match, backward, mixture) -> tuple[dict[str, float], np.ndarray]:
    flow = metrics.sample(match.flow, pair.points)
    log_variance = metrics.sample(match.log_variance, pair.points)
    logits = metrics.sample(match.logits, pair.points)
    cycle = metrics.forward_backward_error(match.flow, backward)
    likelihood = mixture.negative_log_likelihood(flow - pair.true_flow, log_variance, logits)
    # An infinite error cannot be interpolated: what leaves the source comes last.
    uncertainty = metrics.sample(np.minimum(cycle, 1e6), pair.points)
    errors = metrics.endpoint_error(flow, pair.true_flow)
    confidences = [mixture.confidence(log_variance, logits, radius).numpy() for radius in RADII]
    values = {
        "ause_forward_backward": metrics.area_under_sparsification_error(errors, uncertainty),
        "nll": float(np.mean(likelihood)),
        "mean_confidence": float(confidences[0].mean()),
    }
    reliability = [
        metrics.reliability(confidence, metrics.within_square(flow, pair.true_flow, radius))
        for confidence, radius in zip(confidences, RADII, strict=True)
    ]
    return values, np.stack(reliability)


def summarize(measurements: Sequence[Measurement]) -> dict[str, dict[str, dict]]:
    """Sums up the measurements of one data set.

    Returns:
        For each method: ``mean_over_pairs`` of every value; ``mean_over_points``, in which each
        point of the whole data set counts the same (as KITTI's Fl is published); for a network
        also ``expected_calibration_error`` of P_R over all points, by R, and the counts of its
        ``reliability`` diagram (see `metrics.reliability`). Errors that may be infinite have no
        mean: there are ``corner_error_auc``, ``pose_auc`` (trapezoid rule) and ``pose_map`` (mean
        of accuracies) in percent, by the threshold in px or degrees.
    """
    result = {}
    for method in dict.fromkeys(m.method for m in measurements):
        of_method = [m for m in measurements if m.method == method]
        columns = {
            name: np.array([m.values[name] for m in of_method]) for name in of_method[0].values
        }
        corner_errors = columns.pop("corner_error", None)
        pose_errors = columns.pop("pose_error", None)
        means = {name: float(column.mean()) for name, column in columns.items()}
        result[method] = {"mean_over_pairs": means}
        if "points" in columns:
            result[method]["mean_over_points"] = {
                name: float(np.average(columns[name], weights=columns["points"]))
                for name in _POINT_MEANS
            }
        if corner_errors is not None:
            result[method]["corner_error_auc"] = {
                f"{threshold:g}": area_under_recall(corner_errors, threshold)
                for threshold in _CORNER_THRESHOLDS
            }
        if pose_errors is not None:
            for name, figure in (("auc", area_under_recall), ("map", mean_average_precision)):
                result[method][f"pose_{name}"] = {
                    f"{threshold:g}": figure(pose_errors, threshold)
                    for threshold in _POSE_THRESHOLDS
                }
        if of_method[0].reliability is not None:
            counts = np.sum([m.reliability for m in of_method], axis=0)
            result[method]["expected_calibration_error"] = {
                f"{radius:g}": metrics.expected_calibration_error(count)
                for radius, count in zip(RADII, counts, strict=True)
            }
            result[method]["reliability"] = {
                f"{radius:g}": count.tolist() for radius, count in zip(RADII, counts, strict=True)
            }
    return result
