"""``tfdense evaluate`` from the folder of a data set to the files."""

import csv
import errno
import json

import cv2
import numpy as np
import pytest

from tfdense import cli
from tfdense.evaluation.baselines import USUAL
from tfdense.images import read_image, write_image
from tfdense.results.match import Match

# Of a variance of 1 px².
P_1 = (1 - np.exp(-np.sqrt(2))) ** 2


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
    assert list(results["methods"]) == list(USUAL)
    assert results["methods"]["identity"]["mean_over_pairs"]["aepe"] == pytest.approx(5.0)
    with (output / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["pair"], row["method"]) for row in rows[:: len(USUAL)]] == [
        ("left", "identity"),
        ("right", "identity"),
    ]
    assert float(rows[len(USUAL)]["aepe"]) == pytest.approx(6.0)
    assert sorted(path.name for path in output.iterdir()) == ["pairs.csv", "results.json"]


def test_chosen_methods(dataset, tmp_path, capsys, monkeypatch):
    output = tmp_path / "out"
    arguments = ["evaluate", "--data", str(dataset), "-o", str(output), "--methods"]
    assert cli.main([*arguments, "SIFT + local affine,identity", "homography"]) == 0
    results = json.loads((output / "results.json").read_text())
    assert list(results["methods"]) == ["SIFT + local affine", "identity"]

    monkeypatch.delattr("cv2.optflow", raising=False)
    output.rename(tmp_path / "before")
    capsys.readouterr()
    assert cli.main([*arguments, "identity,DeepFlow", "homography"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tfdense: error: DeepFlow needs OpenCV")
    assert not output.exists()


def match_in_place(source, target):
    """Matches as the identity does, and claims to be right within a pixel or so."""
    zeros = np.zeros((*target.shape[:2], 2), np.float32)
    confidence = np.full(target.shape[:2], P_1, np.float32)
    return Match(zeros, confidence, zeros, zeros, 1.0, source, target)


@pytest.fixture
def network(counting_network, monkeypatch):
    """What is loaded in place of any network, and a list of what was asked for."""
    network, loaded = counting_network(match_in_place), []

    def load(name, **use):
        loaded.append((name, *use.values()))
        return network

    monkeypatch.setattr("tfdense.load", load)
    return network, loaded


def test_network(dataset, tmp_path, capsys, network):
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(tmp_path / "out")]
    options = ["--model", "runs/a", "--mode", "wide-baseline", "--max-side", "128", "--fill"]
    assert cli.main([*arguments, *options, "--tiles", "2x3"]) == 0
    assert network[1] == [("runs/a", 128, "wide-baseline", "base", True, (2, 3))]
    printed = capsys.readouterr().out
    assert "network: runs/a (wide-baseline, filled, in tiles)" in printed
    figures = json.loads((tmp_path / "out" / "results.json").read_text())["methods"]["network"]
    # Nothing is right within 1 px.
    assert figures["expected_calibration_error"]["1"] == pytest.approx(P_1, abs=1e-4)
    assert "expected calibration error: P_1 0.573" in printed
    for name in ("sparsification.png", "reliability.png", "worst_pairs.png"):
        assert read_image(tmp_path / "out" / name).std() > 10


def test_a_setting_says_how_the_network_is_used(dataset, tmp_path, capsys, network):
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(tmp_path / "out")]
    arguments += ["--model", "runs/a", "--setting", "precise"]
    assert cli.main(arguments) == 0
    assert cli.main([*arguments, "--no-fill", "--max-side", "128"]) == 0
    assert network[1] == [
        ("runs/a", None, "wide-baseline", "precise", True, False),
        ("runs/a", 128, "wide-baseline", "precise", False, False),
    ]
    printed = capsys.readouterr().out
    assert "network: runs/a (setting precise, wide-baseline, filled)" in printed
    assert cli.main(["compare", str(tmp_path / "out")]) == 0
    assert "runs/a (setting precise, wide-baseline) |" in capsys.readouterr().out


