"""What is known of a network before TensorFlow is imported."""

import importlib
import re

import pytest

import tfdense
from tfdense import cli, models
from tfdense.config import Config, ModelConfig, save_config
from tfdense.data import bundled_pair
from tfdense.errors import InputError
from tfdense.models import build
from tfdense.networks import PRESETS, check_network

_COMMANDS = ("match", "match-pairs", "video")


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs a command that would match photos; returns why it did not come so far."""

    def never():
        raise AssertionError("TensorFlow is imported")

    folder = bundled_pair()[0].parent
    words = {"match": bundled_pair(), "match-pairs": [folder], "video": [folder]}

    def run(command, *options):
        module = importlib.import_module(cli._COMMANDS[command][0])
        monkeypatch.setattr(module, "import_tensorflow", never)
        output = tmp_path / "out"
        assert cli.main([command, *map(str, words[command]), "-o", str(output), *options]) == 2
        assert not output.exists()
        (line,) = capsys.readouterr().err.splitlines()
        return line.removeprefix("tfdense: error: ")

    return run


@pytest.mark.parametrize("command", _COMMANDS)
@pytest.mark.parametrize("model", ["nonsense", "pdcnet", "empty", "run"])
def test_a_model_that_is_none_is_refused_at_once(refused, command, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    save_config(tmp_path / "run" / "config.yaml", Config())
    with pytest.raises(InputError) as expected:
        tfdense.load(model)
    assert refused(command, "--model", model) == str(expected.value)


@pytest.mark.parametrize("model", [None, 3, b"x", []], ids=str)
def test_a_model_that_is_no_name_is_refused(model):
    for load in (tfdense.load, models.load):
        with pytest.raises(InputError) as refusal:
            load(model)
        expected = f"Expected a preset's name or a path. Received: {model!r}"
        assert str(refusal.value) == expected


@pytest.mark.parametrize("command", _COMMANDS)
def test_numbers_out_of_range_are_refused_at_once(refused, command, tmp_path):
    assert refused(command, "--radius", "-1") == "Expected a positive radius. Received: -1.0"
    with pytest.raises(InputError) as expected:
        tfdense.load("pdcnet-lite", max_side=31)
    assert refused(command, "--max-side", "31") == str(expected.value)
    save_config(tmp_path / "config.yaml", Config(model=ModelConfig("pwc-unet")))
    (tmp_path / "last.weights.h5").touch()
    message = refused(command, "--max-side", "63", "--model", str(tmp_path))
    assert re.search(r"at least 64, .*Received: 63$", message)


@pytest.mark.parametrize("command", _COMMANDS)
def test_a_side_is_refused_where_the_network_has_sizes_of_its_own(refused, command, tmp_path):
    path = tmp_path / "a.tflite"
    path.touch()
    expected = "Expected no max_side with a .tflite file, which has sizes of its own. Received: 640"
    assert refused(command, "--max-side", "640", "--model", str(path)) == expected
    check_network(str(path))


@pytest.mark.parametrize("preset", ["pdcnet-lite", "pwc-unet", "pdcnet"])
def test_the_smallest_side_is_the_networks(preset):
    module, name = PRESETS[preset].network.split(":")
    network = getattr(importlib.import_module(f"tfdense.models.{module}"), name)
    assert PRESETS[preset].smallest_side == max(network.stride, network.minimum_size)


def test_a_network_that_can_be_loaded_is_not_refused(tmp_path):
    check_network("pdcnet-lite", 32)
    config = ModelConfig(options={"radius": 1})
    save_config(tmp_path / "config.yaml", Config(model=config))
    model = build(config, backbone_weights=False)
    model.save_weights(tmp_path / "own.weights.h5")
    model.save(tmp_path / "own.keras")
    for path in (tmp_path, tmp_path / "own.weights.h5", tmp_path / "own.keras"):
        check_network(str(path), 32)
        tfdense.load(path, max_side=32)
