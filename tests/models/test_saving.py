"""The networks as Keras saves, loads, copies, describes and exports them."""

import io
import json
import re
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdense
from tfdense import models
from tfdense.config import ModelConfig
from tfdense.errors import InputError
from tfdense.keras_objects import OBJECTS, announce
from tfdense.layers import MixtureHead
from tfdense.matcher import Matcher
from tfdense.mixture import LaplaceMixture
from tfdense.models.network import MatchingNetwork

# Every preset; the small ones as they are, PDC-Net with as few iterations as it can have.
_NETWORKS = {
    "pdcnet-lite": {},
    "pwc-unet": {},
    "pdcnet": {"global_iterations": 1, "local_iterations": 1},
    "pdcnet-plus": {"global_iterations": 1, "local_iterations": 1},
}
_EVERY = [
    pytest.param(name, marks=pytest.mark.slow if name.startswith("pdcnet-p") else ())
    for name in _NETWORKS
]
_SMALL = {
    "projection_channels": (8, 8, 8),
    "decoder_channels": ((8, 8), (8, 8), (8, 8)),
    "radius": 1,
    "context_layers": 1,
    "refinement_passes": 1,
}

# Run in a process of its own, which knows nothing of the network.
_LOADING = """
import tfdense, sys
assert "keras" not in sys.modules and "tensorflow" not in sys.modules
import numpy as np, tensorflow as tf
keras = tf.keras  # the same as `import keras`
network = keras.models.load_model(sys.argv[1])
images = np.load(sys.argv[2])
np.save(sys.argv[3], network({name: images[name] for name in images})["flow"])
"""


@pytest.fixture(scope="module")
def small():
    return models.build(ModelConfig("pdcnet-lite", _SMALL))


@pytest.fixture
def images(texture):
    def make(network):
        size = (network.minimum_size, network.minimum_size)
        return {name: texture(*size, i)[None] for i, name in enumerate(("source", "target"))}

    return make


def _equal(first, second):
    flat = keras.tree.flatten(first), keras.tree.flatten(second)
    return all(np.array_equal(a, b) for a, b in zip(*flat, strict=True))


def _disturb(network):
    """Gives every weight a value that no initialiser gives."""
    for i, weight in enumerate(network.weights):
        noise = tf.random.stateless_uniform(weight.shape, [i, 7], 0.9, 1.1)
        weight.assign(weight * noise + 1e-4)


@pytest.mark.parametrize("name", _EVERY)
def test_a_network_is_saved_whole_and_loaded_bit_by_bit(name, images, tmp_path):
    network = models.build(ModelConfig(name, _NETWORKS[name]), backbone_weights=False)
    _disturb(network)
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    assert type(loaded) is type(network)
    assert len(loaded.weights) == len(network.weights)
    assert _equal(loaded.weights, network.weights)
    assert [w.path for w in loaded.weights] == [w.path for w in network.weights]
    values = images(network)
    assert _equal(loaded(values), network(values))


def test_a_fresh_process_needs_no_more_than_tfdense(images, tmp_path):
    network, _ = models.load("pdcnet-lite")
    network.save(tmp_path / "network.keras")
    values = images(network)
    np.savez(tmp_path / "images.npz", **values)
    paths = [tmp_path / name for name in ("network.keras", "images.npz", "flow.npy")]
    subprocess.run([sys.executable, "-c", _LOADING, *paths], check=True)
    assert np.array_equal(np.load(paths[-1]), network(values)["flow"])


def test_keras_may_be_imported_first(small, tmp_path):
    registered = keras.saving.get_custom_objects()
    name = "tfdense>PDCNetLite"
    former = registered.pop(name)
    announce()
    try:
        assert registered[name] is not former
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(small))
        assert type(copy) is type(small)
    finally:
        registered[name] = former


