import numpy as np
import pytest

from tfdense.exporting.verification import Difference, VerificationError, verify

SIZE = (4, 6)


def answer(deviation=1.0):
    """Of a network that states the same standard deviation, in px, at each pixel but one: 0.1."""
    log_variance = np.full((*SIZE, 2), np.log(deviation**2), np.float32)
    log_variance[0, 0] = np.log(0.01)
    return {
        "flow": np.ones((*SIZE, 2), np.float32),
        "confidence": np.full(SIZE, 0.5, np.float32),
        "log_variance": log_variance,
        "logits": np.zeros((*SIZE, 2), np.float32),
    }


def report(tmp_path, changed, expected):
    return verify(
        tmp_path,
        tmp_path,
        [(lambda source, target: changed, lambda source, target: expected)],
        [SIZE],
    )


@pytest.mark.parametrize(
    ("deviation", "allowed"), [(0.1, 1e-3), (1.0, 3e-3), (31.0, 0.093), (50.0, 4.5)]
)
def test_flow_is_asked_for_as_precisely_as_the_network_states_it(tmp_path, deviation, allowed):
    for factor in (0.9, 1.1):
        changed = answer(deviation)
        changed["flow"][2, 3, 0] += factor * allowed
        if factor < 1:
            largest = report(tmp_path, changed, answer(deviation)).largest
            assert largest.flow == pytest.approx(factor * 1e-3, rel=1e-3)
            assert largest.confidence == 0
        else:
            with pytest.raises(VerificationError, match=r"flow 0.0011 px.*: exceeded"):
                report(tmp_path, changed, answer(deviation))


def test_a_precise_pixel_among_uncertain_ones(tmp_path):
    changed = answer(50.0)
    changed["flow"][0, 0, 1] += 0.002
    with pytest.raises(VerificationError, match=r"flow 0.002 px.*: exceeded"):
        report(tmp_path, changed, answer(50.0))


@pytest.mark.parametrize("name", ["flow", "confidence"])
def test_one_value_that_is_not_a_number(tmp_path, name):
    changed = answer()
    changed[name][1, 1] = np.nan
    with pytest.raises(VerificationError, match="exceeded"):
        report(tmp_path, changed, answer())


@pytest.mark.parametrize("difference", [(np.nan, 0.0), (0.0, np.nan), (2.0, 0.0), (0.0, 2.0)])
def test_differences_beyond_their_bound(difference):
    assert not Difference(*difference).within(Difference(1.0, 1.0))
    assert Difference(1.0, 0.5).within(Difference(1.0, 1.0))
