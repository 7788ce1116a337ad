"""Archives of Keras (.keras), what they would execute included."""

import io
import json
import zipfile

import keras
import pytest
from hypothesis import strategies as st
from mutations import EDITS, apply, mutated, zipped
from oracle import CANARY, evil_code, evil_pickles, fuzz

from tfdense.mixture import LaplaceMixture
from tfdense.models import load
from tfdense.models.network import MatchingNetwork

pytestmark = pytest.mark.fuzz

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


@keras.saving.register_keras_serializable("fuzz")
class Small(MatchingNetwork):
    """The weights of one convolution, which is all that loading needs."""

    stride, minimum_size = 8, 32
    mixture = LaplaceMixture(maximum_variance=1e3)

    def __init__(self, filters: int = 5, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.convolution = keras.layers.Conv2D(filters, 3, name="all")
        self.build()

    def build(self, input_shape=None):
        self.convolution.build((None, None, None, 6))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@pytest.fixture(scope="module", autouse=True)
def small_preset(own_preset):
    with own_preset("fuzzed", Small):
        yield


def _saved(tmp) -> dict[str, bytes]:
    Small().save(tmp / "whole.keras")
    with zipfile.ZipFile(tmp / "whole.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _load(trial, content: bytes) -> None:
    path = trial.folder / "network.keras"
    path.write_bytes(content)
    load(path)


def test_a_whole_one_is_loaded(tmp_path):
    _saved(tmp_path)
    assert isinstance(load(tmp_path / "whole.keras")[0], Small)


@fuzz(EDITS, prepare=_saved)
def test_archives(trial, edits):
    _load(trial, apply(zipped(trial.whole), edits))


@fuzz(st.tuples(st.sampled_from([_CONFIG, _WEIGHTS, "metadata.json"]), EDITS), prepare=_saved)
def test_members(trial, drawn):
    name, edits = drawn
    members = trial.whole
    _load(trial, zipped({**members, name: apply(members[name], edits)}))


def _layer(name: str, module: str = "keras.layers", registered=None, **config) -> dict:
    return {
        "module": module,
        "class_name": name,
        "registered_name": registered,
        "config": {"name": "x", **config},
    }


_LAMBDA = {
    "class_name": "__lambda__",
    "config": {"value": [evil_code(), None, None]},
}
_FUNCTION = {"module": CANARY, "class_name": "function", "config": "run", "registered_name": "run"}
_HOSTILE = [
    _layer("Lambda", function=_LAMBDA, trainable=True, dtype="float32"),
    _layer("Lambda", function=_FUNCTION),
    _layer("run", CANARY),
    _layer("Popen", "subprocess", args=["touch", "hostile"]),
    _layer("system", "os"),
    _layer("run", CANARY, "fuzz>run"),
    _layer("TFSMLayer", filepath="/etc", call_endpoint="serve"),
    _layer("TorchModuleWrapper", module=_FUNCTION),
    _layer("load_model", "keras.models", filepath="/etc/passwd"),
    _layer("get_file", "keras.utils", fname="x", origin="http://127.0.0.1:9/x"),
    _layer("StringLookup", vocabulary="/etc/passwd"),
    _layer("enable_unsafe_deserialization", "keras.config"),
    _layer("Functional", "keras.src.models.functional", layers=[], input_layers=[]),
    {"class_name": "__typespec__", "spec_name": "os.system", "module": "os", "config": []},
    {"class_name": "__tensor__", "config": {"value": [1], "dtype": "float32"}},
    _FUNCTION,
    _LAMBDA,
]


@fuzz(
    st.tuples(
        st.sampled_from(_HOSTILE),
        st.sampled_from(["whole", "filters", "dtype", "more", "compile", "build", "layers"]),
        EDITS,
    ),
    prepare=_saved,
)
def test_what_loading_would_execute(trial, drawn):
    hostile, place, edits = drawn
    members = trial.whole
    config = json.loads(members[_CONFIG])
    if place == "whole":
        config = hostile
    elif place == "layers":
        config = _layer("Sequential", "keras", layers=[hostile])
    elif place in ("compile", "build"):
        config[f"{place}_config"] = {"optimizer": hostile, "loss": hostile, "input_shape": hostile}
    else:
        config["config"][place] = hostile
    content = apply(json.dumps(config).encode(), edits[:1])
    _load(trial, zipped({**members, _CONFIG: content}))


_BOMB = b'{"a": [' + b"0," * 2**24 + b"0]}"


@fuzz(
    st.sampled_from(
        [
            {_CONFIG: _BOMB},
            {_CONFIG: b"[" * 10**6},
            {_CONFIG: b'{"class_name": "Small", "config": ' * 10**5},
            {_WEIGHTS: bytes(2**28)},
            {"assets/../../outside.txt": b"hostile"},
            {"/tmp/hostile-outside.txt": b"hostile"},
            {"_layer_checkpoint_dependencies/a.pkl": evil_pickles()[0]},
            {"model.weights.npz": zipped({"a.npy": evil_pickles()[0]})},
        ]
    ),
    prepare=_saved,
    inputs=16,
)
def test_bombs_and_paths(trial, more):
    _load(trial, zipped({**trial.whole, **more}, zipfile.ZIP_DEFLATED))


@fuzz(mutated([zipped({"config.json": b"{}"}), b"PK\x05\x06" + bytes(18), io.BytesIO().read()]))
def test_other_archives(trial, content):
    _load(trial, content)