def test_all_that_registers_itself_is_announced():
    for module in OBJECTS:
        __import__(module)
    ours = {
        (value.__module__, value.__name__)
        for name, value in keras.saving.get_custom_objects().items()
        if name.startswith("tfdense>") and value.__module__.startswith("tfdense.")
    }
    assert ours == {(module, name) for module, names in OBJECTS.items() for name in names}
    layers, kinds = set(), [keras.layers.Layer]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__.startswith("tfdense."):
            layers.add((kind.__module__, kind.__name__))
    bases = {("tfdense.layers.gocor", "_GOCor"), ("tfdense.models.network", "MatchingNetwork")}
    assert layers - bases <= ours


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["pdcnet-lite", "pwc-unet"])
def test_the_precision_is_saved_too(name, precision, images, tmp_path):
    network = models.build(ModelConfig(name, _SMALL if name == "pdcnet-lite" else {}), precision)
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    policies = [
        [
            x.dtype_policy.name
            for x in n._flatten_layers()
            if not isinstance(x, keras.layers.InputLayer)
        ]
        for n in (network, loaded)
    ]
    assert precision in policies[0] and policies[0] == policies[1]
    flow = loaded(images(network))["flow"]
    assert flow.dtype == tf.float32 and np.isfinite(flow).all()


def test_weights_and_copies(small, images, tmp_path):
    _disturb(small)
    small.save_weights(tmp_path / "network.weights.h5")
    copy = keras.models.clone_model(small)
    assert type(copy) is type(small) and copy.get_config() == small.get_config()
    values = images(small)
    assert not _equal(copy(values)["flow"], small(values)["flow"])
    copy.load_weights(tmp_path / "network.weights.h5")
    assert _equal(copy(values), small(values))
    small.compile()  # its optimiser is in the file, too
    small.save_weights(tmp_path / "compiled.weights.h5")
    copy.load_weights(tmp_path / "compiled.weights.h5")


def test_weights_of_more_than_the_network_are_refused(tmp_path):
    whole = models.build(ModelConfig("pdcnet-lite", {"refinement_passes": 1}), "float32", False)
    whole.save_weights(tmp_path / "network.weights.h5")
    network = models.build(ModelConfig("pdcnet-lite"), backbone_weights=False)
    before = [weight.numpy() for weight in network.weights]
    expected = rf"expected {len(before)} arrays\. Received: {len(whole.weights)}"
    with pytest.raises(ValueError, match=expected):
        network.load_weights(tmp_path / "network.weights.h5")
    for one, other in zip(network.weights, before, strict=True):
        np.testing.assert_array_equal(one.numpy(), other)


