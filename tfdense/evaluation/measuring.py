"""Runs methods on a pair with ground truth and measures how well they did."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tfdense.checks import photo_to_match
from tfdense.evaluation import metrics
from tfdense.evaluation.geometric import epipolar_precision, homography_corner_error, pose_error
from tfdense.evaluation.pairs import EvaluationPair

if TYPE_CHECKING:  # The classical methods are measured without TensorFlow.
    from tfdense.mixture import Mixture
    from tfdense.results.match import Match
    from tfdense.two_view.estimation import Homography, Pose

RADII = (1.0, 3.0, 5.0)
PCK_THRESHOLDS = (1.0, 3.0, 5.0, 10.0)
# Of the confidences of pixels without a match.
UNMATCHED_RADII = (1.0, 5.0)


class Estimate(Protocol):
    """What any method gives for two images.

    Attributes:
        flow: [height, width, 2] at the target's size, in px, into the source.
        confidence: orders the pixels by how far to trust them, [height, width].
    """

    flow: np.ndarray
    confidence: np.ndarray


class Matches(Protocol):
    """A method: a `Baseline` or a `tfdense.matcher.Matcher`."""

    def match(self, source: np.ndarray, target: np.ndarray) -> Estimate: ...


@dataclasses.dataclass(frozen=True)
class Measurement:
    """How a method did on a pair.

    Attributes:
        pair, method: their names.
        values: by name, as far as the pair's ground truth and the method allow:

            - ``seconds``, in which a classical method matches both ways for its confidence,
            - of the flow: ``points`` (how many are known), ``aepe`` in px, ``pck_T`` and ``fl`` in
              percent, and ``pck_rule``, within `EvaluationPair.tolerance`,
            - of the method's confidence: ``ause`` and ``ause_pck_5``,
            - of a homography: ``corner_error`` in px, infinite if none was found,
            - of cameras: ``pose_error`` in degrees, likewise, and ``epipolar_precision`` of the
              matches in percent,
            - of a network's distribution: ``nll`` in nats, ``mean_confidence``, of P_1, and
              ``ause_NAME`` by each of `rankings`,
            - of a network where pixels are known to have no match: ``unmatched`` (how many),
              ``unmatched_p_R``, their mean P_R, and ``unmatched_p_R_above_half``, the share of them
              with a P_R above 0.5, for R in `UNMATCHED_RADII`.
        curves: by ``confidence``, the names of `rankings` and ``oracle``: the sparsification curve,
            divided by the pair's AEPE, [51].
        reliability: of a network: for each of `RADII` the counts of `metrics.reliability`,
            [radii, bins, 3].
    """

    pair: str
    method: str
    values: dict[str, float]
    curves: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    reliability: np.ndarray | None = None


def measure(
    methods: dict[str, Matches], pair: EvaluationPair, mixture: Mixture | None = None
) -> Iterator[tuple[Measurement, Estimate]]:
    """Runs each method on a pair.

    Args:
        methods: by name. One whose matches have a ``log_variance`` is a network.
        pair: with ground truth.
        mixture: of the network.

    Yields:
        For each method its measurement and what it gave. A network's first pair takes longer,
        since it is prepared meanwhile.

    Raises:
        InputError: if an image is too small to be matched.
    """
    for role in ("source", "target"):
        photo_to_match(f"{role} of the pair {pair.name}", getattr(pair, role))
    for name, method in methods.items():
        start = time.perf_counter()
        match = method.match(pair.source, pair.target)
        elapsed = time.perf_counter() - start
        # A match that was recorded knows how long it took then.
        values = {"seconds": getattr(match, "seconds", elapsed)}
        values |= _geometry(pair, match)
        curves, counts = {}, None
        if len(pair.points):
            of_flow, curves, counts = _flow(pair, match, method, mixture)
            values |= of_flow
        if pair.unmatched is not None and len(pair.unmatched) and hasattr(match, "log_variance"):
            values |= _unmatched(match, pair.unmatched, mixture)
        yield Measurement(pair.name, name, values, curves, counts), match


def rankings(
    match: Match, backward: np.ndarray, points: np.ndarray, mixture: Mixture
) -> dict[str, np.ndarray]:
    """Returns what else than its confidence a network's matches can be ordered by.

    Args:
        match: of the network.
        backward: its flow from source to target, [source height, source width, 2].
        points: (x, y) in the target, [n, 2].
        mixture: of the network.

    Returns:
        By name, [n], higher is less certain: ``p_3`` and ``p_5``, by P_R; ``deviation``, the
        weighted mean of the components' standard deviations, in px, to which the expected error is
        proportional; ``forward_backward``, the error of going to the source and back, in px.
    """
    log_variance = metrics.sample(match.log_variance, points)
    logits = metrics.sample(match.logits, points)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    deviation = (weights * np.exp(log_variance / 2)).sum(axis=-1) / weights.sum(axis=-1)
    cycle = metrics.forward_backward_error(match.flow, backward)
    return {
        **{
            f"p_{radius:g}": -mixture.confidence(log_variance, logits, radius).numpy()
            for radius in RADII[1:]
        },
        "deviation": deviation,
        # An infinite error cannot be interpolated: what leaves the source comes last.
        "forward_backward": metrics.sample(np.minimum(cycle, 1e6), points),
    }


def _geometry(pair: EvaluationPair, match: Estimate) -> dict[str, float]:
    values = {}
    if pair.cameras is not None and hasattr(match, "pose"):
        pose = match.pose(pair.cameras.source, pair.cameras.target)
        values["pose_error"] = _pose_error(pair, pose)
        matches = match.matches()
        values["epipolar_precision"] = epipolar_precision(
            matches.source, matches.target, pair.cameras
        )
    if pair.homography is not None and hasattr(match, "homography"):
        values["corner_error"] = _corner_error(pair, match.homography())
    return values


def _flow(pair: EvaluationPair, match: Estimate, method: Matches, mixture: Mixture | None):
    """Returns the values, curves and counts of a `Measurement` that need the true flow."""
    flow = metrics.sample(match.flow, pair.points)
    errors = metrics.endpoint_error(flow, pair.true_flow)
    values = {
        "points": len(errors),
        "aepe": metrics.average_endpoint_error(errors),
        **{
            f"pck_{threshold:g}": metrics.percentage_of_correct_keypoints(errors, threshold)
            for threshold in PCK_THRESHOLDS
        },
        "fl": metrics.outlier_percentage(errors, pair.true_flow),
    }
    if pair.tolerance is not None:
        values["pck_rule"] = metrics.percentage_of_correct_keypoints(errors, pair.tolerance)
    own = -metrics.sample(match.confidence, pair.points)
    uncertainties, likelihood, counts = {"confidence": own}, {}, None
    if hasattr(match, "log_variance"):
        backward = method.match(pair.target, pair.source).flow
        uncertainties |= rankings(match, backward, pair.points, mixture)
        likelihood, counts = _probabilities(match, flow, pair, mixture)
    curves = _curves(errors, uncertainties)
    values |= _areas(curves)
    values["ause_pck_5"] = metrics.area_under_sparsification_error(
        errors, own, lambda e: metrics.percentage_of_correct_keypoints(e, 5.0), 100.0
    )
    return values | likelihood, curves, counts


def _curves(errors: np.ndarray, uncertainties: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    curves = {
        name: metrics.sparsification_curve(errors, uncertainty)
        for name, uncertainty in {**uncertainties, "oracle": errors}.items()
    }
    scale = curves["oracle"].max() + 1e-6
    return {name: curve / scale for name, curve in curves.items()}


def _areas(curves: dict[str, np.ndarray]) -> dict[str, float]:
    areas = {
        f"ause_{name}": metrics.area_between_curves(curve, curves["oracle"])
        for name, curve in curves.items()
        if name != "oracle"
    }
    return {"ause": areas.pop("ause_confidence"), **areas}


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


def _probabilities(
    match: Match, flow: np.ndarray, pair: EvaluationPair, mixture: Mixture
) -> tuple[dict[str, float], np.ndarray]:
    log_variance = metrics.sample(match.log_variance, pair.points)
    logits = metrics.sample(match.logits, pair.points)
    likelihood = mixture.negative_log_likelihood(flow - pair.true_flow, log_variance, logits)
    confidences = [mixture.confidence(log_variance, logits, radius).numpy() for radius in RADII]
    counts = [
        metrics.reliability(confidence, metrics.within_square(flow, pair.true_flow, radius))
        for confidence, radius in zip(confidences, RADII, strict=True)
    ]
    values = {"nll": float(np.mean(likelihood)), "mean_confidence": float(confidences[0].mean())}
    return values, np.stack(counts)


def _unmatched(match: Match, pixels: np.ndarray, mixture: Mixture) -> dict[str, float]:
    log_variance = metrics.sample(match.log_variance, pixels)
    logits = metrics.sample(match.logits, pixels)
    values = {"unmatched": len(pixels)}
    for radius in UNMATCHED_RADII:
        confidence = mixture.confidence(log_variance, logits, radius).numpy()
        values[f"unmatched_p_{radius:g}"] = float(confidence.mean())
        values[f"unmatched_p_{radius:g}_above_half"] = float((confidence > 0.5).mean())
    return values
