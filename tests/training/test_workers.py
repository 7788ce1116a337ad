"""Two workers on one machine train as one process does, also if one of them is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.training.records import read_metrics
from tfdense.training.strategies import distribution_strategy

_PROGRAM = Path(__file__).with_name("small_training.py")
_SETTINGS = [
    "model.preset=small",
    "loss.level_weights=[1.0]",
    "data.size=64",
    "data.objects.probability=0",
    "data.unrelated=0.3",
    "train.batch_size=4",
    "train.schedule=steps",
    "train.halve_at=[1000000]",
    "train.validation_pairs=1",
    "train.validate_every=1000",
    "train.log_every=1",
    "train.checkpoint_every=5",
    "train.ema_momentum=0.9",
    "train.steps=20",
]


def _ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _start(*arguments, worker=None, ports=()):
    cluster = {"cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]}}
    cluster["task"] = {"type": "worker", "index": worker}
    environment = {**os.environ, **({} if worker is None else {"TF_CONFIG": json.dumps(cluster)})}
    command = [sys.executable, str(_PROGRAM), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def _new(folder, *more):
    settings = [part for setting in (*_SETTINGS, *more) for part in ("--set", setting)]
    return [*settings, "-o", folder]


def _two(*arguments):
    ports = _ports(2)
    return [_start(*arguments, worker=i, ports=ports) for i in range(2)]


def _ended(processes, status=0):
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == status, output


def _curve(folder):
    rows = [row for row in read_metrics(folder / "metrics.csv") if row["loss"]]
    return np.array([[float(row["loss"]), float(row["gradient_norm"])] for row in rows])


def _arrays(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None
        )
    return found


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers") / "two"
    _ended(_two(*_new(folder, "train.strategy=multiworker")))
    return folder


@pytest.mark.slow
def test_two_workers_compute_what_two_devices_do(together, tmp_path, monkeypatch):
    monkeypatch.setenv("DEVICES", "2")
    _ended([_start(*_new(tmp_path / "devices", "train.strategy=mirrored"))])
    np.testing.assert_allclose(_curve(together), _curve(tmp_path / "devices"), rtol=1e-6)


@pytest.mark.slow
def test_two_workers_follow_one_process(tmp_path):
    # One device adds up in another order. Of gradients that are hardly more than that, Adam makes a
    # whole step, here a small one.
    small_steps = "train.learning_rate=1e-5"
    _ended(_two(*_new(tmp_path / "two", "train.strategy=multiworker", small_steps)))
    _ended([_start(*_new(tmp_path / "one", small_steps))])
    np.testing.assert_allclose(_curve(tmp_path / "two"), _curve(tmp_path / "one"), rtol=1e-3)


@pytest.mark.slow
def test_a_killed_worker_ends_the_others_and_all_go_on(together, tmp_path):
    folder = tmp_path / "run"
    first, second = _two(*_new(folder, "train.strategy=multiworker", "train.steps=100000"))
    while first.poll() is None and not list(folder.glob("checkpoints/ckpt-1*.index")):
        time.sleep(0.02)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    output, _ = first.communicate(timeout=200)
    assert first.returncode == os.EX_TEMPFAIL, output
    assert "Another worker is gone" in output and "Resume: python train.py --resume" in output
    reached = max(int(path.stem[5:]) for path in folder.glob("checkpoints/*.index"))
    steps = f"train.steps={reached + 5}"
    _ended(_two("--resume", folder, "--set", steps))
    whole = tmp_path / "whole"
    _ended(_two(*_new(whole, "train.strategy=multiworker", "train.steps=100000"), "--set", steps))
    ours, theirs = (_arrays(each / "last.weights.h5") for each in (folder, whole))
    assert ours.keys() == theirs.keys() and ours
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": "a:1", "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_workers_that_are_not_named_are_asked_for(text, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="Expected TF_CONFIG to name the workers"):
        distribution_strategy("multiworker")


def test_strategies_of_one_machine():
    assert distribution_strategy("single").num_replicas_in_sync == 1
    assert distribution_strategy("mirrored").num_replicas_in_sync >= 1
