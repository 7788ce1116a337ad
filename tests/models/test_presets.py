"""Building networks by name and loading their weights, and what is said when that fails."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import tfdense
from tfdense import models
from tfdense.config import Config, ModelConfig, save_config
from tfdense.errors import InputError
from tfdense.models.presets import load_weights
from tfdense.networks import PRESETS, is_preset, run_files

# Small, since only names and files matter here.
_OPTIONS = {
    "projection_channels": [8, 8, 8],
    "decoder_channels": [[8, 8], [8, 8], [8, 8]],
    "radius": 1,
}
_CONFIG = Config(name="small", model=ModelConfig(preset="pdcnet-lite", options=_OPTIONS))


@pytest.fixture(scope="module")
def model():
    return models.build(_CONFIG.model)


@pytest.fixture(scope="module")
def receiver():
    """A network of the same kind, which weights are loaded into."""
    return models.build(_CONFIG.model)


@pytest.fixture
def run(tmp_path, model):
    """The folder of a run with its configuration and its last weights."""
    save_config(tmp_path / "config.yaml", _CONFIG)
    model.save_weights(tmp_path / "last.weights.h5")
    return tmp_path


def test_weights_of_a_larger_network_are_refused(tmp_path, model):
    """Keras passes over what it has no place for."""
    options = {**_OPTIONS, "context_layers": 0}
    smaller = models.build(ModelConfig(preset="pdcnet-lite", options=options))
    model.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(InputError, match=r"does not hold the weights of .* arrays\. Received"):
        load_weights(smaller, tmp_path / "a.weights.h5")


def test_an_unknown_preset_is_named_beside_those_that_exist():
    with pytest.raises(InputError, match=r"Unknown preset 'pdcnet-light'.*pdcnet-lite"):
        models.build(ModelConfig(preset="pdcnet-light"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"raduis": 3}, r"Options of pdcnet-lite: .*raduis"),
        ({"radius": -1}, r"Options of pdcnet-lite: .*radius=-1"),
        ({"radius": "four"}, r"Options of pdcnet-lite: .*radius='four'"),
        ({"projection_channels": [8, 8]}, r"Options of pdcnet-lite"),
        ({"decoder_channels": [[8], [8]]}, r"Options of pdcnet-lite"),
        ({"maximum_variance": 1.0}, r"Options of pdcnet-lite: .*maximum_variance"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        models.build(ModelConfig(preset="pdcnet-lite", options={**_OPTIONS, **options}))
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_names_a_network(preset):
    module, name = PRESETS[preset].network.split(":")
    network = getattr(__import__(f"tfdense.models.{module}", fromlist=[name]), name)
    assert issubclass(network, keras.Model)


def test_a_run_is_loaded_with_its_last_weights(run, model):
    loaded, config = models.load(run)
    assert config == _CONFIG
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 48, 3)).astype(np.float32)
    inputs = {"source": image, "target": image[:, ::-1]}
    np.testing.assert_array_equal(loaded(inputs)["flow"], model(inputs)["flow"])


def test_the_best_weights_are_preferred_and_a_file_is_taken_as_named(run, model):
    first = model.trainable_variables[0]
    former = first.numpy()
    first.assign(former + 1)
    model.save_weights(run / "best.weights.h5")
    first.assign(former)

    def loaded(path):
        return models.load(path)[0].trainable_variables[0].numpy()

    np.testing.assert_array_equal(loaded(str(run)), former + 1)
    np.testing.assert_array_equal(loaded(run / "last.weights.h5"), former)


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(InputError, match=r"Expected a preset \(.*pdcnet-lite.*missing"):
        models.load(tmp_path / "missing")


def test_a_run_without_weights_is_named(run):
    (run / "last.weights.h5").unlink()
    with pytest.raises(InputError, match=r"neither best\.weights\.h5 nor last\.weights\.h5"):
        models.load(run)
    with pytest.raises(InputError, match=r"no weights file .*other\.weights\.h5"):
        models.load(run / "other.weights.h5")


@pytest.mark.parametrize("content", [b"", b"no HDF5 file", b"\x89HDF\r\n\x1a\n and no more"])
def test_a_broken_file_of_weights_is_named(tmp_path, receiver, content):
    path = tmp_path / "broken.weights.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.weights\.h5 does not hold the weights"):
        load_weights(receiver, path)


def test_weights_cut_short_are_refused(run, receiver):
    path = run / "last.weights.h5"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"last\.weights\.h5 does not hold the weights"):
        load_weights(receiver, path)


def test_weights_that_are_not_finite_are_refused(tmp_path, model, receiver):
    variable = model.trainable_variables[0]
    former = variable.numpy()
    broken = former.copy()
    broken.flat[3] = np.nan
    variable.assign(broken)
    model.save_weights(tmp_path / "broken.weights.h5")
    variable.assign(former)
    with pytest.raises(InputError, match="not finite"):
        load_weights(receiver, tmp_path / "broken.weights.h5")


@pytest.mark.parametrize("options", [{"radius": 2}, {"projection_channels": [8, 16, 8]}])
def test_weights_of_another_configuration_are_refused(run, options):
    other = models.build(ModelConfig(preset="pdcnet-lite", options={**_OPTIONS, **options}))
    with pytest.raises(InputError, match=r"last\.weights\.h5 does not hold the weights"):
        load_weights(other, run / "last.weights.h5")


def test_weights_of_another_network_are_refused(tmp_path, receiver, recwarn):
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(InputError, match=r"other\.weights\.h5 does not hold the weights") as caught:
        load_weights(receiver, tmp_path / "other.weights.h5")
    assert "\n" not in str(caught.value)
    assert not [str(w.message) for w in recwarn if w.category is UserWarning]


def test_a_run_named_like_a_preset_without_weights_is_loaded(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    with pytest.raises(InputError, match=r"No trained weights of pdcnet.*may be called pdcnet\."):
        models.load("pdcnet")
    run.rename("pdcnet")
    assert models.load("pdcnet")[1] == _CONFIG


@pytest.mark.parametrize(
    ("name", "exists", "expected"),
    [
        ("pdcnet-lite", False, True),
        ("pdcnet-lite", True, True),
        ("./pdcnet-lite", True, False),
        (Path("pdcnet-lite"), False, False),
        ("pdcnet", False, True),
        ("pdcnet", True, False),
        (Path("pdcnet"), False, False),
        ("pdcnet-light", False, False),
    ],
)
def test_when_a_name_means_a_preset(tmp_path, monkeypatch, name, exists, expected):
    monkeypatch.chdir(tmp_path)
    if exists:
        Path(name).mkdir()
    assert is_preset(name) is expected
    # What is no file of the user's is not kept from being written over.
    assert bool(run_files(name)) is not expected


def test_a_path_is_no_preset(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    with pytest.raises(InputError, match=r"as a string.*Received: pdcnet-lite"):
        models.load(Path("pdcnet-lite"))
    run.rename("pdcnet-lite")
    assert models.load(Path("pdcnet-lite"))[1] == _CONFIG


def test_anything_that_can_be_loaded_may_be_called_like_a_preset_without_weights(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("pdcnet", "1").mkdir(parents=True)
    Path("pdcnet", "1", "saved_model.pb").touch()
    with pytest.raises(InputError, match="pdcnet/1 is not a SavedModel that tfdense exported"):
        tfdense.load("pdcnet")


def _linked(file, kernel):
    file[kernel] = h5py.ExternalLink("/etc/hostname", "/x")


def _elsewhere(file, kernel):
    file.create_dataset(kernel, (8,), "f4", external=[("/etc/hostname", 0, 32)])


def _huge(file, kernel):
    file.create_dataset(kernel, (2**20, 2**20), "f4", chunks=(64, 64))


@pytest.mark.parametrize(
    ("change", "message"),
    [(_linked, "is a link"), (_elsewhere, "in another file"), (_huge, "bytes stand for")],
)
def test_weights_that_lie_elsewhere_or_nowhere_are_refused(run, receiver, change, message):
    with h5py.File(run / "last.weights.h5", "r+") as file:
        names = []
        file.visititems(lambda name, item: names.append((name, isinstance(item, h5py.Dataset))))
        kernel = next(name for name, is_array in names if is_array)
        del file[kernel]
        change(file, kernel)
    with pytest.raises(InputError, match=message):
        load_weights(receiver, run / "last.weights.h5")
