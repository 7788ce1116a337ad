"""The metrics of Keras against those of the evaluation, which are NumPy's."""

import keras
import numpy as np
import pytest

from tfdense.evaluation import metrics as expected
from tfdense.losses import MixtureNLL
from tfdense.metrics import AEPE, AUSE, PCK, CalibrationError
from tfdense.mixture import GaussianUniformMixture, LaplaceMixture

_MIXTURE = LaplaceMixture(maximum_variance=256.0)


def _batch(seed, pairs=3, size=(7, 9), tied=False):
    generator = np.random.default_rng(seed)
    truth = {
        "flow": generator.normal(0, 5, (pairs, *size, 2)).astype(np.float32),
        "mask": (generator.uniform(size=(pairs, *size)) < 0.6).astype(np.float32),
    }
    answer = {
        "flow": truth["flow"] + generator.normal(0, 2, (pairs, *size, 2)).astype(np.float32),
        "log_variance": generator.uniform(-3, 4, (pairs, *size, 2)).astype(np.float32),
        "logits": generator.normal(0, 2, (pairs, *size, 2)).astype(np.float32),
    }
    if tied:  # few values of the confidence, each at many pixels
        answer["log_variance"] = np.round(answer["log_variance"] / 3)
        answer["logits"] = np.zeros_like(answer["logits"])
    truth["flow"][truth["mask"] == 0] = np.nan  # whatever an invalid pixel holds
    return truth, answer


def _each_pair(batches, mixture, radius=1.0):
    """Yields errors, confidence and whether right of each pair's valid pixels."""
    for truth, answer in batches:
        errors = expected.endpoint_error(answer["flow"], truth["flow"])
        right = expected.within_square(answer["flow"], truth["flow"], radius)
        confidence = mixture.confidence(answer["log_variance"], answer["logits"], radius).numpy()
        for i, valid in enumerate(truth["mask"] > 0):
            if valid.any():
                yield errors[i][valid], confidence[i][valid], right[i][valid]


def _stream(metric, batches):
    for truth, answer in batches:
        metric.update_state(truth, answer)
    return float(metric.result())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("mixture", [_MIXTURE, GaussianUniformMixture(32.0)])
def test_streamed_values_are_those_of_the_evaluation(mixture, tied):
    batches = [_batch(seed, tied=tied) for seed in range(3)] + [_batch(9, 2, (1, 60), tied)]
    batches[1][0]["mask"][0] = 0  # a pair without ground truth counts nowhere
    batches[1][0]["flow"][0] = np.nan
    batches[2][0]["mask"][1] = 0
    batches[2][0]["mask"][1, 3, 4] = 1
    batches[2][0]["flow"][1] = 0
    pairs = list(_each_pair(batches, mixture))
    assert len(pairs) == 10

    aepe = np.mean([expected.average_endpoint_error(errors) for errors, *_ in pairs])
    assert _stream(AEPE(), batches) == pytest.approx(aepe, rel=1e-6)
    for radius in (1.0, 3.0):
        pck = np.mean([expected.percentage_of_correct_keypoints(e, radius) for e, *_ in pairs])
        assert _stream(PCK(radius), batches) == pytest.approx(pck, rel=1e-6)
    ause = np.mean([expected.area_under_sparsification_error(e, -c) for e, c, _ in pairs])
    assert _stream(AUSE(mixture), batches) == pytest.approx(ause, rel=1e-5, abs=1e-7)
    for radius in (1.0, 2.5):
        counts = sum(
            expected.reliability(confidence, right)
            for _, confidence, right in _each_pair(batches, mixture, radius)
        )
        ece = expected.expected_calibration_error(counts)
        metric = CalibrationError(mixture, radius)
        assert _stream(metric, batches) == pytest.approx(ece, rel=1e-5)


