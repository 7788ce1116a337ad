"""Measuring methods whose answers are known."""

import types

import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation.baselines import BASELINES
from tfdense.evaluation.measuring import measure, summarize
from tfdense.evaluation.pairs import Cameras, EvaluationPair, homography_pair
from tfdense.mixture import LaplaceMixture

HEIGHT, WIDTH = 20, 30
IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def pair(name, points, true_flow):
    points, true_flow = np.array(points, float), np.array(true_flow, float)
    return EvaluationPair(name, IMAGE, IMAGE, points, true_flow)


PAIRS = [
    pair("a", [[1, 1], [2, 2], [3, 3], [4, 4]], [[0, 0.5], [0, 2], [0, 4], [8, 6]]),
    pair("b", [[5, 5]], [[0, 0]]),
]


def test_accuracy_by_hand():
    first, second = measure({"identity": BASELINES["identity"]}, PAIRS)
    assert (first.pair, first.method, second.pair) == ("a", "identity", "b")
    assert first.values["points"] == 4
    assert first.values["aepe"] == pytest.approx((0.5 + 2 + 4 + 10) / 4)
    assert [first.values[f"pck_{t}"] for t in (1, 3, 5, 10)] == [25, 50, 75, 100]
    assert first.values["fl"] == 50.0
    assert second.values["aepe"] == 0.0
    assert first.reliability is None


def test_means_over_pairs_and_over_points():
    summary = summarize(list(measure({"identity": BASELINES["identity"]}, PAIRS)))["identity"]
    assert summary["mean_over_pairs"]["pck_3"] == pytest.approx((50 + 100) / 2)
    assert summary["mean_over_points"]["pck_3"] == pytest.approx((4 * 50 + 100) / 5)
    assert summary["mean_over_points"]["fl"] == pytest.approx(4 * 50 / 5)
    assert "expected_calibration_error" not in summary


def test_small_images_are_refused():
    small = np.zeros((15, 30, 3), np.uint8)
    pair = homography_pair("tiny", IMAGE, small, np.eye(3))
    with pytest.raises(InputError, match="30x15 px"):
        list(measure({"DIS": BASELINES["DIS"]}, [pair]))


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
        )


def test_corner_errors_of_homographies():
    pairs = [homography_pair(name, IMAGE, IMAGE, np.eye(3)) for name in "ab"]
    measurements = list(measure({"shift": Geometry(), "identity": BASELINES["identity"]}, pairs))
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
    measurements = list(measure({"turn": Geometry(), "identity": BASELINES["identity"]}, pairs))
    assert [m.values.get("pose_error") for m in measurements] == [90, None, np.inf, None]
    summary = summarize(measurements)
    assert summary["turn"]["pose_auc"]["20"] == summary["turn"]["pose_map"]["20"] == 0.0
    assert list(summary["turn"]["mean_over_pairs"]) == ["seconds"]
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
    measurements = list(measure({"n": Network()}, [pair("a", grid, truth)], mixture))
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
    summary = summarize(measurements)["n"]
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