def test_what_was_matched_is_not_matched_again(dataset, tmp_path, capsys, network):
    output = tmp_path / "out"
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(output)]
    arguments += ["--max-side", "100", "--model", "runs/a"]
    assert cli.main(arguments) == 0
    first = json.loads((output / "results.json").read_text())
    assert network[0].calls == 4  # two pairs, both ways
    (written,) = (output / "raw").iterdir()
    min(written.iterdir()).unlink()  # as if it had been broken off
    assert cli.main(arguments) == 0
    assert network[0].calls == 5
    second = json.loads((output / "results.json").read_text())
    assert cli.main(arguments) == 0
    third = json.loads((output / "results.json").read_text())
    # Even the time that matching took is that of the first run.
    assert third["methods"]["network"] == second["methods"]["network"]
    for results in (first, second):
        results["methods"]["network"]["mean_over_pairs"].pop("seconds")
    assert first["methods"]["network"] == second["methods"]["network"]


def test_unrelated_photos(tmp_path, capsys, network):
    for shade in range(3):
        write_image(tmp_path / "photos" / f"{shade}.png", np.full((80, 90, 3), shade, np.uint8))
    arguments = ["evaluate", "unrelated", "--data", str(tmp_path / "photos"), "--model", "runs/a"]
    assert cli.main([*arguments, "-o", str(tmp_path / "out")]) == 0
    p_5 = (1 - np.exp(-5 * np.sqrt(2))) ** 2
    assert (
        f"1380 pixels without a match: mean P_1 {P_1:.3f}, above 0.5 100.0%; mean P_5 {p_5:.3f}"
    ) in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"results.json", "pairs.csv", "worst_pairs.png", "raw"}


def test_a_network_that_cannot_be_loaded_leaves_nothing(dataset, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(output)]
    assert cli.main([*arguments, "--model", str(tmp_path / "nothing")]) == 2
    assert "There is no model" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hpatchez", "--data", "."], "There is no data set 'hpatchez'. Expected one of homog"),
        (["homography", "--data", ".", "--fill"], "Expected --model NETWORK beside --setting, "),
        (["homography", "--data", ".", "--tiles", "auto"], "Expected --model NETWORK beside "),
        (["homography", "--data", ".", "--mode", "direct"], "Expected --model NETWORK beside "),
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


def test_a_broken_pair_is_named_and_the_others_are_measured(dataset, tmp_path, capsys, network):
    output = tmp_path / "out"
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(output)]
    arguments += ["--model", "runs/a"]
    assert cli.main(arguments) == 0
    whole = {row["method"]: row for row in _rows(output) if row["pair"] == "right"}
    (dataset / "left" / "target.png").write_bytes(b"nothing")
    write_image(dataset / "middle" / "source.png", np.zeros((10, 100, 3), np.uint8))
    write_image(dataset / "middle" / "target.png", np.zeros((10, 100, 3), np.uint8))
    (dataset / "middle" / "H_target_to_source.txt").write_text("1 0 1\n0 1 0\n0 0 1\n")
    capsys.readouterr()
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert "homography, number of pairs: 1," in captured.out
    first, left, middle = captured.err.splitlines()
    assert first == "2 of 3 pairs could not be measured:"
    assert left.startswith("  left: ") and "target.png is not an image" in left
    assert middle.startswith("  middle: Expected images with sides of 16")
    results = json.loads((output / "results.json").read_text())
    assert results["pairs"] == 1
    assert results["failed"]["left"] == left.removeprefix("  left: ")
    assert list(results["failed"]) == ["left", "middle"]
    rows = _rows(output)
    assert [row["method"] for row in rows] == list(whole)
    for row in rows:
        assert (row["pair"], row["aepe"]) == ("right", whole[row["method"]]["aepe"])


