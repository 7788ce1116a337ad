"""What the operations, their layers and those of TensorFlow Addons refuse in one line."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense import addons, ops
from tfdense.layers.gocor import GlobalGOCor, LocalGOCor
from tfdense.layers.matching import GlobalMatching, UnitMeanSquare
from tfdense.layers.operations import Warp

_FLOW = np.zeros((1, 4, 6, 2), np.float32)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize(
    "call",
    [
        lambda x: ops.local_correlation(x, x, 1),
        lambda x: ops.all_pairs_correlation(x, x),
        lambda x: ops.warp(x, _FLOW),
        lambda x: Warp()(x, _FLOW),
        lambda x: ops.forward_backward_error(x, x),
        lambda x: ops.forward_backward_error(_FLOW, x),
        lambda x: UnitMeanSquare()(x),
        lambda x: addons.CorrelationCost(1, 2, 1, 2, 2, "channels_last")([x, x]),
        lambda x: addons.dense_image_warp(x, _FLOW),
        lambda x: addons.interpolate_bilinear(x, _FLOW[0]),
        lambda x: addons.resampler(x, _FLOW),
    ],
)
def test_integers_are_refused(call, dtype):
    with pytest.raises(ValueError, match=f"floating dtype of `.*Received: {dtype}"):
        call(np.full((1, 4, 6, 2), 200, dtype))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.warp(_FLOW, _FLOW[..., :1]), r"`flow` of shape .*\(1, 4, 6, 1\)"),
        (lambda: Warp()(_FLOW, _FLOW[..., :1]), r"`flow` of shape .*\(1, 4, 6, 1\)"),
        (lambda: ops.forward_backward_error(_FLOW, _FLOW[..., :1]), "`backward` of shape"),
        (lambda: ops.forward_backward_error(_FLOW, _FLOW.repeat(2, 0)), "`backward` of shape"),
        (lambda: ops.all_pairs_correlation(_FLOW, _FLOW.repeat(2, 0)), "`source` of shape"),
        (lambda: ops.all_pairs_correlation(_FLOW, _FLOW[..., :1]), "`source` of shape"),
        (lambda: ops.local_correlation(_FLOW, _FLOW, 1.5), "an integer.*radius=1.5"),
        (lambda: GlobalMatching()(_FLOW, _FLOW.repeat(2, 0)), "`source` of shape"),
        (lambda: LocalGOCor()(_FLOW, _FLOW.swapaxes(1, 2)), "the same shape"),
        (lambda: LocalGOCor()(_FLOW, _FLOW.repeat(2, 0)), "the same shape"),
        (lambda: GlobalGOCor()(_FLOW, _FLOW.swapaxes(1, 2)), "the same shape"),
    ],
)
def test_what_would_be_broadcast_or_cut_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("window", [0, -1.0, float("nan"), float("inf"), "a", None])
def test_a_window_that_is_none_is_refused(window):
    with pytest.raises(ValueError, match="`window` must be positive and finite"):
        GlobalMatching(window)


def test_a_single_source_cell_is_certain():
    features = keras.ops.ones((1, 3, 2, 8))
    _, certainty, _ = GlobalMatching()(features, features[:, :1, :1])
    np.testing.assert_allclose(certainty[..., :3], np.tile([1.0, 1.0, 0.0], (1, 3, 2, 1)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_backward_flow_that_is_no_number_is_no_agreement(value):
    backward = _FLOW.copy()
    backward[0, 1, 2] = value
    for function in (ops.forward_backward_error, tf.function(ops.forward_backward_error)):
        error = function(_FLOW, backward).numpy()
        assert not np.isfinite(error[0, 1, 2])
        assert error[0, 3, 5] == 0
