"""What a validation measures, on pairs whose ground truth is dense, sparse or missing."""

import numpy as np
import pytest
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.mixture import LaplaceMixture
from tfdense.training.validation import validate

_MIXTURE = LaplaceMixture(maximum_variance=1e4)


def _predict(images):
    """A flow of (3, 4) everywhere, more confident on the left."""
    zeros = tf.zeros_like(images["target"][..., :2])
    sure = tf.cast(tf.range(8) < 4, tf.float32)[:, None] * [4.0, 0.0]
    flow, log_variance = tf.constant([3.0, 4.0]), tf.constant([0.0, 4.0])
    return {"flow": zeros + flow, "log_variance": zeros + log_variance, "logits": zeros + sure}


def _batch(masks):
    """The true flow is (3, 3.5) on the left, where the error is 0.5 px, and 0 on the right."""
    masks = np.array(masks, np.float32)
    flow = np.zeros((*masks.shape, 2), np.float32)
    flow[:, :, :4] = [3, 3.5]
    flow[masks == 0] = np.nan
    image = tf.zeros((*masks.shape, 3))
    arrays = {"source": image, "target": image, "flow": flow, "mask": masks}
    return {name: tf.constant(value) for name, value in arrays.items()}


def test_each_pair_counts_the_same_by_its_valid_pixels():
    dense, sparse, none = np.ones((6, 8)), np.zeros((6, 8)), np.zeros((6, 8))
    sparse[2, 1] = sparse[4, 2] = sparse[1, 6] = 1
    values = validate(_predict, _MIXTURE, [_batch([dense, none]), _batch([sparse])])
    shares = [1 / 2, 2 / 3]  # of the left among what is valid
    assert values["aepe"] == pytest.approx(np.mean([0.5 * s + 5 * (1 - s) for s in shares]))
    assert values["pck_1"] == pytest.approx(100 * np.mean(shares))
    assert values["pck_5"] == pytest.approx(100)
    # P_1 of both components, and their weights on the left and on the right.
    within = (1 - np.exp(-np.sqrt(2) / np.exp([0, 2]))) ** 2
    weight = 1 / (1 + np.exp(-4))
    left, right = within @ [weight, 1 - weight], within.mean()
    confidence = np.mean([left * s + right * (1 - s) for s in shares])
    assert values["mean_confidence"] == pytest.approx(confidence, rel=1e-5)
    assert np.isfinite(values["nll"]) and values["ause"] == pytest.approx(0, abs=0.02)


def test_without_ground_truth_there_is_nothing_to_measure():
    with pytest.raises(InputError, match="none with ground truth"):
        validate(_predict, _MIXTURE, [_batch([np.zeros((6, 8))])])
