"""`python train.py`: its options, and what a user's mistake shows."""

import numpy as np
import pytest

from tfdense.cli import main
from tfdense.config import Config, ModelConfig, load_config, save_config
from tfdense.errors import InputError
from tfdense.images import write_image
from tfdense.training.command import new_run_folder
from tfdense.training.records import read_metrics

ONE_STEP = [
    *("--set", "model.options.radius=1", "--set", "data.size=64", "--set", "train.batch_size=1"),
    *("--set", "train.validation_pairs=1", "--set", "train.log_every=1"),
]


_OF_A_RUN = [
    *("best.weights.h5", "checkpoints", "config.yaml", "last.weights.h5", "metrics.csv"),
    "tensorboard",
]


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """Runs go to ``runs/`` of the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(in_folder, capsys):
    """Trains with these arguments, which must be refused with one line, which it returns."""

    def train(*arguments):
        assert main(["train", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return train


def test_trains_and_goes_on_where_it_stopped(in_folder, eager, capsys, monkeypatch):
    for shade in range(3):
        noise = np.random.default_rng(shade).integers(0, 256, (80, 90, 3), np.uint8)
        write_image(in_folder / "photos" / f"{shade}.png", noise)
    photos = ["--data", "photos", "--set", "data.validation_photos=photos"]
    # A name that TensorFlow does not take.
    name = ["--set", "name=caf\udce9"]
    assert main(["train", *ONE_STEP, "--steps", "1", *photos, *name]) == 0
    assert "tfdense match A B --model runs/caf\\udce9\n" in capsys.readouterr().out
    folder = in_folder / "runs" / "caf\udce9"
    assert sorted(path.name for path in folder.iterdir()) == _OF_A_RUN
    assert load_config(folder / "config.yaml").data.photos == str(in_folder / "photos")

    elsewhere = in_folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["train", "--resume", str(folder), "--steps", "2"]) == 0
    assert "from step 1" in capsys.readouterr().out
    rows = read_metrics(folder / "metrics.csv")
    assert [row["step"] for row in rows if row["loss"]] == ["1", "2"]
    assert load_config(folder / "config.yaml").train.steps == 2
    assert not [*elsewhere.iterdir()]
    assert main(["train", "--resume", str(folder)]) == 2
    assert "at step 2 of 2" in capsys.readouterr().err


def test_a_run_never_writes_into_another(in_folder):
    config = Config(name="mine")
    assert str(new_run_folder(config)) == "runs/mine"
    (in_folder / "runs/mine").mkdir(parents=True)
    (in_folder / "runs/mine-2").mkdir()
    assert str(new_run_folder(config)) == "runs/mine-3"


def test_the_weights_it_starts_from_are_not_replaced(refused, in_folder):
    save_config(in_folder / "config.yaml", Config())
    (in_folder / "best.weights.h5").write_text("weights")
    initial = f"train.initial_weights={in_folder / 'best.weights.h5'}"
    message = refused("--resume", in_folder, "--set", initial)
    assert "best.weights.h5 would replace the input" in message


def test_a_name_that_the_file_system_does_not_take(refused):
    assert "File name too long" in refused("--set", f"name={'n' * 300}")


def test_a_folder_in_the_place_of_the_table(refused, in_folder):
    save_config(in_folder / "config.yaml", Config())
    (in_folder / "metrics.csv").mkdir()
    assert "metrics.csv: it is a folder" in refused("--resume", in_folder)


def test_unknown_key(refused):
    assert "unknown key train.step (did you mean steps?)" in refused("--set", "train.step=5")


def test_value_of_the_wrong_type(refused):
    assert "train.steps should be a valid integer" in refused("--set", "train.steps=many")


def test_missing_configuration(refused):
    assert "no configuration file absent.yaml" in refused("--config", "absent.yaml")


def test_folder_without_images(refused, in_folder):
    (in_folder / "empty").mkdir()
    assert "No images in empty" in refused("--data", "empty")
    assert not (in_folder / "runs").exists()


def test_folder_of_broken_images(refused, in_folder):
    (in_folder / "broken").mkdir()
    (in_folder / "broken/text.jpg").write_text("not an image")
    assert "broken" in refused("--data", "broken")


def test_resuming_what_is_no_run(refused, in_folder):
    assert "no config.yaml" in refused("--resume", in_folder)


@pytest.mark.parametrize(
    "content", [b"1,2\n", b"step,loss\nx,1\n", b"step\n\xff\n", b"step\n1,2\n"]
)
def test_a_damaged_table_is_refused(content, tmp_path):
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"metrics\.csv is not what training writes"):
        read_metrics(tmp_path / "metrics.csv")


def test_resuming_with_another_configuration(refused, in_folder):
    save_config(in_folder / "config.yaml", Config())
    message = refused("--resume", in_folder, "--config", in_folder / "config.yaml")
    assert "leave out --config" in message


def test_unknown_preset(refused):
    assert "Unknown preset 'pdcnet-light'" in refused("--set", "model.preset=pdcnet-light")


def test_configurations_that_come_along(pytestconfig):
    folder = pytestconfig.rootpath / "configs"
    assert load_config(folder / "default.yaml") == Config()
    assert load_config(folder / "demo.yaml").model == ModelConfig()
