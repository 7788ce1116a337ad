"""A bundle trains under JAX as `Trainer` does under TensorFlow; each takes over from the other."""

import builtins
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfdense import bundle, cli
from tfdense.config import load_config
from tfdense.errors import InputError
from tfdense.exporting.bundled_pairs import Pairs
from tfdense.exporting.signatures import match_fixed
from tfdense.exporting.training_bundle import export_bundle, new_trainer
from tfdense.models import build, load
from tfdense.training.records import read_metrics
from tfdense.training.trainer import Trainer

jax = pytest.importorskip("jax")

SIZE, BATCH, STEPS = 32, 2, 20
NAME = f"train-{SIZE}x{BATCH}-float32"
CONFIG = load_config(
    None,
    [
        "model.preset=tiny",
        f"data.size={SIZE}",
        f"train.batch_size={BATCH}",
        "train.steps=40",
        "train.warmup_steps=4",
        "train.learning_rate=3e-3",
        "train.ema_momentum=0.9",
        "train.validation_pairs=2",
        "loss.level_weights=[1.0]",
    ],
)


def random_pairs() -> Pairs:
    """Returns pairs that are ready: one batch for each of the steps, then again."""
    draw = np.random.default_rng(0)
    shape = (STEPS, BATCH, SIZE, SIZE)
    arrays = {
        "data/source": draw.uniform(0, 255, (*shape, 3)),
        "data/target": draw.uniform(0, 255, (*shape, 3)),
        "data/flow": draw.normal(0, 4, (*shape, 2)),
        "data/mask": draw.uniform(size=shape) < 0.9,
        "data/unmatched": draw.uniform(size=shape) < 0.05,
    }

    def make(arrays, step, config):
        return {name.removeprefix("data/"): value[step % STEPS] for name, value in arrays.items()}

    return Pairs({name: array.astype(np.float32) for name, array in arrays.items()}, make)


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    """The folder of a bundle."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    begun = []
    export_bundle(CONFIG, folder, random_pairs(), match_sizes=[(32, 40)], begin=begun.append)
    assert begun == list(bundle.Bundle(folder).manifest["programs"])
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    """The folder of a bundle without checkpoints."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


def trained_in_jax(opened: bundle.Bundle, steps: int):
    """Returns the losses of so many steps from the start, and the state after them."""
    state, data = opened.initial_state(), opened.data()
    take = jax.jit(opened.program(NAME))
    losses = []
    for step in range(steps):
        outputs = take({**state, **data, "step": np.int64(step)})
        losses.append(float(outputs.pop("loss")))
        norm = float(outputs.pop("gradient_norm"))
        state |= {name: np.asarray(array) for name, array in outputs.items()}
    return losses, norm, state


def batch(pairs: Pairs, step: int) -> dict:
    arrays = {name: tf.constant(array) for name, array in pairs.arrays.items()}
    return pairs.make(arrays, step, CONFIG)


def test_twenty_steps_are_the_same_in_jax_and_tensorflow(exported):
    opened, pairs = bundle.Bundle(exported), random_pairs()
    losses, norm, state = trained_in_jax(opened, STEPS)
    trainer = new_trainer(CONFIG)
    start = opened.initial_state()
    for name, variable in trainer.state.items():
        np.testing.assert_array_equal(variable.numpy(), start[name], err_msg=name)
    take = trainer.build_step()
    for step, loss in enumerate(losses):
        expected, expected_norm = take(batch(pairs, step))
        assert loss == pytest.approx(float(expected), rel=1e-4), step
    assert norm == pytest.approx(float(expected_norm), rel=1e-3)
    for name, variable in trainer.state.items():
        expected = variable.numpy()
        moved = np.abs(expected - start[name]).max()
        np.testing.assert_allclose(state[name], expected, rtol=1e-4, atol=2e-3 * moved + 1e-7)
    kernels = [name for name in state if name.startswith("model/") and state[name].ndim == 4]
    assert all((state[name] != start[name]).any() for name in kernels)


