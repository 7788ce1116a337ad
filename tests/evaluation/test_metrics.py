"""The metrics, by hand and against the original's evaluation code."""

import numpy as np
import pytest

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
