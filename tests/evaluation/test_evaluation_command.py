"""``tfdense evaluate`` from the folder of a data set to the files."""

import csv
import json
import types

import cv2
import numpy as np
import pytest

from tfdense import cli
from tfdense.evaluation.baselines import BASELINES
from tfdense.images import write_image
from tfdense.mixture import LaplaceMixture


@pytest.fixture
def dataset(tmp_path):
    """Two pairs with a homography: shifts by 8 and by 12 px."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    source = cv2.resize(noise, (200, 160), interpolation=cv2.INTER_CUBIC)
    for name, shift in (("left", 8), ("right", 12)):
        target = np.roll(source, -shift, axis=1)
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        write_image(folder / "source.png", source)
        write_image(folder / "target.png", target)
        (folder / "H_target_to_source.txt").write_text(f"1 0 {shift}\n0 1 0\n0 0 1\n")
    return tmp_path / "data"


def test_classical_methods(dataset, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["evaluate", "homography", "--data", str(dataset), "--max-side", "100"]
    assert cli.main([*arguments, "-o", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "homography, number of pairs: 2, longer side at most 100 px" in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("identity"))
    assert line.split()[1:5] == ["5.00", "0.0", "0.0", "50.0"]  # 4 and 6 px at half the size

    results = json.loads((output / "results.json").read_text())
    assert (results["dataset"], results["pairs"], results["max_side"]) == ("homography", 2, 100)
    assert list(results["methods"]) == ["identity", "DIS", "Farneback", "SIFT + homography"]
    assert results["methods"]["identity"]["mean_over_pairs"]["aepe"] == pytest.approx(5.0)
    with (output / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["pair"], row["method"]) for row in rows[::4]] == [
        ("left", "identity"),
        ("right", "identity"),
    ]
    assert float(rows[4]["aepe"]) == pytest.approx(6.0)
    assert sorted(path.name for path in output.iterdir()) == ["pairs.csv", "results.json"]


class Network:
    """Matches as the identity does, and claims to be right within a pixel or so."""

    mixture = LaplaceMixture(maximum_variance=100.0)

    def match(self, source, target):
        match = BASELINES["identity"].match(source, target)
        zeros = np.zeros((*target.shape[:2], 2), np.float32)
        return types.SimpleNamespace(
            flow=match.flow, confidence=match.confidence, log_variance=zeros, logits=zeros
        )


def test_network(dataset, tmp_path, capsys, monkeypatch):
    loaded = []

    def load(*arguments):
        loaded.append(arguments)
        return Network()

    monkeypatch.setattr("tfdense.load", load)
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(tmp_path / "out")]
    options = ["--model", "runs/a", "--mode", "homography", "--max-side", "128"]
    assert cli.main([*arguments, *options]) == 0
    assert loaded == [("runs/a", 128, "homography")]
    network = json.loads((tmp_path / "out" / "results.json").read_text())["methods"]["network"]
    # P_1 of a variance of 1 px² is 0.573, and nothing is right within 1 px.
    calibration = network["expected_calibration_error"]
    assert calibration["1"] == pytest.approx((1 - np.exp(-np.sqrt(2))) ** 2, abs=1e-4)
    assert "expected calibration error: P_1 0.573" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hpatchez", "--data", "."], "There is no data set 'hpatchez'. Expected one of homog"),
        (["kitti-2015", "--data", "nowhere"], "There is no folder nowhere. Expected the training"),
        (["points", "--data", ".", "--max-side", "3"], "Expected --max-side to be at least 64"),
    ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"tfdense: error: {message}")
    assert not list(tmp_path.iterdir())


def test_a_broken_pair_is_named(dataset, tmp_path, capsys):
    (dataset / "right" / "target.png").write_bytes(b"nothing")
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    assert "target.png is not an image" in capsys.readouterr().err
