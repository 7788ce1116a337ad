"""What is given wrongly to the scripts of `experiments` ends in one line, too."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfdense.images import read_image

_FOLDER = Path(__file__).parents[1] / "experiments"
_SCRIPTS = ("pairs", "write_pairs")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a script with an output to write to; returns the exit status and that output."""

    def run(script, *arguments):
        output = tmp_path / ("out.png" if script == "pairs" else "out")
        monkeypatch.setattr("sys.argv", [f"{script}.py", str(output), *arguments])
        try:
            status = runpy.run_path(str(_FOLDER / f"{script}.py"))["main"]()
        except SystemExit as exit_:
            status = exit_.code
        return status, output

    return run


@pytest.mark.parametrize("script", _SCRIPTS)
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--set", "data.size=10", "data.size should be greater than or equal to 32, received 10"),
        ("--set", "data.photos=nix", "Expected a folder of images. Received: nix"),
        ("--config", "nix.yaml", "There is no configuration file nix.yaml."),
        ("--count", "0", "argument --count: Expected a whole number of at least 1. Received: '0'"),
        ("--count", "-5", "argument --count: Expected a whole number of at least 1. Received: "),
    ],
)
def test_mistakes(run, script, option, value, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, output = run(script, f"{option}={value}")
    line = capsys.readouterr().err.splitlines()[-1]
    assert status == 2 and not output.exists()
    assert line.startswith(f"{script}.py: error: ") and message in line


@pytest.fixture
def some_pairs(monkeypatch):
    """Pairs of 64x64 px in place of those that take a while to make."""

    def training_pairs(config, batch_size, seed):
        for _ in range(9):
            images = tf.random.stateless_uniform([2, batch_size, 64, 64, 3], [seed, 0], 0, 255)
            known = tf.ones([batch_size, 64, 64])
            flow = {"flow": images[0, ..., :2] / 64, "mask": known, "unmatched": 0 * known}
            yield {"source": images[0], "target": images[1], **flow}

    monkeypatch.setattr("tfdense.data.training_pairs", training_pairs)


def test_a_folder_that_exists_is_not_written_to(run, some_pairs, capsys, tmp_path):
    (tmp_path / "out").mkdir()
    assert run("write_pairs", "--count", "1")[0] == 2
    assert "File exists" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("count", "rows"), [(1, 4), (17, 12), (40, 12)])
def test_few_pairs_are_shown(run, some_pairs, capsys, count, rows):
    status, output = run("pairs", "--count", str(count))
    assert status == 0 and capsys.readouterr().out.startswith(f"| of {-(-count // 8) * 8} pairs |")
    assert read_image(output).shape == (rows * 66, 2 * (5 * 64 + 6), 3)


def test_few_pairs_are_written(run, some_pairs):
    status, output = run("write_pairs", "--count", "1")
    assert status == 0 and [path.name for path in output.iterdir()] == ["0000"]
    assert np.load(output / "0000" / "flow.npy").shape == (64, 64, 2)
