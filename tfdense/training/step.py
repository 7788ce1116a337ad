"""What one training step does, on any number of devices."""

import keras
import tensorflow as tf

from tfdense.config import LossConfig
from tfdense.losses import MixtureNLL
from tfdense.mixture import Mixture
from tfdense.models.network import MatchingNetwork, take_step
from tfdense.photometric import photometric_loss
from tfdense.training.averaging import MovingAverage


def objective(output: dict, batch: dict, mixture: Mixture, config: LossConfig) -> tf.Tensor:
    """Returns the loss of a batch, the mean over its pairs.

    Args:
        output: what the network answers.
        batch: ``source``, ``target``, and where the likelihood counts ``flow``, ``mask`` and
            ``unmatched``.
        mixture: the network's.
        config: which objective.
    """
    if config.objective == "photometric":
        return photometric_loss(
            output["levels"],
            batch["source"],
            batch["target"],
            config.level_weights,
            config.photometric,
        )
    loss = MixtureNLL(
        mixture,
        config.level_weights,
        config.resolution,
        config.reduction,
        config.unmatched_weight,
        config.extrapolation_weight,
        config.matching_weight,
    )
    truth = {name: batch[name] for name in ("flow", "mask", "unmatched") if name in batch}
    # Keras divides by the number of devices.
    return tf.distribute.get_replica_context().num_replicas_in_sync * loss(truth, output)


def build_train_step(
    model: MatchingNetwork,
    optimizer: keras.optimizers.LossScaleOptimizer,
    average: MovingAverage | None,
    config: LossConfig,
    strategy: tf.distribute.Strategy,
):
    """Returns a compiled function of a batch that updates the weights.

    The function returns the loss and the norm of the gradient before clipping.
    """
    # The running statistics of normalisations, which a step changes before its loss is known.
    statistics = [v.value for v in model.non_trainable_variables if "moving_" in v.path]

    def replica_step(batch):
        images = {name: batch[name] for name in ("source", "target")}
        former = [tf.identity(variable) for variable in statistics]
        with tf.control_dependencies(former):
            step = take_step(
                model, optimizer, images, lambda out: objective(out, batch, model.mixture, config)
            )
        finite = tf.math.is_finite(step.loss)
        for variable, value in zip(statistics, former, strict=True):
            variable.assign(tf.where(finite, variable, value))
        return step.loss, step.gradient_norm

    @tf.function
    def train_step(batch):
        loss, norm = strategy.run(replica_step, args=(batch,))
        if average is not None:
            average.update(strategy)
        return (
            strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None),
            strategy.reduce(tf.distribute.ReduceOp.MEAN, norm, axis=None),
        )

    return train_step
