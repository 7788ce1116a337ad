"""What all networks have in common: how they are trained, evaluated and exported."""

import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.layers.freezing import KeepsFrozenParts
from tfdense.losses import MixtureNLL
from tfdense.metrics import AEPE, AUSE, PCK, CalibrationError
from tfdense.models.weight_files import count_arrays
from tfdense.ops.correlation import forward_only

_SERVED = ("flow", "log_variance", "logits")


class MatchingNetwork(KeepsFrozenParts, keras.Model):
    """A network that matches two images, see `tfdense.models`.

    Its weights are there once it is constructed, since none of their shapes depends on the images.
    It matches in two parts, ``features(image)`` and ``match_features(source, target)``, so that the
    features of an image that is matched with several others are computed once.

    Attributes:
        level_weights: of the levels in the loss that `compile` takes by default.
    """

    level_weights: Sequence[float]
    # In what Keras does not look into: it would take metrics for parts of the network.
    _chosen = types.SimpleNamespace(metrics=())

    def __call__(self, inputs, *args, **kwargs):
        if not (isinstance(inputs, Mapping) and {"source", "target"} <= {*inputs}):
            received = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise ValueError(
                f'Expected the images as {{"source": ..., "target": ...}}. Received: {received}'
            )
        return super().__call__(inputs, *args, **kwargs)

    def compile(self, optimizer=None, loss=None, metrics=None, jit_compile=False, **kwargs):
        """Makes the network ready for `fit`, `evaluate` and `predict` on `tfdense.data.pairs`.

        Args:
            optimizer: None takes AdamW at a rate of 1e-4, the gradient's norm clipped to 1.
            loss: takes (y_true, y_pred, sample_weight), all that the network answers as y_pred.
                None takes `default_loss`.
            metrics: likewise, a list of ``keras.metrics.Metric``. None takes AEPE, PCK-1, PCK-3,
                PCK-5, AUSE and the calibration error.
            jit_compile: whether XLA compiles the whole step.
            **kwargs: as of `keras.Model.compile`.

        Raises:
            ValueError: if the loss cannot be called or a metric is not a ``keras.metrics.Metric``,
                or there are weights of outputs: loss and metrics take all outputs together.
        """
        for name in ("loss_weights", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise ValueError(f"Expected no `{name}`. Received: {kwargs[name]}")
        if optimizer is None:
            optimizer = keras.optimizers.AdamW(1e-4, weight_decay=1e-4, global_clipnorm=1.0)
        if metrics is None:
            metrics = [AEPE(), *(PCK(radius) for radius in (1.0, 3.0, 5.0))]
            metrics += [AUSE(self.mixture), CalibrationError(self.mixture)]
        if not all(isinstance(metric, keras.metrics.Metric) for metric in metrics):
            raise ValueError(f"`metrics` must hold objects of keras.metrics. Received: {metrics}")
        loss = self.default_loss() if loss is None else loss
        if not callable(loss):
            raise ValueError(
                "`loss` must take (y_true, y_pred, sample_weight) of all outputs together, such as "
                f"tfdense.losses.MixtureNLL. Received: {loss!r}"
            )
        super().compile(optimizer=optimizer, loss=loss, jit_compile=jit_compile, **kwargs)
        self._chosen = types.SimpleNamespace(metrics=metrics)
        self.optimizer.build(self.trainable_variables)

    def default_loss(self) -> keras.losses.Loss:
        """Returns the loss that `compile` takes by default."""
        return MixtureNLL(self.mixture, self.level_weights)

    @property
    def metrics(self):
        return [*super().metrics, *self._chosen.metrics]

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """As of `keras.Model`, which would pass over what a file of weights holds in excess."""
        path = Path(filepath)
        if path.name.endswith(".weights.h5") and path.is_file() and not skip_mismatch:
            found, expected = count_arrays(path, path.stat().st_size), len(self.weights)
            if found != expected:
                raise ValueError(f"expected {expected} arrays. Received: {found}")
        super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            config["metrics"] = keras.saving.serialize_keras_object(list(self._chosen.metrics))
        return config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.loss(y, y_pred, sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        for metric in self._chosen.metrics:
            metric.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync

        def loss(output):
            # Keras divides by the number of devices.
            return replicas * self.compute_loss(x, y, output, sample_weight)

        step = take_step(self, self.optimizer, x, loss)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(step.loss, sample_weight=tf.shape(x["target"])[0])
        return self.compute_metrics(x, y, step.output, sample_weight)

    def predict_step(self, data):
        """Answers ``flow``, ``log_variance``, ``logits`` and ``confidence``, which is P_1."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        output = self(x, training=False)
        served = {name: output[name] for name in _SERVED}
        confidence = self.mixture.confidence(served["log_variance"], served["logits"])
        return {**served, "confidence": confidence}

    def export(
        self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs
    ):
        """Writes ``flow``, ``log_variance`` and ``logits`` for other run-times, at any image size.

        Arguments as of `keras.Model.export`. `tfdense.exporting` writes a SavedModel that takes
        uint8 images and encoded ones and gives the confidence too.
        """
        images = {name: keras.Input((None, None, 3), name=name) for name in ("source", "target")}
        with forward_only():
            outputs = self(images)
            # What is written can hold no list, as that of the levels is.
            served = keras.Model(images, {name: outputs[name] for name in _SERVED}, name=self.name)
            served.export(filepath, format, verbose, input_signature, **kwargs)


class Features(NamedTuple):
    """What matching needs of an image, whichever other it is matched with.

    Attributes:
        image: [batch, height, width, 3], RGB in 0..255.
        pyramid: a list of features [batch, rows, columns, channels].
        descriptors: likewise, what of the coarsest features no other image changes.
    """

    image: tf.Tensor
    pyramid: list[tf.Tensor]
    descriptors: Sequence[tf.Tensor] = ()


class Step(NamedTuple):
    """What a training step gives.

    Attributes:
        output: the network's answer, before the step.
        loss: a scalar, the mean over the pairs of this device.
        gradient_norm: a scalar, that of the gradient before clipping.
    """

    output: dict
    loss: tf.Tensor
    gradient_norm: tf.Tensor


def take_step(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, images: dict, loss: Callable
) -> Step:
    """Updates the weights of a network once: the one step that ``train.py`` and `fit` both take.

    Args:
        model: the network.
        optimizer: of its trainable variables.
        images: {"source", "target"}, of this device.
        loss: returns the mean loss over them from the network's answer.
    """
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        output = model(images, training=True)
        value = loss(output)
        scaled = optimizer.scale_loss(value)
    gradients = tape.gradient(scaled, [variable.value for variable in variables])
    # Of two backbones one goes deeper than what is used of it: those weights stay.
    used = [i for i, gradient in enumerate(gradients) if gradient is not None]
    gradients = [gradients[i] for i in used]
    # Averaged here, so that all devices clip the same gradient and agree that it is finite. The
    # optimiser sums over the devices once more.
    context = tf.distribute.get_replica_context()
    count = context.num_replicas_in_sync
    gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
    scale = tf.cast(getattr(optimizer, "dynamic_scale", 1.0), tf.float32)
    norm = tf.linalg.global_norm(gradients) / scale
    optimizer.apply([gradient / count for gradient in gradients], [variables[i] for i in used])
    return Step(output, value, norm)


def feature_shape(channels: int | None) -> tuple:
    """Returns the shape of features of any size."""
    return (None, None, None, channels)


def check_sides(model: keras.Model, images) -> None:
    """Refuses images that do not fit a network's strides, where their size is known.

    Args:
        model: with ``stride`` and ``minimum_size``.
        images: [batch, height, width, 3].

    Raises:
        InputError: if a side is too short or not divisible by the stride.
    """
    sides = [side for side in images.shape[1:3] if side is not None]
    if any(side % model.stride or side < model.minimum_size for side in sides):
        raise InputError(
            f"Expected images with sides divisible by {model.stride} and of at least "
            f"{model.minimum_size} px. Received: {images.shape}"
        )
