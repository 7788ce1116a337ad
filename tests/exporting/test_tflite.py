import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tfdense.config import Config
from tfdense.errors import InputError
from tfdense.exporting import VerificationError, export_tflite, tflite
from tfdense.exporting.flatbuffer import halve_kernels, round_kernels
from tfdense.exporting.metadata import hash_weights
from tfdense.exporting.verification import keras_run, read_pair
from tfdense.lite import LiteMatcher
from tfdense.models.pdcnet import PDCNet
from tfdense.tflite_files import count_operations, read_metadata, read_operations

SIZE = (64, 96)


@pytest.fixture(scope="module", params=["float32", "float16"])
def exported(request, run_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("lite") / "model.tflite"
    return export_tflite(run_folder, path, SIZE, request.param)


def test_report(exported):
    assert exported.passed and "kept" in str(exported)
    assert exported.size == exported.path.stat().st_size
    assert exported.largest.flow <= 1e-3 and exported.largest.confidence <= 1e-3
    if exported.precision == "float32":
        assert exported.median.flow < 2e-4
        assert 2.5e6 < exported.size < 3.5e6
    else:
        assert 1e-3 < exported.median.flow < 0.15
        assert 1.2e6 < exported.size < 2e6


def test_answers_like_keras_on_another_pair(exported, network):
    target, source = (image[::-1, ::-1] for image in read_pair(SIZE))
    answer = LiteMatcher(exported.path).run(source, target)
    expected = network({"source": np.float32(source[None]), "target": np.float32(target[None])})
    for name in ("flow", "log_variance", "logits"):
        difference = np.abs(answer[name] - expected[name][0])
        if exported.precision == "float32":
            assert difference.max() <= 1e-3, name
        else:
            assert 0 < np.median(difference) <= 0.1, name


def test_structure(exported):
    content = exported.path.read_bytes()
    assert exported.operations == count_operations(read_operations(content))
    assert exported.operations["CONV_2D"] > 50 and exported.operations["GATHER"] > 4
    assert not [name for name in exported.operations if name.startswith(("CUSTOM", "FLEX"))]
    interpreter = Interpreter(model_content=content)
    assert interpreter.get_signature_list() == {
        "match": {
            "inputs": ["source", "target"],
            "outputs": ["confidence", "flow", "log_variance", "logits"],
        }
    }
    for details in interpreter.get_input_details():
        assert details["dtype"] == np.uint8 and tuple(details["shape"]) == (1, *SIZE, 3)
    model = schema.Model.GetRootAs(content, 0)
    offsets = [
        model.Buffers(i)._tab.Vector(4)
        for i in range(model.BuffersLength())
        if model.Buffers(i).DataLength()
    ]
    assert len(offsets) > 50 and not [offset for offset in offsets if offset % 16]


def test_metadata(exported, network):
    metadata = read_metadata(exported.path.read_bytes())
    assert metadata["preset"] == "pdcnet-lite" and metadata["size"] == list(SIZE)
    assert metadata["mixture"]["name"] == "LaplaceMixture" and metadata["radius"] == 1.0
    assert metadata["weights_sha256"] == hash_weights(network)
    assert metadata["precision"] == exported.precision and metadata["licence"] is None
    assert "target to source" in metadata["conventions"]["flow"]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_other_networks(other_network, tmp_path, precision):
    report = export_tflite("any", tmp_path / "model.tflite", (48, 24), precision)
    assert (report.median.flow > 1e-5) == (precision == "float16")
    answer = LiteMatcher(report.path).run(*read_pair((48, 24)))
    components = other_network.components
    assert answer["logits"].shape == answer["log_variance"].shape == (48, 24, components)


@pytest.mark.parametrize("other_network", ["three components"], indirect=True)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_wrong_graph_is_not_kept(other_network, tmp_path, monkeypatch, precision):
    right = tflite.match_fixed
    monkeypatch.setattr(
        tflite, "match_fixed", lambda model, source, target: right(model, target, source)
    )
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the former file")
    with pytest.raises(VerificationError, match="exceeded"):
        export_tflite("any", path, (48, 48), precision)
    assert path.read_bytes() == b"the former file" and list(tmp_path.iterdir()) == [path]


def replace_kernel(content, network, dtype, function):
    """Changes the last kernel in a file, which LiteRT has output channels first."""
    kernel = network.answer.kernel.numpy().transpose(3, 0, 1, 2).astype(dtype)
    assert kernel.tobytes() in content
    return content.replace(kernel.tobytes(), function(kernel).astype(dtype).tobytes())


@pytest.mark.parametrize("other_network", ["three components"], indirect=True)
def test_wrong_half_precision_is_not_kept(other_network, tmp_path, monkeypatch):
    def halve_wrongly(content):
        content = halve_kernels(content)
        return replace_kernel(content, other_network, np.float16, lambda kernel: 1.001 * kernel)

    monkeypatch.setattr(tflite, "halve_kernels", halve_wrongly)
    with pytest.raises(VerificationError, match=r"0.001: exceeded\n.*median .* 0.02: kept"):
        export_tflite("any", tmp_path / "model.tflite", (48, 48), "float16")


@pytest.mark.parametrize("other_network", ["three components"], indirect=True)
def test_coarse_rounding_is_not_kept(other_network, tmp_path, monkeypatch):
    for name, change in (("halve_kernels", halve_kernels), ("round_kernels", round_kernels)):

        def change_coarsely(content, change=change):
            coarse = replace_kernel(content, other_network, np.float32, np.sign)
            return change(coarse)

        monkeypatch.setattr(tflite, name, change_coarsely)
    with pytest.raises(VerificationError, match=r"0.001: kept\n.*median .* 0.02: exceeded"):
        export_tflite("any", tmp_path / "model.tflite", (48, 48), "float16")


@pytest.mark.slow
@pytest.mark.parametrize("separate_pyramids", [False, True], ids=["pdcnet", "pdcnet-plus"])
def test_pdcnet_in_half_precision(separate_pyramids, tmp_path, monkeypatch):
    """Its variances reach 520², which float16 does not, and its folded kernels are rounded."""
    keras.utils.set_random_seed(7)
    network = PDCNet(global_iterations=1, local_iterations=1, separate_pyramids=separate_pyramids)
    for variable in network.weights:
        if variable.name in ("moving_mean", "moving_variance"):
            variable.assign(np.random.default_rng(8).uniform(0.5, 1.5, variable.shape))
    monkeypatch.setattr(tflite, "load", lambda name: (network, Config()))
    report = export_tflite("any", tmp_path / "model.tflite", precision="float16")
    assert report.size < (40e6 if separate_pyramids else 24e6)
    answer = LiteMatcher(report.path).run(*read_pair((256, 256)))
    expected = keras_run(network)(*read_pair((256, 256)))
    assert np.median(np.abs(answer["log_variance"] - expected["log_variance"])) < 0.02


def test_refuses_operations_that_are_not_built_in():
    spec = tf.TensorSpec([4], tf.float32)
    with pytest.raises(InputError, match="Erf"):
        tflite.convert(lambda x: {"y": tf.math.erf(x)}, {"x": spec})


@pytest.mark.parametrize("other_network", ["three components"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (60, 64)}, "divisible by 8"),
        ({"size": (16, 64)}, r"at least 24. Received: \(16, 64\)"),
        ({"precision": "int4"}, "int4"),
        ({"path": "."}, "is a folder"),
    ],
)
def test_refuses(other_network, tmp_path, arguments, message):
    arguments = {"path": tmp_path / "model.tflite", **arguments}
    with pytest.raises(InputError, match=message):
        export_tflite("any", **arguments)
    assert not list(tmp_path.iterdir())


def test_does_not_replace_what_it_reads(tmp_path):
    for name in ("config.yaml", "best.weights.h5"):
        (tmp_path / name).write_text("mine")
    for run in (tmp_path, tmp_path / "best.weights.h5"):
        for name in ("config.yaml", "best.weights.h5"):
            with pytest.raises(InputError, match=f"{name} would replace the input"):
                export_tflite(run, tmp_path / name)
    assert (tmp_path / "best.weights.h5").read_text() == "mine"
