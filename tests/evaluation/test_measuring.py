"""Measuring methods whose answers are known."""

import dataclasses
import types

import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation.baselines import BASELINES
from tfdense.evaluation.measuring import measure
from tfdense.evaluation.pairs import Cameras, EvaluationPair, homography_pair
from tfdense.evaluation.summary import summarize
from tfdense.mixture import LaplaceMixture
from tfdense.two_view import estimation as two_view

HEIGHT, WIDTH = 20, 30
IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def pair(name, points, true_flow):
    points, true_flow = np.array(points, float), np.array(true_flow, float)
    return EvaluationPair(name, IMAGE, IMAGE, points, true_flow)


def measure_all(methods, pairs, mixture=None):
    return [m for pair in pairs for m, _ in measure(methods, pair, mixture)]


PAIRS = [
    pair("a", [[1, 1], [2, 2], [3, 3], [4, 4]], [[0, 0.5], [0, 2], [0, 4], [8, 6]]),
    pair("b", [[5, 5]], [[0, 0]]),
]


def test_accuracy_by_hand():
    first, second = measure_all({"identity": BASELINES["identity"]}, PAIRS)
    assert (first.pair, first.method, second.pair) == ("a", "identity", "b")
    assert first.values["points"] == 4
    assert first.values["aepe"] == pytest.approx((0.5 + 2 + 4 + 10) / 4)
    assert [first.values[f"pck_{t}"] for t in (1, 3, 5, 10)] == [25, 50, 75, 100]
    assert first.values["fl"] == 50.0
    assert second.values["aepe"] == 0.0
    assert first.reliability is None


def test_means_over_pairs_and_over_points():
    summary = summarize(measure_all({"identity": BASELINES["identity"]}, PAIRS))["identity"]
    assert summary["mean_over_pairs"]["pck_3"] == pytest.approx((50 + 100) / 2)
    assert summary["mean_over_points"]["pck_3"] == pytest.approx((4 * 50 + 100) / 5)
    assert summary["mean_over_points"]["fl"] == pytest.approx(4 * 50 / 5)
    assert "expected_calibration_error" not in summary


def test_small_images_are_refused():
    small = np.zeros((15, 30, 3), np.uint8)
    pair = homography_pair("tiny", IMAGE, small, np.eye(3))
    with pytest.raises(InputError, match="30x15 px"):
        measure_all({"DIS": BASELINES["DIS"]}, [pair])


def test_the_rule_of_a_data_set():
    ruled = dataclasses.replace(PAIRS[0], tolerance=4.0)
    (measurement,) = measure_all({"identity": BASELINES["identity"]}, [ruled])
    assert measurement.values["pck_rule"] == 75.0


