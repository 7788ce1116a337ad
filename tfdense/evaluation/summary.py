"""Sums up the measurements of a data set."""

from collections.abc import Sequence

import numpy as np

from tfdense.evaluation import metrics
from tfdense.evaluation.geometric import area_under_recall, mean_average_precision
from tfdense.evaluation.measuring import PCK_THRESHOLDS, RADII, Measurement

_CORNER_THRESHOLDS = (3.0, 5.0, 10.0)
_POSE_THRESHOLDS = (5.0, 10.0, 20.0)
# Means over the points of a pair; the others are not, so that they are averaged over pairs only.
_POINT_MEANS = ("aepe", *(f"pck_{threshold:g}" for threshold in PCK_THRESHOLDS), "fl")
# Values of pixels without a match, of which a pair may have few or none.
_UNMATCHED = "unmatched"


def summarize(measurements: Sequence[Measurement]) -> dict[str, dict[str, dict]]:
    """Sums up the measurements of one data set.

    Returns:
        For each method, as far as it has them:

        - ``mean_over_pairs`` of every value,
        - ``mean_over_points``, in which each point of the whole data set counts the same (as
          KITTI's Fl is published),
        - ``sparsification``: the mean over pairs of each of the curves,
        - ``ause_ratio``: AUSE by the network's confidence over AUSE by forward-backward error,
        - of errors that may be infinite and have no mean, by the threshold in px or degrees, in
          percent: ``corner_error_auc``, ``pose_auc`` (trapezoid rule), ``pose_map`` (mean of
          accuracies),
        - ``expected_calibration_error`` of P_R over all points, by R, and the counts of its
          ``reliability`` diagram (see `metrics.reliability`),
        - ``unmatched``: the number of ``pixels`` that are known to have no match, and means over
          them of the values that `Measurement` names.
    """
    methods = dict.fromkeys(m.method for m in measurements)
    return {name: _of_method([m for m in measurements if m.method == name]) for name in methods}


def _of_method(measurements: Sequence[Measurement]) -> dict[str, dict]:
    columns = {
        name: np.array([m.values[name] for m in measurements if name in m.values])
        for name in dict.fromkeys(name for m in measurements for name in m.values)
    }
    unmatched = {name: columns.pop(name) for name in list(columns) if name.startswith(_UNMATCHED)}
    corner_errors = columns.pop("corner_error", None)
    pose_errors = columns.pop("pose_error", None)
    result = {"mean_over_pairs": {name: float(c.mean()) for name, c in columns.items()}}
    if "points" in columns:
        result["mean_over_points"] = {
            name: float(np.average(columns[name], weights=columns["points"]))
            for name in _POINT_MEANS
        }
        result["sparsification"] = {
            name: np.mean([m.curves[name] for m in measurements if m.curves], axis=0).tolist()
            for name in next(m.curves for m in measurements if m.curves)
        }
    means = result["mean_over_pairs"]
    if means.get("ause_forward_backward"):
        result["ause_ratio"] = means["ause"] / means["ause_forward_backward"]
    if corner_errors is not None:
        result["corner_error_auc"] = {
            f"{threshold:g}": area_under_recall(corner_errors, threshold)
            for threshold in _CORNER_THRESHOLDS
        }
    if pose_errors is not None:
        for name, figure in (("auc", area_under_recall), ("map", mean_average_precision)):
            result[f"pose_{name}"] = {
                f"{threshold:g}": figure(pose_errors, threshold) for threshold in _POSE_THRESHOLDS
            }
    counts = [m.reliability for m in measurements if m.reliability is not None]
    if counts:
        by_radius = {f"{r:g}": c for r, c in zip(RADII, np.sum(counts, axis=0), strict=True)}
        result["expected_calibration_error"] = {
            radius: metrics.expected_calibration_error(count) for radius, count in by_radius.items()
        }
        result["reliability"] = {radius: count.tolist() for radius, count in by_radius.items()}
    if unmatched:
        pixels = unmatched.pop(_UNMATCHED)
        result["unmatched"] = {"pixels": int(pixels.sum())} | {
            name.removeprefix(f"{_UNMATCHED}_"): float(np.average(values, weights=pixels))
            for name, values in unmatched.items()
        }
    return result
