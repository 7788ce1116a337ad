"""What one training step does, on any number of devices."""

import json
import os

import keras
import tensorflow as tf

from tfdense.config import LossConfig
from tfdense.losses import extrapolation_error, matching_likelihood, pyramid_likelihood
from tfdense.photometric import photometric_loss


def distribution_strategy() -> tf.distribute.Strategy:
    """Returns the strategy for this machine.

    Several workers where ``TF_CONFIG`` names them, else all GPUs where there are several, else one
    device.
    """
    if "cluster" in json.loads(os.environ.get("TF_CONFIG") or "{}"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def objective(model: keras.Model, batch: dict, config: LossConfig) -> tf.Tensor:
    """Returns the loss of a batch, the mean over its pairs."""
    output = model({"source": batch["source"], "target": batch["target"]}, training=True)
    if config.objective == "photometric":
        return photometric_loss(
            output["levels"],
            batch["source"],
            batch["target"],
            config.level_weights,
            config.photometric,
        )
    flow, mask = batch["flow"], batch["mask"]
    loss = pyramid_likelihood(
        model.mixture,
        output["levels"],
        flow,
        mask,
        config.level_weights,
        config.resolution,
        config.reduction,
        batch.get("unmatched") if config.unmatched_weight else None,
        config.unmatched_weight,
    )
    if config.extrapolation_weight and "unmatched" in batch:
        loss += config.extrapolation_weight * extrapolation_error(
            output["levels"], flow, mask, batch["unmatched"], config.level_weights
        )
    if "matching" in output:
        loss += config.matching_weight * matching_likelihood(output["matching"], flow, mask)
    return loss


def build_train_step(
    model: keras.Model,
    optimizer: keras.optimizers.LossScaleOptimizer,
    average: tf.train.ExponentialMovingAverage | None,
    config: LossConfig,
    strategy: tf.distribute.Strategy,
):
    """Returns a compiled function of a batch that updates the weights.

    The function returns the loss and the norm of the gradient before clipping.
    """
    variables = model.trainable_variables

    def replica_step(batch):
        with tf.GradientTape() as tape:
            loss = objective(model, batch, config)
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        # Of two backbones one goes deeper than what is used of it: those weights stay.
        used = [i for i, gradient in enumerate(gradients) if gradient is not None]
        gradients = [gradients[i] for i in used]
        # Averaged here, so that all devices clip the same gradient and agree that it is finite.
        # The optimiser sums over the devices once more.
        context = tf.distribute.get_replica_context()
        count = context.num_replicas_in_sync
        gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        norm = tf.linalg.global_norm(gradients) / tf.cast(optimizer.dynamic_scale, tf.float32)
        optimizer.apply([gradient / count for gradient in gradients], [variables[i] for i in used])
        return loss, norm

    @tf.function
    def train_step(batch):
        loss, norm = strategy.run(replica_step, args=(batch,))
        if average is not None:
            average.apply([variable.value for variable in variables])
        return (
            strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None),
            strategy.reduce(tf.distribute.ReduceOp.MEAN, norm, axis=None),
        )

    return train_step
