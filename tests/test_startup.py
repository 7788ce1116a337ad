"""Keras as a user has set it up: it makes no difference, or one line says what does."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tfdense
from tfdense.config import ModelConfig
from tfdense.models import build

_PAIR = [str(path) for path in sorted((Path(tfdense.__file__).parent / "data/pair").glob("*.jpg"))]
_MATCH = "import sys; from tfdense.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def keras_home(tmp_path):
    """A folder of settings for Keras, of which the function returned writes some."""

    def write(**settings):
        (tmp_path / "keras.json").write_text(json.dumps(settings), "utf-8")
        return {"KERAS_HOME": str(tmp_path)}

    return write


def _run(code, environment, folder):
    done = subprocess.run(
        [sys.executable, "-c", code, "match", *_PAIR, "-o", str(folder / "matches")],
        env={**os.environ, "KERAS_BACKEND": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("code", "backend"),
    [
        (_MATCH, "nonsense"),
        ("import tfdense; tfdense.load('pdcnet-lite')", "numpy"),
        ("import tfdense.models", "numpy"),
    ],
    ids=["match", "load", "models"],
)
def test_another_backend_is_named_with_the_variable_that_sets_it(code, backend, tmp_path):
    line = _run(code, {"KERAS_BACKEND": backend}, tmp_path)[-1]
    assert f"Received: KERAS_BACKEND={backend}" in line
    assert "KERAS_BACKEND=tensorflow" in line


@pytest.mark.parametrize("name", ["backend", "floatx"])
def test_an_unusable_setting_is_named_with_its_file(name, keras_home, tmp_path):
    (line,) = _run(_MATCH, keras_home(**{name: "numpy"}), tmp_path)
    assert f"mend {tmp_path / 'keras.json'}" in line


@pytest.mark.parametrize(
    ("missing", "package"),
    [("keras", "keras"), ("keras._tf_keras", "keras"), ("tensorflow", "tensorflow")],
)
@pytest.mark.parametrize(
    "code", [_MATCH, "import tfdense; tfdense.load('a.tflite')"], ids=["match", "load"]
)
def test_a_package_that_is_missing_is_named(missing, package, code, tmp_path):
    (tmp_path / "keras").mkdir()
    lacking = f"raise ModuleNotFoundError('No module named {missing}', name={missing!r})\n"
    (tmp_path / "keras" / "__init__.py").write_text(lacking)
    first = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    line = _run(first + code, {}, tmp_path)[-1]
    assert f"the package {package}, which is not installed: pip install {package}. " in line
    assert "tfdense.lite.LiteMatcher matches without TensorFlow and Keras." in line


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_another_backend_that_is_not_installed_is_not_asked_for(tmp_path):
    (line,) = _run(_MATCH, {"KERAS_BACKEND": "torch"}, tmp_path)
    assert "Received: KERAS_BACKEND=torch" in line and "pip install" not in line


@pytest.fixture(params=["channels_first", "float64", "mixed_float16"])
def setting(request):
    """A setting of Keras, and the function that reads it."""
    name = request.param
    which = {"channels_first": "image_data_format", "float64": "floatx"}.get(name, "dtype_policy")
    get, set_ = getattr(keras.config, which), getattr(keras.config, f"set_{which}")
    former = get()
    yield name, get, set_
    set_(former)


@pytest.mark.parametrize("preset", ["pdcnet-lite", "pwc-unet"])
def test_settings_make_no_difference(preset, setting):
    name, get, set_ = setting
    images = np.random.default_rng(0).uniform(0, 255, (2, 1, 64, 64, 3)).astype(np.float32)

    def answers():
        keras.utils.set_random_seed(0)
        model = build(ModelConfig(preset), backbone_weights=False)
        outputs = model({"source": images[0], "target": images[1]})
        return [outputs[name].numpy() for name in ("flow", "log_variance", "logits")]

    expected = answers()
    set_(name)
    received = answers()
    assert getattr(get(), "name", get()) == name
    for answer, right in zip(received, expected, strict=True):
        assert answer.dtype == np.float32
        np.testing.assert_array_equal(answer, right)