def test_an_answer_that_ranks_its_errors_has_no_sparsification_error():
    errors = np.linspace(0, 8, 100, dtype=np.float32).reshape(1, 10, 10)
    answer = {
        "flow": np.stack([errors, 0 * errors], axis=-1),
        "log_variance": np.stack([0 * errors, errors], axis=-1),
        "logits": np.stack([0 * errors, 0 * errors + 5], axis=-1),
    }
    truth = {"flow": np.zeros((1, 10, 10, 2), np.float32)}
    assert _stream(AUSE(_MIXTURE), [(truth, answer)]) == pytest.approx(0, abs=1e-6)
    answer["log_variance"] = answer["log_variance"][:, ::-1, ::-1]
    assert _stream(AUSE(_MIXTURE), [(truth, answer)]) > 0.3


@pytest.mark.parametrize(
    "metric", [AEPE(), PCK(2.0), AUSE(_MIXTURE, 2.0), CalibrationError(_MIXTURE, 2.0, 10)]
)
def test_weights_of_pairs_reset_and_configuration(metric):
    truth, answer = _batch(5, pairs=2)
    metric.reset_state()
    assert float(metric.result()) == 0
    metric.update_state(truth, answer, sample_weight=np.float32([1, 0]))
    first = {name: value[:1] for name, value in truth.items()}
    alone = type(metric).from_config(metric.get_config())
    assert alone.get_config() == metric.get_config()
    alone.update_state(first, {name: value[:1] for name, value in answer.items()})
    assert float(metric.result()) == pytest.approx(float(alone.result()))
    assert float(metric.result()) > 0
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(again) is type(metric) and again.name == metric.name
    metric.reset_state()
    assert float(metric.result()) == 0


def test_a_confidence_that_is_no_number_is_not_left_out():
    for metric in (AUSE(_MIXTURE), CalibrationError(_MIXTURE)):
        truth, answer = _batch(3)
        answer["logits"][truth["mask"] == 0] = np.nan  # whatever an invalid pixel holds
        assert np.isfinite(_stream(metric, [(truth, answer)]))
        answer["logits"][0] = np.nan
        metric.reset_state()
        metric.update_state(truth, answer, sample_weight=np.float32([0, 1, 1]))
        assert np.isfinite(float(metric.result()))
        assert np.isnan(_stream(metric, [(truth, answer)]))


_EACH = [
    lambda: AEPE(),
    lambda: PCK(2.0),
    lambda: AUSE(_MIXTURE),
    lambda: CalibrationError(_MIXTURE),
]


@pytest.mark.parametrize("metric", _EACH)
def test_masks_and_weights_of_other_forms(metric):
    truth, answer = _batch(4, pairs=2)
    weights = np.float32([0.25, 0.75])
    expected, boolean, column, scalar, whole = (metric() for _ in range(5))
    expected.update_state(truth, answer, sample_weight=weights)
    boolean.update_state({**truth, "mask": truth["mask"] > 0}, answer, sample_weight=weights)
    column.update_state(truth, answer, sample_weight=weights[:, None])
    assert float(boolean.result()) == float(column.result()) == float(expected.result())
    whole.update_state(truth, answer)
    scalar.update_state(truth, answer, sample_weight=0.5)
    assert float(scalar.result()) == pytest.approx(float(whole.result()))
    with pytest.raises(ValueError, match=r"`sample_weight`. Received: \(3,\)"):
        metric().update_state(truth, answer, sample_weight=np.ones(3, np.float32))


@pytest.mark.parametrize("compare", [*_EACH, lambda: MixtureNLL(_MIXTURE)])
def test_what_would_be_broadcast_is_refused(compare):
    truth, answer = _batch(6, pairs=2)
    cases = [
        ({**truth, "flow": truth["flow"][..., :1]}, answer, "the true flow"),
        ({**truth, "mask": truth["mask"].swapaxes(1, 2)}, answer, "`mask`"),
        (truth, {name: value[:1] for name, value in answer.items()}, "the estimated flow"),
        (truth, {**answer, "flow": answer["flow"][..., :1]}, "the estimated flow"),
        (truth, {**answer, "logits": answer["logits"][:1]}, "`logits`"),
    ]
    for y_true, y_pred, message in cases:
        comparison = compare()
        call = getattr(comparison, "update_state", comparison)
        with pytest.raises(ValueError, match=f"^Expected {message}.* of shape .*Received: "):
            call(y_true, y_pred)