def test_the_script_needs_numpy_and_jax_alone_and_resumes(folder, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in ("tensorflow", "keras", "tfdense", "cv2", "flatbuffers", "PIL"):
        (hidden / f"{name}.py").write_text(f"raise ImportError('{name} is not here')")
    command = [sys.executable, "train.py", "--steps", "6", "--log-every", "3"]
    environment = {**os.environ, "PYTHONPATH": str(hidden)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{NAME} on ") and "from step 0 to 6" in lines[0]
    assert lines[1].startswith("compiling")
    assert any(line.startswith("step 6/6  loss ") and "pairs/s" in line for line in lines)

    assert bundle.main(["--bundle", str(folder), "--steps", "10"]) == 0
    opened = bundle.Bundle(folder)
    description, state = opened.checkpoint(folder / "checkpoints")
    assert description["step"] == 10
    _, _, expected = trained_in_jax(opened, 10)
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)


def test_it_stops_by_time(folder, capsys):
    opened = bundle.Bundle(folder)
    assert bundle.train(opened, NAME, folder / "run", minutes=0) == 1
    assert opened.checkpoint(folder / "run")[0]["step"] == 1


def test_it_stops_when_asked_to(folder, monkeypatch):
    opened = bundle.Bundle(folder)
    printed = []

    def show(line, **_):
        printed.append(line)
        if line.startswith("step 4/"):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(builtins, "print", show)
    assert bundle.train(opened, NAME, folder / "run", log_every=2) == 4
    monkeypatch.undo()
    assert opened.checkpoint(folder / "run")[0]["step"] == 4


def test_training_goes_on_in_tensorflow(folder, tmp_path, capsys):
    assert bundle.main(["--bundle", str(folder), "--steps", "5"]) == 0
    opened = bundle.Bundle(folder)
    _, state = opened.checkpoint(folder / "checkpoints")
    run = tmp_path / "run"
    assert cli.main(["train", "--from-bundle", str(folder), "-o", str(run), "--steps", "5"]) == 0
    assert f"from step 5 in {run}" in capsys.readouterr().out
    assert (run / "best.weights.h5").is_file()
    assert [row["step"] for row in read_metrics(run / "metrics.csv")] == ["5"]

    saved, _ = load(run / "last.weights.h5")
    for array, weight in zip(opened.weights(state).values(), saved.variables, strict=True):
        np.testing.assert_array_equal(weight.numpy(), array)
    trainer = Trainer(CONFIG, run)
    assert trainer.step == 5
    for name, variable in trainer.state.items():
        np.testing.assert_array_equal(variable.numpy(), state[name], err_msg=name)
    losses, _, _ = trained_in_jax(opened, 6)
    loss, _ = trainer.build_step()(batch(random_pairs(), 5))
    assert float(loss) == pytest.approx(losses[5], rel=1e-5)


def test_matching_with_the_averaged_weights(exported):
    opened = bundle.Bundle(exported)
    _, _, state = trained_in_jax(opened, 3)
    images = np.random.default_rng(1).integers(0, 256, [2, 1, 32, 40, 3], np.uint8)
    pair = dict(zip(("source", "target"), images, strict=True))
    answer = opened.program("match-32x40")({**opened.weights(state), **pair})
    network = build(CONFIG.model)
    for weight, array in zip(network.variables, opened.weights(state).values(), strict=True):
        weight.assign(array)
    expected = match_fixed(network, pair["source"], pair["target"])
    assert answer.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(answer[name], value.numpy(), rtol=1e-4, atol=1e-4)


def test_what_is_there_is_not_overwritten(folder):
    with pytest.raises(InputError, match="exists already"):
        export_bundle(CONFIG, folder, random_pairs())


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Trains with these arguments, which must be refused with one line, which it returns."""
    monkeypatch.chdir(tmp_path)

    def train(*arguments):
        assert cli.main(["train", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return train


def test_a_bundle_that_was_not_trained_is_refused(folder, refused):
    assert "holds no checkpoints" in refused("--from-bundle", folder)


def test_a_damaged_bundle_is_refused(folder, refused):
    bundle.save(folder / "checkpoints", bundle.Bundle(folder).initial_state(), 1, NAME)
    (folder / "checkpoints/0000001/model.npz").write_bytes(b"PK")
    assert "model.npz is cut or changed" in refused("--from-bundle", folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 9}))
    assert "of format 9, expected format 2" in refused("--from-bundle", folder)


def test_a_changed_configuration_of_a_bundle_is_refused(folder, refused, tmp_path):
    bundle.save(folder / "checkpoints", bundle.Bundle(folder).initial_state(), 1, NAME)
    with (folder / "config.yaml").open("a") as file:
        file.write("# changed")
    assert "config.yaml is cut or changed" in refused("--from-bundle", folder)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("program", ["nope", f"pairs-{SIZE}x{BATCH}"])
def test_a_checkpoint_of_another_program_is_refused(folder, refused, program, tmp_path):
    bundle.save(folder / "checkpoints", bundle.Bundle(folder).initial_state(), 1, program)
    message = refused("--from-bundle", folder)
    assert f"no program {program} that trains" in message
    assert message.endswith(f"Expected one of: {NAME}.")
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_of_a_negative_step_is_refused(folder, refused, tmp_path):
    bundle.save(folder / "checkpoints", bundle.Bundle(folder).initial_state(), -7, NAME)
    assert "holds no checkpoints" in refused("--from-bundle", folder)
    os.rename(folder / "checkpoints/-000007", folder / "checkpoints/0000007")
    assert "expected a step from 0" in refused("--from-bundle", folder)
    assert not (tmp_path / "runs").exists()


def test_the_state_of_another_network_is_refused(folder, refused, tmp_path):
    bundle.save(folder / "checkpoints", bundle.Bundle(folder).initial_state(), 1, NAME)
    message = refused("--from-bundle", folder, "--set", "train.ema_momentum=0")
    assert "not one of this tiny and its training: expected average/0000" in message


def test_options_that_exclude_each_other(folder, refused, tmp_path):
    assert "leave out --config" in refused("--from-bundle", folder, "--config", "some.yaml")
    assert "leave out" in refused("--resume", tmp_path, "--from-bundle", folder)
    bundle.save(folder / "checkpoints", bundle.Bundle(folder).initial_state(), 1, NAME)
    assert "exists already" in refused("--from-bundle", folder, "-o", tmp_path)
