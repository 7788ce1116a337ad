"""The metrics, by hand and against the original's evaluation code."""

import numpy as np
import pytest
from scipy import ndimage

from tfdense.evaluation import metrics


def test_endpoint_error_is_euclidean():
    errors = metrics.endpoint_error(np.array([[3.0, 4.0], [1.0, 1.0]]), np.array([[0, 0], [1, 1]]))
    np.testing.assert_allclose(errors, [5.0, 0.0])


def test_pck_counts_errors_up_to_the_threshold():
    errors = np.array([0.5, 1.0, 1.5, 4.0])
    assert metrics.average_endpoint_error(errors) == 1.75
    assert metrics.percentage_of_correct_keypoints(errors, 1.0) == 50.0
    assert metrics.percentage_of_correct_keypoints(errors, 3.0) == 75.0


def test_perfect_ranking_has_no_sparsification_error():
    errors = np.random.default_rng(0).exponential(size=1000)
    assert metrics.area_under_sparsification_error(errors, errors**2) == 0.0
    reversed_ranking = metrics.area_under_sparsification_error(errors, -errors)
    random_ranking = metrics.area_under_sparsification_error(errors, np.roll(errors, 1))
    assert reversed_ranking > random_ranking > 0.1


def test_sparsification_leaves_out_the_most_uncertain_first():
    errors = np.arange(100.0)
    curve = metrics.sparsification_curve(errors, uncertainty=errors)
    assert curve[0] == 49.5
    assert curve[25] == 24.5  # half left out: 0 to 49 remain
    assert curve[-1] == 0.0


def test_outliers_are_far_off_in_pixels_and_in_proportion():
    errors = np.array([2.9, 3.1, 3.1, 6.0])
    true_flow = np.array([[1.0, 0], [0, 10], [100, 0], [60, 80]])
    # 3.1 of 100 is 3.1 %, 6 of 100 is 6 %.
    assert metrics.outlier_percentage(errors, true_flow) == 50.0


def test_sampling_is_bilinear_and_constant_beyond_the_border():
    random = np.random.default_rng(0)
    values = random.normal(size=(5, 7, 2))
    positions = random.uniform(-2, 8, (200, 2))
    expected = [
        ndimage.map_coordinates(values[..., c], positions.T[::-1], order=1, mode="nearest")
        for c in (0, 1)
    ]
    result = metrics.sample(values, positions)
    np.testing.assert_allclose(result, np.stack(expected, axis=-1), atol=1e-6)
    np.testing.assert_allclose(metrics.sample(values[..., 0], positions), expected[0], atol=1e-6)


def test_forward_backward_error_of_shifts():
    forward = np.full((4, 6, 2), (1.0, 0.0))
    backward = np.full((4, 6, 2), (-1.0, 0.5))
    error = metrics.forward_backward_error(forward, backward)
    np.testing.assert_allclose(error[:, :5], 0.5)
    assert np.isinf(error[:, 5]).all()  # leaves the source


def test_calibration_error_by_hand():
    confidence = np.array([0.1, 0.2, 0.9, 1.0])
    correct = np.array([False, True, True, True])
    counts = metrics.reliability(confidence, correct, bins=2)
    np.testing.assert_allclose(counts, [[2, 0.3, 1], [2, 1.9, 2]])
    # Bin means 0.15 and 0.95 against shares of 0.5 and 1, half the pixels each.
    assert metrics.expected_calibration_error(counts) == pytest.approx(0.2)


def test_calibration_error_vanishes_for_true_probabilities():
    random = np.random.default_rng(0)
    confidence = random.uniform(size=200_000)
    counts = metrics.reliability(confidence, random.uniform(size=200_000) < confidence)
    assert metrics.expected_calibration_error(counts) < 0.01


def test_right_means_within_a_square():
    flow = np.array([[0.9, -0.9], [1.1, 0.0]])
    np.testing.assert_array_equal(metrics.within_square(flow, np.zeros((2, 2)), 1.0), [True, False])


@pytest.mark.reference
def test_sparsification_as_the_original(reference):
    arrays = np.load(reference / "ops" / "metrics.npz")
    errors = metrics.endpoint_error(arrays["pred"], arrays["gt"])

    def pck(threshold):
        return lambda kept: metrics.percentage_of_correct_keypoints(kept, threshold) / 100.0

    for name, metric, perfect in [
        ("EPE", metrics.average_endpoint_error, 0.0),
        ("PCK1", pck(1.0), 1.0),
        ("PCK5", pck(5.0), 1.0),
    ]:
        ause = metrics.area_under_sparsification_error(errors, arrays["uncert"], metric, perfect)
        assert ause == pytest.approx(float(arrays[f"AUSE_{name}"]), abs=2e-6)
        curve = metrics.sparsification_curve(errors, arrays["uncert"], metric, perfect)
        oracle = metrics.sparsification_curve(errors, errors, metric, perfect)
        expected = arrays[f"sparse_{name}"]
        np.testing.assert_allclose(curve / (oracle.max() + 1e-6), expected, atol=2e-6)
