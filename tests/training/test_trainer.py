"""Training as users run it, on small pictures."""

import signal
import threading

import numpy as np
import pytest
import tensorflow as tf

from tfdense.config import load_config
from tfdense.errors import InputError
from tfdense.images import read_image, write_image
from tfdense.models import load
from tfdense.training.records import read_metrics
from tfdense.training.trainer import Trainer

SMALL = [
    "model.options.radius=1",
    "data.size=64",
    "train.batch_size=2",
    "train.warmup_steps=2",
    "train.validation_pairs=2",
    "train.validate_every=2",
    "train.checkpoint_every=2",
    "train.log_every=1",
]


def small_config(*overrides):
    return load_config(None, [*SMALL, *overrides])


def variables(trainer):
    return [v.numpy() for v in trainer.model.variables + trainer._optimizer.variables]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Four steps with averaged weights, at one go."""
    tf.config.run_functions_eagerly(True)  # as `eager`
    trainer = Trainer(
        small_config("train.steps=4", "train.ema_momentum=0.9"), tmp_path_factory.mktemp("run")
    )
    finished = trainer.train()
    tf.config.run_functions_eagerly(False)
    assert finished
    return trainer


def test_run_folder_is_complete(uninterrupted):
    folder = uninterrupted.folder
    names = {path.name for path in folder.iterdir()}
    assert {"config.yaml", "metrics.csv", "best.weights.h5", "last.weights.h5"} <= names
    assert list((folder / "tensorboard").iterdir())
    rows = read_metrics(folder / "metrics.csv")
    assert [row["step"] for row in rows] == ["0", "1", "2", "2", "3", "4", "4"]
    validated = [float(row["aepe"]) for row in rows if row["aepe"]]
    assert len(validated) == 3 and np.isfinite(validated).all()
    assert float(rows[1]["loss"]) > 0


def test_interrupted_training_resumes_to_the_same_numbers(
    uninterrupted, eager, tmp_path, monkeypatch
):
    config = uninterrupted.config
    interrupted = Trainer(config, tmp_path)
    log = interrupted._log

    def log_then_interrupt(*arguments):
        log(*arguments)
        if interrupted.step == 3:  # between two checkpoints
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(interrupted, "_log", log_then_interrupt)
    assert not interrupted.train()
    assert interrupted.step == 3

    resumed = Trainer(config, tmp_path)
    assert resumed.step == 3
    assert resumed.train()
    for ours, theirs in zip(variables(resumed), variables(uninterrupted), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    measured = ("step", "loss", "gradient_norm", "aepe", "nll", "ause")
    for row, other in zip(
        read_metrics(tmp_path / "metrics.csv"),
        read_metrics(uninterrupted.folder / "metrics.csv"),
        strict=True,
    ):
        assert [row[name] for name in measured] == [other[name] for name in measured]
    for name in ("best.weights.h5", "last.weights.h5"):
        ours, theirs = load(tmp_path / name)[0], load(uninterrupted.folder / name)[0]
        for a, b in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


def test_saved_weights_are_the_average(uninterrupted):
    saved, _ = load(uninterrupted.folder / "last.weights.h5")
    average = uninterrupted._average
    trained = [variable.value for variable in uninterrupted.model.trainable_variables]
    for stored, weight in zip(saved.trainable_variables, trained, strict=True):
        np.testing.assert_array_equal(stored.numpy(), average.average(weight).numpy())
        assert not np.array_equal(stored.numpy(), weight.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains(precision, tmp_path):
    """As a graph, as users train."""
    # In float16 the first steps are left out, until the loss scale is small enough.
    trainer = Trainer(small_config("train.steps=8", f"train.precision={precision}"), tmp_path)
    before = [v.numpy() for v in trainer.model.trainable_variables]
    assert trainer.train()
    for variable, former in zip(trainer.model.trainable_variables, before, strict=True):
        assert np.isfinite(variable.numpy()).all()
        assert (variable.numpy() != former).any(), variable.path
    rows = read_metrics(tmp_path / "metrics.csv")
    assert np.isfinite([float(row["loss"]) for row in rows if row["loss"]]).all()


def test_steps_without_finite_gradient_change_nothing(eager, tmp_path, monkeypatch):
    trainer = Trainer(small_config("train.steps=9", "train.stop_after_left_out=2"), tmp_path)
    _poison(trainer, monkeypatch, "source", lambda number: True)
    before = {v.path: v.numpy() for v in trainer.model.variables}
    with pytest.raises(InputError, match=r"2 steps in a row, up to step 2, .* in its source"):
        trainer.train()
    for variable in trainer.model.variables:  # running statistics, too
        np.testing.assert_array_equal(variable.numpy(), before[variable.path])
    with np.load(tmp_path / "bad_batch.npz") as batch:
        assert {"source", "target", "flow", "mask"} <= {*batch}
        assert np.isnan(batch["source"]).all() and np.isfinite(batch["target"]).all()


def test_single_steps_without_finite_loss_are_counted_and_named(
    eager, tmp_path, monkeypatch, capsys
):
    trainer = Trainer(
        small_config("train.steps=5", "train.stop_after_left_out=2", "train.log_every=5"), tmp_path
    )
    _poison(trainer, monkeypatch, "flow", lambda number: number % 2 == 1)
    assert trainer.train()
    for variable in trainer.model.variables:
        assert np.isfinite(variable.numpy()).all(), variable.path
    assert read_metrics(tmp_path / "metrics.csv")[-2]["left_out"] == "2"
    printed = capsys.readouterr().out
    assert "Step 2 is left out" in printed and "Step 4 is left out" in printed
    assert not (tmp_path / "bad_batch.npz").exists()


def _poison(trainer, monkeypatch, name, which):
    """Makes what a batch holds by a name not a number, of the batches of some numbers."""
    pairs = trainer._training_pairs

    def poisoned():
        for number, pair in enumerate(pairs()):
            if which(number):
                pair = {**pair, name: pair[name] * np.nan, "mask": tf.ones_like(pair["mask"])}
            yield pair

    monkeypatch.setattr(trainer, "_training_pairs", poisoned)
    monkeypatch.setattr(trainer, "_batches", trainer._training_pairs)


def test_sigterm_stops_validation_and_resuming_makes_up_for_it(
    uninterrupted, eager, tmp_path, monkeypatch
):
    trainer = Trainer(uninterrupted.config, tmp_path)
    log = trainer._log

    def log_then_stop(*arguments):
        log(*arguments)
        if trainer.step == 2:  # just before a validation
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(trainer, "_log", log_then_stop)
    assert not trainer.train()
    assert (trainer.step, trainer.stopped_by) == (2, signal.SIGTERM)
    steps = [row["step"] for row in read_metrics(tmp_path / "metrics.csv") if row["aepe"]]
    assert steps == ["0"]
    resumed = Trainer(uninterrupted.config, tmp_path)
    assert resumed.step == 2 and resumed.train()
    rows, others = (
        [row for row in read_metrics(folder / "metrics.csv") if row["aepe"]]
        for folder in (tmp_path, uninterrupted.folder)
    )
    assert [(row["step"], row["aepe"]) for row in rows] == [
        (row["step"], row["aepe"]) for row in others
    ]


def test_checkpoint_of_another_network_is_refused(uninterrupted):
    other = small_config("model.options.radius=2", "train.steps=8")
    with pytest.raises(InputError, match="not a checkpoint of this pdcnet-lite"):
        Trainer(other, uninterrupted.folder)


def test_training_starts_from_the_weights_given(uninterrupted, tmp_path):
    weights = uninterrupted.folder / "last.weights.h5"
    trainer = Trainer(small_config(f"train.initial_weights={weights}"), tmp_path)
    assert trainer.step == 0
    expected, _ = load(weights)
    for ours, theirs in zip(trainer.model.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.size=72", "data.size should be a multiple of 16"),
        ("train.initial_weights=missing.weights.h5", "no weights file missing"),
        ("loss.level_weights=[1.0]", "one weight for each of the 3 levels"),
    ],
)
def test_values_that_do_not_fit_the_network(override, message, tmp_path):
    with pytest.raises(InputError, match=message):
        Trainer(small_config(override), tmp_path)


def test_training_in_a_thread_keeps_the_signal_handlers(eager, tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    trainer = Trainer(small_config("train.steps=1"), tmp_path)
    thread = threading.Thread(target=trainer.train)
    thread.start()
    thread.join()
    assert trainer.step == 1
    assert signal.getsignal(signal.SIGINT) is handler


def test_photos_that_vanish_end_the_training_with_a_checkpoint(eager, tmp_path, monkeypatch):
    trainer = Trainer(small_config("train.steps=9", "train.checkpoint_every=9"), tmp_path / "run")
    photos = tmp_path / "photos"
    photos.mkdir()
    write_image(photos / "a.png", np.zeros((40, 40, 3), np.uint8))
    pairs = trainer._training_pairs

    def read(number):
        if number == 3:
            (photos / "a.png").unlink()
        read_image(photos / "a.png")
        return number

    def reading():
        numbers = tf.data.Dataset.range(9).map(lambda n: tf.numpy_function(read, [n], tf.int64))
        return tf.data.Dataset.zip((pairs(), numbers)).map(lambda pair, number: pair)

    monkeypatch.setattr(trainer, "_batches", reading)
    with pytest.raises(
        InputError, match=r"There is no image file .*a\.png\. The checkpoint of step 3"
    ):
        trainer.train()
    assert Trainer(trainer.config, tmp_path / "run").step == 3
