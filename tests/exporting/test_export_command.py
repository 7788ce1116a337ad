import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfdense import cli
from tfdense.exporting import signatures, tflite
from tfdense.inference.backends import SavedModelBackend
from tfdense.lite import LiteMatcher

ROOT = Path(__file__).resolve().parents[2]

with_three_components = pytest.mark.parametrize(
    "other_network", ["three components"], indirect=True
)


def swap_the_images(monkeypatch, module, name):
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda model, source, target: right(model, target, source))


@with_three_components
def test_tflite(other_network, tmp_path, monkeypatch, capsys):
    path = tmp_path / "model.tflite"
    command = ["export", "tflite", "any", "-o", str(path), "--size", "32x40"]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert f"{path}: 0.0" in printed and "CONV_2D 2" in printed
    assert "bound: flow 0.001 px, confidence 0.001: kept" in printed and "of float32" in printed
    assert LiteMatcher(path).sizes == ((32, 40),)
    several = ["export", "tflite", "--size", "32x40,24x24", "any", "--size", "48x64"]
    assert cli.main([*several, "-o", str(path)]) == 0
    assert LiteMatcher(path).sizes == ((32, 40), (24, 24), (48, 64))

    swap_the_images(monkeypatch, tflite, "match_fixed")
    assert cli.main([*command, "--precision", "float16"]) == 1
    printed = capsys.readouterr().err
    assert "bound: flow 0.001 px, confidence 0.001: exceeded" in printed and "of float16" in printed


@pytest.mark.parametrize("size", ["32", "32x40,24x24"])
def test_a_size_that_is_none(size, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["export", "onnx", "--size", size, "any", "-o", "absent"])
    assert exit_.value.code == 2
    assert f"two numbers such as 256x64. Received: {size}\n" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["tflite", "onnx"])
@pytest.mark.parametrize("size", ["100000x100000", "32x2064", f"32x{'9' * 18}"])
def test_a_size_too_large_is_refused_at_once(form, size, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["export", form, f"--size={size}", "any", "-o", "absent"])
    assert exit_.value.code == 2
    message = f"--size: Expected a height and width of at most 2048. Received: {size}\n"
    assert message in capsys.readouterr().err


@with_three_components
@pytest.mark.parametrize("size", ["0x0", "-64x64", "17x33"])
def test_a_size_that_the_network_does_not_take(other_network, size, tmp_path, capsys):
    command = ["export", "tflite", "any", "-o", str(tmp_path / "a.tflite"), f"--size={size}"]
    assert cli.main(command) == 2
    expected = "of at most 2048, divisible by 8 and at least 24"
    line = f"tfdense: error: Expected a height and width {expected}. Received: {size}\n"
    assert capsys.readouterr().err == line


@with_three_components
@pytest.mark.parametrize("form", ["tflite", "onnx"])
@pytest.mark.parametrize("name", ["noending", "a.x", "a.TFLITE", "other"])
def test_a_name_by_which_the_file_would_not_be_known(other_network, form, name, tmp_path, capsys):
    other = {"tflite": "a.onnx", "onnx": "a.tflite"}
    path = tmp_path / other.get(form if name == "other" else "", name)
    assert cli.main(["export", form, "any", "-o", str(path), "--size", "32x40"]) == 2
    line = f"Expected the name of a file that ends in .{form}. Received: {path}\n"
    assert capsys.readouterr().err == f"tfdense: error: {line}"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("form", ["tflite", "onnx", "saved-model"])
@pytest.mark.parametrize("name", ["a.tflite", "a.onnx", "served"])
def test_what_is_exported_is_not_exported_again(form, name, tmp_path, capsys):
    (tmp_path / "served" / "1").mkdir(parents=True)
    for file in ("a.tflite", "a.onnx", "served/1/saved_model.pb"):
        (tmp_path / file).touch()
    output = tmp_path / f"b.{form}"
    assert cli.main(["export", form, str(tmp_path / name), "-o", str(output)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tfdense: error: Expected a preset (") and "folder of a run" in line
    received = f"{tmp_path / name}, which is exported already and can be neither exported nor"
    assert f"Received: {received} trained" in line
    assert not output.exists()


@with_three_components
def test_saved_model(other_network, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "model"
    command = ["export", "saved-model", "any", "-o", str(folder)]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert f"{folder / '1'}: " in printed and "bound: flow 0.001 px" in printed

    swap_the_images(monkeypatch, signatures, "match")
    assert cli.main(command) == 1
    assert "exceeded" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["1"]


@pytest.mark.parametrize("other_network", ["gaussian and uniform"], indirect=True)
def test_names_that_are_not_utf8(other_network, tmp_path):
    folder, path = tmp_path / "caf\udce9", tmp_path / "\udce9.tflite"
    assert cli.main(["export", "tflite", "any", "-o", str(path), "--size", "32x40"]) == 0
    assert cli.main(["export", "saved-model", "any", "-o", str(folder)]) == 0
    assert {*tmp_path.iterdir()} == {folder, path}
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 40, 3), np.uint8)
    answer = LiteMatcher(path).run(*images)
    served = SavedModelBackend(folder / "1", 64).run(*images)
    np.testing.assert_allclose(answer["flow"], served["flow"], atol=1e-3)


@with_three_components
@pytest.mark.parametrize("command", [["tflite", "--size", "32x40"], ["saved-model"]])
def test_a_full_disk(other_network, tmp_path, capsys, monkeypatch, full_disk, command):
    save = tf.saved_model.save

    def save_on_a_full_disk(*arguments, **options):
        with full_disk():
            save(*arguments, **options)

    monkeypatch.setattr(tf.saved_model, "save", save_on_a_full_disk)
    output = tmp_path / "out.tflite"
    form, *options = command
    assert cli.main(["export", form, "any", *options, "-o", str(output)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("tfdense: error: Cannot write to ")
    assert error.endswith(": File too large.")
    assert not output.exists()


@pytest.mark.parametrize("script", ["tflite", "saved_model", "onnx"])
def test_scripts(script):
    command = [sys.executable, "-m", f"export.{script}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert f"usage: tfdense export {script.replace('_', '-')}" in done.stdout
