"""Metrics for ``compile()``: how good a flow is, and how well its confidence tells that.

They take what the networks of `tfdense.models` answer and the ground truth of `tfdense.data.pairs`,
batch by batch, and give what `tfdense.evaluation.metrics` gives. Those of errors are means over the
pairs that have a valid pixel.
"""

import keras
import numpy as np
import tensorflow as tf

from tfdense.ground_truth import check_ground_truth
from tfdense.mixture import Mixture

# Shares of the most uncertain pixels that a sparsification curve leaves out.
_REMOVED = np.arange(0, 100, 2) / 100


class _MeanOverPairs(keras.metrics.Metric):
    """A mean over the pairs that have a valid pixel.

    Call (`update_state`):
        y_true: {"flow": [batch, height, width, 2], in px, "mask": [batch, height, width], 1 or True
            where it is valid (if left out: everywhere)}.
        y_pred: {"flow"}, and where the confidence counts "log_variance" and "logits",
            [batch, height, width, ...].
        sample_weight: [batch] or [batch, 1], of each pair, or one for all.

    Raises:
        ValueError: if the shapes of a batch do not fit.
    """

    def __init__(self, name: str, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_weight((), "zeros", "float64", "total")
        self.count = self.add_weight((), "zeros", "float64", "count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        error, valid = _errors(y_true, y_pred)
        values = self._measure(error, valid, y_pred)
        weights = tf.cast(tf.reduce_any(valid, axis=1), tf.float64)
        weights *= _pair_weights(sample_weight, valid)
        # A pair that does not count may have no number for a value.
        self.total.assign_add(tf.reduce_sum(tf.math.multiply_no_nan(values, weights)))
        self.count.assign_add(tf.reduce_sum(weights))

    def _measure(self, error, valid, y_pred) -> tf.Tensor:
        """Measures each pair: [batch], float64.

        Args:
            error: endpoint errors, float64 [batch, pixels], 0 where not valid.
            valid: boolean [batch, pixels].
            y_pred: what the network answers.
        """
        raise NotImplementedError

    def result(self):
        return tf.cast(tf.math.divide_no_nan(self.total, self.count), self.dtype)


@keras.saving.register_keras_serializable("tfdense")
class AEPE(_MeanOverPairs):
    """The average endpoint error, in px: mean Euclidean distance from the true flow.

    For example:

    >>> metric = AEPE()
    >>> metric.update_state({"flow": np.zeros((1, 2, 2, 2))}, {"flow": np.ones((1, 2, 2, 2))})
    >>> round(float(metric.result()), 4)
    1.4142
    """

    def __init__(self, name: str = "aepe", dtype=None):
        super().__init__(name, dtype)

    def _measure(self, error, valid, y_pred):
        return _mean(error, valid)


@keras.saving.register_keras_serializable("tfdense")
class PCK(_MeanOverPairs):
    """The percentage of correct keypoints: of endpoint errors of at most R.

    Args:
        radius: R, in px.
    """

    def __init__(self, radius: float = 1.0, name: str | None = None, dtype=None):
        super().__init__(name or f"pck_{radius:g}", dtype)
        self.radius = radius

    def _measure(self, error, valid, y_pred):
        return 100.0 * _mean(tf.cast(error <= self.radius, tf.float64), valid)

    def get_config(self):
        return {**super().get_config(), "radius": self.radius}


class _OfConfidence(keras.metrics.Metric):
    """What the metrics of the confidence P_R have in common: a mixture and R."""

    def _confidence(self, y_pred) -> tf.Tensor:
        """Returns P_R, float64 [batch, pixels]."""
        confidence = self.mixture.confidence(y_pred["log_variance"], y_pred["logits"], self.radius)
        return _flat(tf.cast(confidence, tf.float64))

    def get_config(self):
        mixture = keras.saving.serialize_keras_object(self.mixture)
        return {**super().get_config(), "mixture": mixture, "radius": self.radius}

    @classmethod
    def from_config(cls, config):
        mixture = keras.saving.deserialize_keras_object(config["mixture"])
        return cls(**{**config, "mixture": mixture})


@keras.saving.register_keras_serializable("tfdense")
class AUSE(_OfConfidence, _MeanOverPairs):
    """The area under the sparsification error: 0 if the confidence ranks the pixels as errors do.

    See `tfdense.evaluation.metrics.area_under_sparsification_error` (Ilg et al., "Uncertainty
    estimates and multi-hypotheses networks for optical flow"; PDC-Net, section 5.3).

    Args:
        mixture: the distribution, ``mixture`` of a network.
        radius: R of the confidence P_R, in px.
    """

    def __init__(self, mixture: Mixture, radius: float = 1.0, name: str = "ause", dtype=None):
        super().__init__(name, dtype)
        self.mixture = mixture
        self.radius = radius

    def _measure(self, error, valid, y_pred):
        confidence = self._confidence(y_pred)
        curve = _sparsification_curve(error, confidence, valid)
        oracle = _sparsification_curve(error, -error, valid)
        scale = tf.reduce_max(oracle, axis=1) + 1e-6
        area = tf.abs(_area(curve) - _area(oracle)) / scale
        # What is not a number has no rank, but would be sorted somewhere.
        unknown = tf.reduce_any(valid & tf.math.is_nan(confidence), axis=1)
        return tf.where(unknown, tf.constant(np.nan, area.dtype), area)


@keras.saving.register_keras_serializable("tfdense")
class CalibrationError(_OfConfidence):
    """The expected calibration error, in 0..1: how far P_R is from how often the flow is right.

    Over all valid pixels of all pairs, in equal intervals of P_R (Guo et al., "On calibration of
    modern neural networks"). Right is a flow within R px of the true one in x and in y.

    Args:
        mixture: the distribution, ``mixture`` of a network.
        radius: R, in px.
        bins: number of intervals.

    Call (`update_state`): as of the other metrics.
    """

    def __init__(
        self,
        mixture: Mixture,
        radius: float = 1.0,
        bins: int = 20,
        name: str = "ece",
        dtype=None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.mixture = mixture
        self.radius = radius
        self.bins = bins
        # Of each interval: pixels, their confidence, how many of them are right.
        self.counts = self.add_weight((bins, 3), "zeros", "float64", "counts")

    def update_state(self, y_true, y_pred, sample_weight=None):
        check_ground_truth(y_true, [y_pred], same_size=True)
        confidence = self._confidence(y_pred)
        difference = tf.abs(y_pred["flow"] - tf.cast(y_true["flow"], y_pred["flow"].dtype))
        right = _flat(tf.cast(tf.reduce_all(difference <= self.radius, axis=-1), tf.float64))
        valid = _valid(y_true)
        weights = tf.cast(valid, tf.float64) * _pair_weights(sample_weight, valid)[:, None]
        each = tf.stack([tf.ones_like(right), confidence, right], axis=-1)
        # A pixel that does not count may have no number for a confidence.
        each = tf.math.multiply_no_nan(each, weights[..., None])
        # As evaluation does, in the confidence's own precision.
        interval = tf.cast(tf.cast(confidence, tf.float32) * self.bins, tf.int32)
        # Of what is not a number any integer: it must come into one of the sums, to be seen there.
        interval = tf.clip_by_value(tf.reshape(interval, [-1]), 0, self.bins - 1)
        sums = tf.math.unsorted_segment_sum(tf.reshape(each, [-1, 3]), interval, self.bins)
        self.counts.assign_add(sums)

    def result(self):
        number, confidence, right = tf.unstack(tf.convert_to_tensor(self.counts), axis=1)
        distance = tf.reduce_sum(tf.abs(confidence - right))
        return tf.cast(tf.math.divide_no_nan(distance, tf.reduce_sum(number)), self.dtype)

    def get_config(self):
        return {**super().get_config(), "bins": self.bins}


def _flat(x) -> tf.Tensor:
    return tf.reshape(x, [tf.shape(x)[0], -1])


def _valid(y_true) -> tf.Tensor:
    if "mask" in y_true:
        return _flat(tf.cast(y_true["mask"], tf.float32)) > 0
    return _flat(tf.ones_like(y_true["flow"][..., 0], tf.bool))


def _pair_weights(sample_weight, valid) -> tf.Tensor:
    """Returns the weight of each pair, float64 [batch]; `valid` is [batch, pixels]."""
    weights = tf.cast(1.0 if sample_weight is None else sample_weight, tf.float64)
    pairs = valid.shape[0]
    if pairs is not None and weights.shape.num_elements() not in (None, 1, pairs):
        raise ValueError(
            f"Expected one number or {pairs}, one for each pair, as `sample_weight`. "
            f"Received: {weights.shape}"
        )
    return tf.broadcast_to(tf.reshape(weights, [-1]), tf.shape(valid)[:1])


def _errors(y_true, y_pred) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the endpoint errors, float64 [batch, pixels], and where they are valid."""
    check_ground_truth(y_true, [y_pred], same_size=True)
    valid = _valid(y_true)
    difference = tf.cast(y_pred["flow"], tf.float32) - tf.cast(y_true["flow"], tf.float32)
    error = _flat(tf.cast(tf.norm(difference, axis=-1), tf.float64))
    return tf.where(valid, error, 0.0), valid


def _mean(x, valid) -> tf.Tensor:
    valid = tf.cast(valid, tf.float64)
    return tf.math.divide_no_nan(tf.reduce_sum(x * valid, axis=1), tf.reduce_sum(valid, axis=1))


def _sparsification_curve(error, certainty, valid) -> tf.Tensor:
    """Returns each pair's mean error with 0, 2, ..., 98 and 100 percent left out, [batch, 51].

    Args:
        error: float64 [batch, pixels], 0 where not valid.
        certainty: float64 [batch, pixels].
        valid: boolean [batch, pixels].
    """
    count = tf.shape(error)[1]
    certainty = tf.where(valid, certainty, -np.inf)
    order = tf.argsort(certainty, axis=1)
    certainty = tf.gather(certainty, order, batch_dims=1)
    sums = tf.cumsum(tf.gather(error, order, batch_dims=1), axis=1, reverse=True)
    # Those that are not valid come first. NumPy's percentiles lie between two of the others.
    first = count - tf.reduce_sum(tf.cast(valid, tf.int32), axis=1, keepdims=True)
    place = tf.cast(tf.maximum(count - 1 - first, 0), tf.float64) * _REMOVED
    lower = tf.minimum(first + tf.cast(tf.floor(place), tf.int32), count - 1)
    upper = tf.minimum(lower + 1, count - 1)
    below, above = (tf.gather(certainty, index, batch_dims=1) for index in (lower, upper))
    share = place - tf.floor(place)
    threshold = tf.where(share > 0, below + share * (above - below), below)
    kept = tf.searchsorted(certainty, threshold)
    curve = tf.gather(sums, kept, batch_dims=1) / tf.cast(count - kept, tf.float64)
    return tf.pad(curve, [[0, 0], [0, 1]])


def _area(curve) -> tf.Tensor:
    """Integrates over equal steps from 0 to 1 (trapezoidal rule)."""
    return tf.reduce_mean(0.5 * (curve[:, 1:] + curve[:, :-1]), axis=1)
