"""A training that is killed at any moment goes on from its last checkpoint, to the same weights."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.slow

_PROGRAM = Path(__file__).with_name("small_training.py")
_STEPS, _KILLS = 400, 20
# A checkpoint after each step: most of the time one is being written.
_SETTINGS = [
    "model.preset=small",
    "loss.level_weights=[1.0]",
    "data.size=64",
    "data.objects.probability=0",
    "train.batch_size=1",
    "train.validation_pairs=1",
    "train.validate_every=100",
    "train.checkpoint_every=1",
    "train.log_every=10",
    f"train.steps={_STEPS}",
]


def _start(*arguments):
    command = [sys.executable, str(_PROGRAM), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _new(folder):
    return [part for setting in _SETTINGS for part in ("--set", setting)] + ["-o", folder]


def _weights(folder):
    arrays = {}

    def take(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(folder / "last.weights.h5") as file:
        file.visititems(take)
    assert arrays
    return arrays


def _assert_same(ours, theirs):
    ours, theirs = _weights(ours), _weights(theirs)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    process = _start(*_new(folder))
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return folder


def _at_work(folder, process):
    """Waits until a training writes checkpoints."""
    before = {path.name for path in folder.glob("checkpoints/*")}
    while process.poll() is None:
        if {path.name for path in folder.glob("checkpoints/*")} - before:
            return
        time.sleep(0.02)


def test_killed_at_random_moments(uninterrupted, tmp_path):
    folder, draw, reached = tmp_path / "run", random.Random(0), []
    for _ in range(_KILLS):
        process = _start(*(["--resume", folder] if folder.exists() else _new(folder)))
        _at_work(folder, process)
        time.sleep(draw.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, output
        latest = tf.train.latest_checkpoint(folder / "checkpoints")
        reached.append(int(latest.rpartition("-")[2]))
    print(f"killed after the steps {reached}")
    # None was lost, and each went on.
    assert reached == sorted(reached) and reached[0] < reached[-1] < _STEPS
    process = _start("--resume", folder)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert f"from step {reached[-1]} " in output
    _assert_same(folder, uninterrupted)


def test_a_scheduler_that_preempts_gets_a_checkpoint_and_its_exit_code(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    process = _start(*_new(folder), "--set", "train.checkpoint_every=1000000")
    while process.poll() is None and not (folder / "metrics.csv").is_file():
        time.sleep(0.05)
    start = time.monotonic()
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "Resume: python train.py --resume" in output
    print(f"stopped within {time.monotonic() - start:.1f} s")
    process = _start("--resume", folder, "--set", "train.checkpoint_every=1000000")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    _assert_same(folder, uninterrupted)