class Geometry:
    """Finds a shift by (3, 4) and a quarter turn the first time, and nothing the second."""

    def __init__(self):
        shift = np.array([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
        turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        self.homographies = [types.SimpleNamespace(matrix=shift), None]
        self.poses = [types.SimpleNamespace(rotation=turn, translation=np.array([0, 0, 1])), None]

    def match(self, source, target):
        match = BASELINES["identity"].match(source, target)
        return types.SimpleNamespace(
            flow=match.flow,
            confidence=match.confidence,
            homography=lambda: self.homographies.pop(0),
            pose=lambda K_source, K_target: self.poses.pop(0),
            # The camera of the test moves forward: lines meet at the pixel (0, 0).
            matches=lambda: two_view.Matches(
                np.array([[8.0, 6], [8, 6]]), np.array([[4.0, 3], [4, 9]]), np.ones(2)
            ),
        )


def test_corner_errors_of_homographies():
    pairs = [homography_pair(name, IMAGE, IMAGE, np.eye(3)) for name in "ab"]
    measurements = measure_all({"shift": Geometry(), "identity": BASELINES["identity"]}, pairs)
    assert [m.values.get("corner_error") for m in measurements] == [5, None, np.inf, None]
    summary = summarize(measurements)
    # The recall is 1/2 from 5 px on, and rises to it linearly from 0.
    assert summary["shift"]["corner_error_auc"]["10"] == pytest.approx(100 * 3.75 / 10)
    assert summary["shift"]["corner_error_auc"]["3"] == 0.0
    assert "corner_error_auc" not in summary["identity"]
    assert np.isfinite(list(summary["shift"]["mean_over_pairs"].values())).all()


def test_pose_errors_without_points():
    camera = np.diag([100.0, 100, 1])
    cameras = Cameras(camera, camera, np.eye(3), np.array([0.0, 0, 2]))
    nothing = np.empty((0, 2))
    pairs = [EvaluationPair(n, IMAGE, IMAGE, nothing, nothing, cameras=cameras) for n in "ab"]
    measurements = measure_all({"turn": Geometry(), "identity": BASELINES["identity"]}, pairs)
    assert [m.values.get("pose_error") for m in measurements] == [90, None, np.inf, None]
    summary = summarize(measurements)
    assert summary["turn"]["pose_auc"]["20"] == summary["turn"]["pose_map"]["20"] == 0.0
    assert list(summary["turn"]["mean_over_pairs"]) == ["seconds", "epipolar_precision"]
    assert summary["turn"]["mean_over_pairs"]["epipolar_precision"] == 50.0
    assert list(summary["identity"]["mean_over_pairs"]) == ["seconds"]
    assert "pose_auc" not in summary["identity"]


class Network:
    """Answers with no flow; it trusts the left half."""

    log_variance = np.broadcast_to(np.log([1.0, 100.0]), (HEIGHT, WIDTH, 2)).astype(np.float32)

    def match(self, source, target):
        logits = np.zeros((HEIGHT, WIDTH, 2), np.float32)
        logits[:, : WIDTH // 2, 0] = 10
        logits[:, WIDTH // 2 :, 1] = 10
        return types.SimpleNamespace(
            flow=np.zeros((HEIGHT, WIDTH, 2), np.float32),
            confidence=1 / (1 + np.exp(logits[..., 1] - logits[..., 0])),
            log_variance=self.log_variance,
            logits=logits,
        )


def test_confidence_of_a_network():
    mixture = LaplaceMixture(maximum_variance=100.0)
    # Right where it is trusted, 7 px off where it is not.
    grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).reshape(-1, 2)
    truth = np.where(grid[:, :1] < WIDTH // 2, [0.0, 0.0], [7.0, 0.0])
    measurements = measure_all({"n": Network()}, [pair("a", grid, truth)], mixture)
    values = measurements[0].values
    assert values["ause"] == pytest.approx(0.0, abs=1e-3)
    assert values["ause_forward_backward"] > 0.2  # zero flow both ways says nothing

    # Of P_R, the probability of a Laplacian of variance v is (1 - exp(-R sqrt(2 / v)))².
    def p(radius, variance):
        return (1 - np.exp(-radius * np.sqrt(2 / variance))) ** 2

    share = 1 / (1 + np.exp(-10.0))
    left = share * p(1, 1) + (1 - share) * p(1, 100)
    right = share * p(1, 100) + (1 - share) * p(1, 1)
    assert values["mean_confidence"] == pytest.approx((left + right) / 2, rel=1e-4)
    # Its deviation is 1 px and 10 px, and P_5 differs too: the same order.
    assert values["ause_deviation"] == pytest.approx(0.0, abs=1e-3)
    assert values["ause_p_5"] == pytest.approx(0.0, abs=1e-3)
    curves = measurements[0].curves
    # Half of the pixels are right: once the others are removed, no error remains.
    np.testing.assert_allclose(curves["confidence"][[0, 25, 26]], [1, 0, 0], atol=1e-5)
    np.testing.assert_allclose(curves["forward_backward"][:50], 1, atol=1e-5)
    summary = summarize(measurements)["n"]
    assert summary["sparsification"]["oracle"] == pytest.approx(curves["oracle"])
    assert summary["ause_ratio"] == pytest.approx(0.0, abs=0.01)
    errors = summary["expected_calibration_error"]
    assert errors["1"] == pytest.approx(((1 - left) + right) / 2, rel=1e-4)
    counts = np.array(summary["reliability"]["1"])
    assert counts.shape == (20, 3)
    # Half the pixels, all right, at P_1 = 0.573, and half, all wrong, near 0.
    np.testing.assert_array_equal(counts[[0, 11]][:, [0, 2]], [[300, 0], [300, 300]])

    # -log of the density: per axis exp(-sqrt(2 / v) |e|) / sqrt(2 v).
    near, far = 1 / 2, 1 / 200
    left = -np.log(share * near + (1 - share) * far)
    decay = np.exp(-7 * np.sqrt(2 / np.array([1.0, 100.0])))
    right = -np.log((1 - share) * near * decay[0] + share * far * decay[1])
    assert values["nll"] == pytest.approx((left + right) / 2, rel=1e-4)


def test_confidence_of_pixels_without_a_match():
    mixture = LaplaceMixture(maximum_variance=100.0)
    nothing = np.empty((0, 2))
    left, right = [0, 0], [WIDTH - 1, 0]
    pairs = [
        EvaluationPair("a", IMAGE, IMAGE, nothing, nothing, unmatched=np.array([left])),
        EvaluationPair("b", IMAGE, IMAGE, nothing, nothing, unmatched=np.array([right] * 3)),
        dataclasses.replace(PAIRS[0], unmatched=np.empty((0, 2))),
    ]
    measurements = measure_all({"n": Network(), "DIS": BASELINES["DIS"]}, pairs, mixture)
    assert "unmatched" not in measurements[1].values
    assert "unmatched" not in measurements[4].values
    of = summarize(measurements)["n"]["unmatched"]
    near, far = ((1 - np.exp(-np.sqrt(2 / variance))) ** 2 for variance in (1, 100))
    # One pixel of four is trusted; all pixels count the same.
    assert of["pixels"] == 4
    assert of["p_1"] == pytest.approx((near + 3 * far) / 4, rel=1e-3)
    assert of["p_1_above_half"] == of["p_5_above_half"] == 0.25
