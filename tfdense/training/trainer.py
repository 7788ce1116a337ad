"""The training loop: steps, validation, checkpoints, and stopping when asked to."""

import contextlib
import dataclasses
import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfdense.config import SHIPPED, Config, locate, save_config
from tfdense.data import training_pairs, validation_pairs
from tfdense.data.pipeline import WHOLE, Part
from tfdense.errors import InputError
from tfdense.files import replacing
from tfdense.models import build
from tfdense.models.presets import as_shipped, load_shipped_weights, load_weights
from tfdense.training import strategies
from tfdense.training.averaging import MovingAverage
from tfdense.training.checkpoints import restored, save
from tfdense.training.left_out import LeftOut
from tfdense.training.optimizer import build_optimizer
from tfdense.training.records import Records, Stopwatch, show_progress, show_validation
from tfdense.training.step import build_train_step
from tfdense.training.stopping import Stop, asked_to_stop
from tfdense.training.validation import validate
from tfdense.visualize import training_picture

_PICTURED_PAIRS = 4


class Trainer:
    """Trains one network and keeps its run folder.

    The folder gets ``config.yaml``, ``metrics.csv``, ``tensorboard/``, ``checkpoints/`` to resume
    from, and the weights with the lowest validation AEPE and those of the last validation:
    ``best.weights.h5`` and ``last.weights.h5``. Training is deterministic: a resumed run computes
    what an uninterrupted one would have.

    Args:
        config: the experiment.
        folder: of the run. Where it holds checkpoints, training goes on from the latest.
        strategy: how to spread a batch over devices; by default as the machine offers.
    """

    def __init__(
        self, config: Config, folder: Path, strategy: tf.distribute.Strategy | None = None
    ):
        shipped = config.train.initial_weights == SHIPPED
        if shipped:
            config = dataclasses.replace(config, model=as_shipped(config.model))
        self.config = config
        self.folder = folder
        keras.utils.set_random_seed(config.seed)
        self._strategy = strategy or strategies.distribution_strategy(config.train.strategy)
        # Of several workers one writes; the others read the checkpoints of its folder.
        self._writes = strategies.worker_count(self._strategy) == 1 or strategies.worker() == 0
        if config.train.batch_size % self._strategy.num_replicas_in_sync:
            raise InputError(
                f"train.batch_size should be a multiple of the "
                f"{self._strategy.num_replicas_in_sync} devices, is {config.train.batch_size}"
            )
        with self._strategy.scope():
            initial = config.train.initial_weights
            self.model = build(config.model, config.train.precision, initial is None)
            freeze(self.model, config.train.frozen)
            if config.loss.level_weights is None:
                weights = tuple(self.model.level_weights)
                loss = dataclasses.replace(config.loss, level_weights=weights)
                self.config = config = dataclasses.replace(config, loss=loss)
            _check_fits(self.model, config)
            if initial is not None and tf.train.latest_checkpoint(folder / "checkpoints") is None:
                if shipped:
                    load_shipped_weights(self.model, config.model.preset)
                else:
                    load_weights(self.model, initial)
            self._optimizer = build_optimizer(config.train, self.model.trainable_variables)
            self._average = self._start_average()
        self._saved_step = tf.Variable(0, dtype=tf.int64)
        self._best = tf.Variable(np.inf)
        self._predict = tf.function(self.model)
        self._validation_pairs = validation_pairs(
            config.data, config.train.batch_size, config.train.validation_pairs, config.seed
        )
        self._checkpoints = restored(
            # Named one by one: TensorFlow does not look into the lists of layers of a Keras model.
            tf.train.Checkpoint(
                model=[variable.value for variable in self.model.variables],
                optimizer=[variable.value for variable in self._optimizer.variables],
                average=[self._average.average(v) for v in self._weights] if self._average else [],
                step=self._saved_step,
                best=self._best,
            ),
            folder / "checkpoints",
            config.model.preset,
        )
        self.step = int(self._saved_step)
        self.stopped_by: int | None = None

    @property
    def state(self) -> dict[str, tf.Variable]:
        """All that a step changes or depends on, by group and number.

        ``model/0007`` is a variable of the network, ``average/0007`` its moving average if it has
        one, ``optimizer/0007`` has nothing to do with either.
        """
        network = [variable.value for variable in self.model.variables]
        averages = [self._average.average(v) if self._average else None for v in network]
        groups = {
            "model": network,
            "optimizer": [variable.value for variable in self._optimizer.variables],
            "average": averages,
        }
        return {
            f"{group}/{i:04d}": variable
            for group, variables in groups.items()
            for i, variable in enumerate(variables)
            if variable is not None
        }

    def build_step(self):
        """Returns the compiled training step, see `build_train_step`."""
        return build_train_step(
            self.model, self._optimizer, self._average, self.config.loss, self._strategy
        )

    def adopt(self, state: dict[str, np.ndarray], step: int) -> None:
        """Goes on from elsewhere: takes a state and saves it as checkpoint.

        Args:
            state: an array for each variable of `state`.
            step: how many steps were taken.

        Raises:
            InputError: if it is the state of another network or optimiser.
        """
        variables = self.state
        theirs = {name: array.shape for name, array in state.items()}
        ours = {name: tuple(variable.shape) for name, variable in variables.items()}
        if theirs != ours:
            name = min(key for key in theirs | ours if theirs.get(key) != ours.get(key))
            raise InputError(
                f"The state is not one of this {self.config.model.preset} and its training: "
                f"expected {name} of shape {ours.get(name)}. Received: {theirs.get(name)}"
            )
        for name, variable in variables.items():
            variable.assign(state[name])
        self.step = step
        self._save_checkpoint()

    def train(self) -> bool:
        """Trains up to the configured number of steps.

        Returns:
            Whether training came to its end; False if it was asked to stop (Ctrl-C or SIGTERM):
            `stopped_by` is the signal's number.

        Raises:
            InputError: if loss or gradient are not finite for too many steps in a row.
            WorkerLost: if another worker of the training does not answer.
        """
        with asked_to_stop() as stop:
            stop.at_once = True
            try:
                with strategies.noticing_losses(self._strategy):
                    self._train(stop)
            except KeyboardInterrupt:
                if not stop.at_once or not stop.is_set():
                    raise
        self.stopped_by = stop.signal
        return self.step >= self.config.train.steps

    def _train(self, stop: Stop) -> None:
        settings = self.config.train
        # It may be resumed from another working directory.
        records = None
        if self._writes:
            save_config(self.folder / "config.yaml", locate(self.config))
            records = Records(self.folder, self.step)
            if self._owes_validation(records):
                self._validate(records)
        add_up = strategies.summing(self._strategy)
        self._check_together(add_up)
        train_step = self.build_step()
        batches = iter(self._batches())
        stopwatch, losses = Stopwatch(), []
        left_out = LeftOut(
            self.folder,
            settings.stop_after_left_out,
            settings.precision == "mixed_float16",
            self._strategy,
        )
        while self.step < settings.steps and not add_up(stop.is_set()):
            asked = time.perf_counter()
            batch = self._next(batches)
            stopwatch.waited(time.perf_counter() - asked)
            loss, gradient_norm = train_step(batch)
            stop.at_once = False
            losses.append(loss)
            self.step += 1
            left_out.watch(self.step, batch, loss, gradient_norm)
            last = self.step == settings.steps
            if last or self.step % settings.log_every == 0:
                count = left_out.count()
                if records:
                    self._log(records, losses, gradient_norm, stopwatch, count)
                losses = []
            if records and (last or self.step % settings.validate_every == 0):
                # The last one is not made up for: nothing goes on from there.
                self._validate(records, None if last else stop)
                stopwatch.restart()
            if last or self.step % settings.checkpoint_every == 0:
                self._save_checkpoint()
                stopwatch.restart()
        if self.step % settings.checkpoint_every and self.step < settings.steps:
            self._save_checkpoint()

    def _next(self, batches: Iterator) -> dict:
        """Returns the next batch; if there is none any more, nothing so far is lost."""
        try:
            return next(batches)
        except tf.errors.OpError as error:
            # What Python raised within the pipeline stands in the text.
            reason = re.search(r"(?:InputError|OSError): ([^\n]+)", str(error))
            if reason is None:
                raise
            self._save_checkpoint()
            raise InputError(
                f"No further pairs can be made: {reason[1]} The checkpoint of step {self.step} is "
                "saved; go on from it with --resume."
            ) from None

    def _owes_validation(self, records: Records) -> bool:
        """Says whether the network as it is was not validated, though it should have been."""
        if not (self.folder / "last.weights.h5").is_file():
            return True
        due = self.step % self.config.train.validate_every == 0
        return due and records.last_validation != self.step

    def _check_together(self, add_up: Callable[[int], int]) -> None:
        """Makes sure that all workers go on from the same step."""
        count = strategies.worker_count(self._strategy)
        if add_up(self.step) != count * self.step:
            raise InputError(
                f"Expected all {count} workers at one step. Received: another one than "
                f"{self.step}; give each the folder of the same run, which all can read."
            )

    def _training_pairs(self, part: Part = WHOLE) -> tf.data.Dataset:
        config = self.config
        return training_pairs(
            config.data, config.train.batch_size, config.seed, self.step, part=part
        )

    def _batches(self):
        return strategies.distribute(
            self._strategy, self._training_pairs, self.config.train.batch_size
        )

    @property
    def _weights(self) -> list[tf.Variable]:
        return [variable.value for variable in self.model.trainable_variables]

    def _start_average(self) -> MovingAverage | None:
        momentum = self.config.train.ema_momentum
        steps = self._optimizer.iterations.value
        return MovingAverage(self._weights, momentum, steps) if momentum else None

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Gives the network its averaged weights, where it has them, for the time being."""
        trained = [weight.numpy() for weight in self._weights]
        try:
            if self._average:
                for weight in self._weights:
                    weight.assign(self._average.average(weight))
            yield
        finally:
            for weight, value in zip(self._weights, trained, strict=True):
                weight.assign(value)

    def _log(
        self,
        records: Records,
        losses: list,
        gradient_norm,
        stopwatch: Stopwatch,
        left_out: int,
    ) -> None:
        settings = self.config.train
        finite = [float(loss) for loss in losses if np.isfinite(loss)]
        steps_per_second, data_wait = stopwatch.read()
        values = {
            "loss": float(np.mean(finite)) if finite else float("nan"),
            "gradient_norm": float(gradient_norm),
            "learning_rate": float(self._optimizer.learning_rate),
            "pairs_per_second": steps_per_second * settings.batch_size,
            "data_wait": data_wait,
            "left_out": left_out,
        }
        records.write(self.step, values)
        show_progress(self.step, settings.steps, values, steps_per_second)

    def _validate(self, records: Records, stop: Stop | None = None) -> None:
        """Validates; not to the end if asked to stop, so that the checkpoint is written soon."""
        pairs = self._validation_pairs
        if stop is not None:
            pairs = itertools.takewhile(lambda batch: not stop.is_set(), pairs)
        with self._averaged():
            try:
                values = validate(self._predict, self.model.mixture, pairs)
            except InputError:
                if stop is None or not stop.is_set():
                    raise
            if stop is not None and stop.is_set():
                return  # A resumed training does it.
            batch = next(iter(self._validation_pairs))
            records.write_picture(self.step, self._picture(batch))
            if values["aepe"] < float(self._best):
                self._best.assign(values["aepe"])
                self._save_weights("best.weights.h5")
            self._save_weights("last.weights.h5")
        records.write(self.step, values)
        show_validation(self.step, values)

    def _picture(self, batch: dict) -> np.ndarray:
        batch = {name: value[:_PICTURED_PAIRS] for name, value in batch.items()}
        output = self._predict({"source": batch["source"], "target": batch["target"]})
        confidence = self.model.mixture.confidence(output["log_variance"], output["logits"])
        return training_picture(
            batch["source"].numpy(),
            batch["target"].numpy(),
            output["flow"].numpy(),
            confidence.numpy(),
            batch["flow"].numpy(),
            batch["mask"].numpy(),
        )

    def _save_weights(self, name: str) -> None:
        with replacing(self.folder / name) as temporary:
            self.model.save_weights(temporary)

    def _save_checkpoint(self) -> None:
        if not self._writes:
            return
        self._saved_step.assign(self.step)
        save(self._checkpoints, self.step)


def freeze(model: keras.Model, names: Sequence[str]) -> None:
    """Keeps parts of a network as they are, statistics of normalisations included.

    Args:
        model: the network.
        names: what the names of its parts begin with.

    Raises:
        InputError: if no part is called so, or nothing is left to train.
    """
    for name in names:
        parts = [layer for layer in model.layers if layer.name.startswith(name)]
        if not parts:
            known = ", ".join(layer.name for layer in model.layers if layer.weights)
            raise InputError(f"train.frozen names {name!r}. Expected one of {known}.")
        for part in parts:
            part.trainable = False
    if not model.trainable_variables:
        raise InputError(f"With train.frozen {', '.join(names)} nothing is left to train.")


def _check_fits(model: keras.Model, config: Config) -> None:
    size = config.data.size
    if size % model.stride or size < model.minimum_size:
        raise InputError(
            f"data.size should be a multiple of {model.stride} and at least {model.minimum_size} "
            f"for {config.model.preset}, is {size}"
        )
    image = tf.zeros([1, model.minimum_size, model.minimum_size, 3])
    levels = len(model({"source": image, "target": image})["levels"])
    if len(config.loss.level_weights) != levels:
        raise InputError(
            f"loss.level_weights should hold one weight for each of the {levels} levels of "
            f"{config.model.preset}, is {config.loss.level_weights}"
        )