def test_a_pair_without_ground_truth_is_named(dataset, tmp_path, capsys, network):
    (dataset / "left" / "H_target_to_source.txt").unlink()
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(tmp_path / "out")]
    assert cli.main([*arguments, "--model", "runs/a"]) == 1
    _, left = capsys.readouterr().err.splitlines()
    assert left.startswith("  left: There is no file") and "H_target_to_source.txt" in left


def _rows(folder):
    with (folder / "pairs.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_pair_that_nobody_foresaw_does_not_cost_the_others(dataset, tmp_path, capsys, network):
    def match(source, target):
        if network[0].calls == 1:
            raise MemoryError("no room for\n 9 GiB")
        return match_in_place(source, target)

    network[0].answer = match
    output = tmp_path / "out"
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(output)]
    assert cli.main([*arguments, "--model", "runs/a"]) == 1
    assert "  left: MemoryError: no room for 9 GiB\n" in capsys.readouterr().err
    # Not even of the methods that came before.
    assert {row["pair"] for row in _rows(output)} == {"right"}


def test_nothing_is_written_if_every_pair_is_broken(dataset, tmp_path, capsys):
    for name in ("left", "right"):
        (dataset / name / "target.png").write_bytes(b"nothing")
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "None of the 2 pairs could be measured. The first, left: " in line
    assert not (tmp_path / "out").exists()


def test_a_bug_in_every_pair_is_not_hidden(dataset, tmp_path, network):
    def match(source, target):
        raise ZeroDivisionError

    network[0].answer = match
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(tmp_path / "out")]
    with pytest.raises(ZeroDivisionError):
        cli.main([*arguments, "--model", "runs/a"])


def test_a_full_disk_ends_it_at_once(dataset, tmp_path, capsys, network, monkeypatch):
    def full(*arguments, **arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    output = tmp_path / "out"
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(output)]
    assert cli.main([*arguments, "--model", "runs/a"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tfdense: error: Cannot write to {output / 'raw'}")
    assert line.endswith("No space left on device.")
    assert network[0].calls == 1


@pytest.mark.parametrize("model", [[], ["--model", "runs/a"]])
def test_names_that_are_not_utf8(dataset, tmp_path, capsys, network, model):
    (dataset / "left").rename(dataset / "l\udce9ft")
    output = tmp_path / "\udce9valuation"
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(output), *model]
    assert cli.main(arguments) == 0
    assert {row["pair"] for row in _rows(output)} == {"l\\udce9ft", "right"}
    assert json.loads((output / "results.json").read_text())["pairs"] == 2
    capsys.readouterr()
    assert cli.main(["compare", str(output)]) == 0
    assert "homography | AEPE" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["results.json", "pairs.csv", "worst_pairs.png"])
def test_a_folder_in_a_files_place_is_refused_at_once(dataset, tmp_path, capsys, network, name):
    output = tmp_path / "out"
    (output / name).mkdir(parents=True)
    arguments = ["evaluate", "homography", "--data", str(dataset), "-o", str(output)]
    assert cli.main([*arguments, "--model", "runs/a"]) == 2
    error = f"tfdense: error: Cannot write to {output / name}: it is a folder.\n"
    assert capsys.readouterr().err == error
    assert not network[1]


def test_pictures_are_not_written_over_the_photos(tmp_path, capsys, network):
    photos = tmp_path / "photos"
    for name in ("a.png", "worst_pairs.png"):
        write_image(photos / name, np.full((80, 90, 3), len(name), np.uint8))
    arguments = ["evaluate", "unrelated", "--data", str(photos), "--model", "runs/a", "-o"]
    before = (photos / "worst_pairs.png").read_bytes()
    assert cli.main([*arguments, str(photos)]) == 2
    assert f"worst_pairs.png would replace the input {photos}" in capsys.readouterr().err
    assert (photos / "worst_pairs.png").read_bytes() == before
    assert not network[1]
    assert cli.main([*arguments, str(tmp_path / "out")]) == 0