@pytest.mark.parametrize("name", ["pdcnet-lite", "pwc-unet", "pdcnet"])
def test_the_summary_shows_each_part(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    network = models.build(ModelConfig(name, _NETWORKS[name]), backbone_weights=False)
    text = io.StringIO()
    network.summary(line_length=200, print_fn=lambda line: text.write(line + "\n"))
    rows = [line.split("│") for line in text.getvalue().splitlines() if line.startswith("│")]
    named = [row for row in rows if "(" in row[1]]
    assert len(named) == len(network.layers)
    assert not [row for row in named if row[2].strip() == "?"]
    assert f"Total params: {network.count_params():,}" in text.getvalue()
    assert sum(int(row[3].replace(",", "")) for row in named) == network.count_params()


def test_an_export_serves_images_of_any_size(texture, tmp_path):
    network = models.build(ModelConfig("pdcnet-lite", {**_SMALL, "refinement_passes": 0}))
    network.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    for size in ((32, 48), (64, 32)):
        values = {n: texture(*size, i)[None] for i, n in enumerate(("source", "target"))}
        answer, expected = served.serve(values), network(values)
        assert {*answer} == {"flow", "log_variance", "logits"}
        for key in answer:
            np.testing.assert_allclose(answer[key], expected[key], atol=1e-3)


def test_tfdense_loads_what_keras_saved(small, tmp_path):
    small.save(tmp_path / "own.keras")
    network, config = models.load(tmp_path / "own.keras")
    assert _equal(network.weights, small.weights)
    assert (config.name, config.model.preset) == ("own", "pdcnet-lite")
    rebuilt = models.build(config.model)
    assert rebuilt.get_config() == {**small.get_config(), "name": rebuilt.name}
    assert isinstance(tfdense.load(tmp_path / "own.keras", max_side=64), Matcher)


def test_frozen_parts_stay_frozen(small, images, tmp_path):
    network = keras.models.clone_model(small)
    network.get_layer("efficientnet_lite0").trainable = False
    network.get_layer("decoder_4").correction.trainable = False
    kept = len(network.trainable_weights)
    network.save(tmp_path / "frozen.keras")
    again = keras.models.load_model(tmp_path / "frozen.keras")
    copy = keras.models.clone_model(network)
    for other in (again, copy, models.load(tmp_path / "frozen.keras")[0]):
        assert not other.get_layer("efficientnet_lite0").get_layer("stem").trainable
        assert not other.get_layer("decoder_4").correction.trainable
        assert [w.trainable for w in other.weights] == [w.trainable for w in network.weights]
    assert len(again.trainable_weights) == kept < len(small.trainable_weights)

    before = {w.path: w.numpy() for w in again.weights}
    values = images(again)
    flow = np.ones((*values["source"].shape[:3], 2), np.float32)
    again.compile("sgd", metrics=[], run_eagerly=True)
    again.fit(values, {"flow": flow}, verbose=0)
    changed = {w.path for w in again.weights if not np.array_equal(w, before[w.path])}
    assert changed
    frozen = re.compile("efficientnet_lite0|decoder_4/correction")
    assert not [path for path in changed if frozen.search(path)]


@keras.saving.register_keras_serializable("tests")
class Own(MatchingNetwork):
    """The least that a network of one's own has to be; its weights are made by a call."""

    stride, minimum_size, level_weights = 8, 32, (1.0,)
    mixture = LaplaceMixture(maximum_variance=64.0)

    def __init__(self, filters=4, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.features_of = keras.Sequential([keras.layers.Conv2D(filters, 3, padding="same")])
        self.head = MixtureHead(self.mixture)
        self({role: keras.Input((32, 32, 3)) for role in ("source", "target")})

    def call(self, inputs, training=False):
        return self.head(self.features_of(inputs["target"] - inputs["source"]))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def test_tfdense_loads_networks_of_ones_own(texture, tmp_path):
    network = Own(filters=3)
    network.features_of.trainable = False
    network.save(tmp_path / "own.keras")
    again, config = models.load(tmp_path / "own.keras")
    assert type(again) is Own and _equal(again.weights, network.weights)
    assert (config.model.preset, config.model.options) == ("Own", {"filters": 3})
    for other in (again, keras.models.clone_model(network)):
        assert [w.trainable for w in other.weights] == [w.trainable for w in network.weights]
    images = [texture(40, 48, seed).astype(np.uint8) for seed in range(2)]
    match = tfdense.load(tmp_path / "own.keras").match(*images)
    assert match.flow.shape == (40, 48, 2) and np.abs(match.flow).max() > 0

    del keras.saving.get_custom_objects()["tests>Own"]
    try:
        with pytest.raises(InputError, match=r"import its module first. Received: a Own$"):
            models.load(tmp_path / "own.keras")
    finally:
        keras.saving.get_custom_objects()["tests>Own"] = Own


def test_other_files_of_keras_are_refused(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        models.load(tmp_path / "none.keras")
    (tmp_path / "broken.keras").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"broken.keras is not a network that Keras saved"):
        models.load(tmp_path / "broken.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(InputError, match=r"other.keras should hold .* Received: a Sequential"):
        models.load(tmp_path / "other.keras")


_LAMBDA = {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}}
_OTHERS = [
    {"module": "keras.layers", "class_name": "Lambda", "config": {"function": _LAMBDA}},
    {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
    {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/"}},
    _LAMBDA,
]


@pytest.mark.parametrize("other", _OTHERS, ids=lambda other: other["class_name"])
def test_what_keras_would_execute_is_refused(small, other, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: pytest.fail("it is loaded"))
    config = _changed(small, tmp_path, lambda config: config["config"].update(name=other))
    assert f"it would make a {other.get('module')}.{other['class_name']}" in config


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"assets/../../outside": b"x"}, "it holds assets/../../outside"),
        ({"config.json": b"[" * 100_000}, "nested too deep"),
        ({"config.json": b"0" * 2**21}, "bytes stand for|more than 1 MiB"),
        ({"model.weights.h5": bytes(2**26)}, "bytes stand for"),
        ({"config.json": b"[]"}, "describes no network"),
    ],
)
def test_archives_of_something_else_are_refused(small, more, message, tmp_path):
    assert re.search(message, _changed(small, tmp_path, lambda config: None, more))


def _changed(network, folder, change, more=None) -> str:
    """Saves a network, changes its archive; returns why it is refused."""
    network.save(folder / "whole.keras")
    with zipfile.ZipFile(folder / "whole.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members = {**members, "config.json": json.dumps(config).encode(), **(more or {})}
    with zipfile.ZipFile(folder / "changed.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(InputError) as caught:
        models.load(folder / "changed.keras")
    return str(caught.value)
