"""Files of ONNX, run by ONNX Runtime."""

import importlib
import json

import numpy as np
import pytest

from tfdense import cli
from tfdense.errors import InputError
from tfdense.exporting import VerificationError, export_onnx
from tfdense.exporting import onnx as exporting
from tfdense.exporting.metadata import hash_weights
from tfdense.exporting.verification import keras_run, read_pair

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")

_SIZE = (48, 72)


@pytest.fixture
def other_network(other_network, monkeypatch):
    from tfdense.config import Config

    monkeypatch.setattr(exporting, "load", lambda name: (other_network, Config()))
    return other_network


def test_a_file_answers_like_keras(other_network, tmp_path):
    report = export_onnx("any", tmp_path / "model.onnx", _SIZE)
    assert report.passed and report.operations["Conv"] == 2
    assert report.largest.flow <= 1e-3 and report.largest.confidence <= 1e-3
    program = onnx.load(report.path)
    onnx.checker.check_model(program, full_check=True)
    session = runtime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    assert {each.name: (each.type, each.shape[1:]) for each in session.get_inputs()} == {
        role: ("tensor(uint8)", [*_SIZE, 3]) for role in ("source", "target")
    }
    names = [each.name for each in session.get_outputs()]
    assert {*names} == {"flow", "confidence", "log_variance", "logits"}
    # Another pair than that of the export, in batches of any number.
    target, source = (image[::-1, ::-1].copy() for image in read_pair(_SIZE))
    expected = keras_run(other_network)(source, target)
    for count in (1, 3):
        images = {"source": np.stack([source] * count), "target": np.stack([target] * count)}
        answer = dict(zip(names, session.run(None, images), strict=True))
        for name, values in expected.items():
            assert answer[name].shape == (count, *values.shape)
            np.testing.assert_allclose(answer[name][-1], values, atol=1e-3)


def test_it_describes_itself(other_network, tmp_path):
    export_onnx("any", tmp_path / "model.onnx", _SIZE)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["tfdense"])
    assert metadata["size"] == [*_SIZE] and metadata["radius"] == 1.0
    assert metadata["weights_sha256"] == hash_weights(other_network)
    assert "target to source" in metadata["conventions"]["flow"]


@pytest.mark.parametrize("other_network", ["three components"], indirect=True)
def test_a_wrong_graph_is_not_kept(other_network, tmp_path, monkeypatch, capsys):
    right = exporting.match_fixed
    monkeypatch.setattr(
        exporting, "match_fixed", lambda model, source, target: right(model, target, source)
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the former file")
    with pytest.raises(VerificationError, match="exceeded"):
        export_onnx("any", path, _SIZE)
    assert path.read_bytes() == b"the former file" and [*tmp_path.iterdir()] == [path]
    command = ["export", "onnx", "any", "-o", str(path), "--size", "x".join(map(str, _SIZE))]
    assert cli.main(command) == 1
    monkeypatch.undo()
    assert "exceeded" in capsys.readouterr().err


@pytest.mark.parametrize("other_network", ["three components"], indirect=True)
def test_mistakes(other_network, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"divisible by 8 and at least 24\. Received: 50x72"):
        export_onnx("any", tmp_path / "model.onnx", (50, 72))
    right = importlib.import_module

    def without(name):
        if name == "tf2onnx":
            raise ImportError(name)
        return right(name)

    monkeypatch.setattr(exporting.importlib, "import_module", without)
    with pytest.raises(
        InputError, match=r"needs the package tf2onnx: pip install 'tfdense\[onnx\]"
    ):
        export_onnx("any", tmp_path / "model.onnx", _SIZE)
    assert not [*tmp_path.iterdir()]


def test_operations_that_onnx_does_not_have(tmp_path):
    import tensorflow as tf

    def function(source, target):
        return {
            "answer": tf.math.bessel_i0(tf.cast(source, tf.float32) + tf.cast(target, tf.float32))
        }

    with pytest.raises(InputError, match="ONNX does not have these operations: Bessel"):
        exporting.convert(function, [None, 8, 8, 3])


@pytest.mark.slow
def test_the_network_that_ships(tmp_path):
    report = export_onnx("pdcnet-lite", tmp_path / "model.onnx", (256, 256))
    assert report.passed


@pytest.mark.slow
def test_a_small_pdcnet_lite(run_folder, network, tmp_path):
    report = export_onnx(run_folder, tmp_path / "model.onnx", (64, 96))
    assert report.passed and report.operations["Conv"] > 50
