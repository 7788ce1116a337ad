"""Weights averaged over the steps of a training, on any number of devices."""

from collections.abc import Sequence

import tensorflow as tf


class MovingAverage:
    """The exponential moving average of weights, kept on each device beside them.

    The momentum is (1 + n) / (10 + n) after n steps where that is less, so that the random start is
    forgotten, as in `tf.train.ExponentialMovingAverage`; that one's updates cannot be traced where
    several workers train.

    Args:
        weights: made under the strategy of the training, as this has to be.
        momentum: by which the average of a step stays.
        steps: how many were taken, a variable.
    """

    def __init__(self, weights: Sequence[tf.Variable], momentum: float, steps: tf.Variable):
        self._weights = tuple(weights)
        self._momentum, self._steps = momentum, steps
        self._averages = {
            weight.ref(): tf.Variable(weight.numpy(), trainable=False) for weight in weights
        }

    def average(self, weight: tf.Variable) -> tf.Variable | None:
        """Returns the average of a weight, None of another variable."""
        return self._averages.get(weight.ref())

    def update(self, strategy: tf.distribute.Strategy) -> None:
        """Goes on to the weights as they are, outside of what runs on each device."""
        steps = tf.cast(self._steps, tf.float32)
        change = 1.0 - tf.minimum(self._momentum, (1.0 + steps) / (10.0 + steps))
        for weight in self._weights:
            strategy.extended.update(self.average(weight), _approach, args=(weight, change))


def _approach(average: tf.Variable, weight: tf.Variable, change: tf.Tensor) -> tf.Tensor:
    return average.assign_sub((average - weight) * tf.cast(change, average.dtype))
