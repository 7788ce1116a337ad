"""A training that is killed at any moment goes on from its last checkpoint, to the same weights."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tfdense.models import load

pytestmark = pytest.mark.slow

_STEPS, _KILLS = 60, 20
# A checkpoint after each step: most of the time one is being written.
_SETTINGS = [
    "model.options.radius=1",
    "data.size=64",
    "data.objects.probability=0",
    "train.batch_size=1",
    "train.validation_pairs=1",
    "train.validate_every=30",
    "train.checkpoint_every=1",
    "train.log_every=10",
    f"train.steps={_STEPS}",
]


def _start(*arguments):
    code = "import sys, tfdense.cli; sys.exit(tfdense.cli.main())"
    command = [sys.executable, "-c", code, "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _new(folder):
    return [part for setting in _SETTINGS for part in ("--set", setting)] + ["-o", folder]


def _weights(folder):
    return [weight.numpy() for weight in load(folder / "last.weights.h5")[0].weights]


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
    folder, draw, kills = tmp_path / "run", random.Random(0), 0
    while True:
        known = (folder / "config.yaml").is_file()
        process = _start(*(["--resume", folder] if known else _new(folder)))
        if kills < _KILLS:
            _at_work(folder, process)
            time.sleep(draw.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
            if process.returncode == -signal.SIGKILL:
                continue
            break
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        break
    assert kills >= 5
    for ours, theirs in zip(_weights(folder), _weights(uninterrupted), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_scheduler_that_preempts_gets_a_checkpoint_and_its_exit_code(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    process = _start(*_new(folder), "--set", "train.checkpoint_every=1000000")
    while process.poll() is None and not (folder / "metrics.csv").is_file():
        time.sleep(0.05)
    # Whatever it does then: validating, tracing or taking steps.
    time.sleep(3)
    start = time.monotonic()
    process.terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "Resume: python train.py --resume" in output
    print(f"stopped within {time.monotonic() - start:.1f} s")
    process = _start("--resume", folder, "--set", "train.checkpoint_every=1000000")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    for ours, theirs in zip(_weights(folder), _weights(uninterrupted), strict=True):
        np.testing.assert_array_equal(ours, theirs)
