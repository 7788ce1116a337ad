import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tfdense.config import Config
from tfdense.errors import InputError
from tfdense.exporting import VerificationError, export_tflite, tflite
from tfdense.exporting.flatbuffer import (
    halve_kernels,
    quantize_kernels,
    round_kernels,
    round_kernels_to_bytes,
)
from tfdense.exporting.info import read_info
from tfdense.exporting.metadata import hash_weights
from tfdense.exporting.verification import keras_run, read_pair
from tfdense.lite import LiteMatcher
from tfdense.models.pdcnet import PDCNet
from tfdense.tflite_files import count_operations, read_metadata, read_operations

SIZE = (64, 96)


@pytest.fixture(scope="module", params=["float32", "float16", "int8"])
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
    elif exported.precision == "float16":
        assert 1e-3 < exported.median.flow < 0.15
        assert 1.2e6 < exported.size < 2e6
    else:
        assert exported.median.flow < 0.05 and exported.largest.flow < 1e-5
        assert exported.size < 1.7e6
        assert "in float32: biases" in str(exported)


def test_answers_like_keras_on_another_pair(exported, network):
    target, source = (image[::-1, ::-1] for image in read_pair(SIZE))
    answer = LiteMatcher(exported.path).run(source, target)
    expected = network({"source": np.float32(source[None]), "target": np.float32(target[None])})
    for name in ("flow", "log_variance", "logits"):
        difference = np.abs(answer[name] - expected[name][0])
        if exported.precision == "float32":
            assert difference.max() <= 1e-3, name
        elif exported.precision == "float16":
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


def test_the_guide_states_the_layout(exported):
    """And its code for phones names the tensors as the file does."""
    guide = (Path(__file__).resolve().parents[2] / "docs" / "devices.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| \[(.+?)\] \|", guide, re.MULTILINE)
    stated = {name: (dtype, shape) for name, dtype, shape in rows}
    runner = Interpreter(str(exported.path)).get_signature_runner("match")
    details = runner.get_input_details() | runner.get_output_details()
    sides = {"height": SIZE[0], "width": SIZE[1]}
    assert {
        name: (dtype, tuple(sides.get(side) or int(side) for side in shape.split(", ")))
        for name, (dtype, shape) in stated.items()
    } == {name: (np.dtype(x["dtype"]).name, tuple(x["shape"])) for name, x in details.items()}
    kotlin, swift = (
        re.search(rf"```{language}\n(.*?)```", guide, re.DOTALL)[1]
        for language in ("kotlin", "swift")
    )
    assert {*re.findall(r'"(\w+)" to ', kotlin)} == {"source", "target", "flow", "confidence"}
    assert {*re.findall(r'Named: "(\w+)"', swift)} == {"source", "target"}
    assert {*re.findall(r'\(named: "(\w+)"', swift)} == {"flow", "confidence"}
    for code in (kotlin, swift):
        assert '"match")' in code and code.count("{") == code.count("}")


@pytest.mark.parametrize("other_network", ["three components"], indirect=True)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_several_sizes_share_their_weights(other_network, tmp_path, precision):
    sizes = [(48, 24), (32, 64)]
    report = export_tflite("any", tmp_path / "both.tflite", sizes, precision)
    content = report.path.read_bytes()
    kernel = other_network.answer.kernel.numpy().transpose(3, 0, 1, 2).astype(precision)
    assert content.count(kernel.tobytes()) == 1
    signatures = Interpreter(model_content=content).get_signature_list()
    assert {*signatures} == {"match", "match_48x24", "match_32x64"}
    matcher = LiteMatcher(report.path)
    assert matcher.sizes == tuple(sizes) and matcher.metadata["size"] == [48, 24]
    for size in sizes:
        alone = export_tflite("any", tmp_path / "alone.tflite", size, precision)
        answer = matcher.run(*read_pair(size))
        for name, expected in LiteMatcher(alone.path).run(*read_pair(size)).items():
            np.testing.assert_array_equal(answer[name], expected)
    # Of the first size: each has the same.
    assert report.operations == read_info(report.path).operations
    assert report.operations["CONV_2D"] == 2
    assert "48x24, 32x64 px" in str(read_info(report.path))
    single = Interpreter(model_content=content).get_signature_runner("match")
    assert tuple(single.get_input_details()["source"]["shape"]) == (1, 48, 24, 3)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_other_networks(other_network, tmp_path, precision):
    report = export_tflite("any", tmp_path / "model.tflite", (48, 24), precision)
    assert (report.median.flow > 1e-5) == (precision != "float32")
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


def test_a_kernel_of_bytes_has_a_scale_for_each_channel():
    random = np.random.default_rng(0)
    kernels = [random.normal(size=size).astype(np.float32) for size in ((3, 3, 4, 5), (3, 3, 5, 1))]
    kernels[0][..., 2] *= 1000  # of one output channel, which must not spoil the others
    kernels[1][:, :, 1] = 0

    def function(x):
        return {
            "y": tf.nn.depthwise_conv2d(
                tf.nn.conv2d(x, kernels[0], 1, "SAME"), kernels[1], [1] * 4, "SAME"
            )
        }

    content = tflite.convert(function, {"x": tf.TensorSpec([1, 9, 9, 4], tf.float32)})
    small, rounded = quantize_kernels(content), round_kernels_to_bytes(content)
    x = random.normal(size=(1, 9, 9, 4)).astype(np.float32)
    answers = [
        Interpreter(model_content=each).get_signature_runner("match")(x=x)["y"]
        for each in (content, small, rounded)
    ]
    np.testing.assert_array_equal(answers[1], answers[2])
    spread = np.abs(answers[0]).max(axis=(0, 1, 2))
    assert spread[1] == 0 and (answers[1][..., 1] == 0).all()
    error = np.abs(answers[1] - answers[0]).max(axis=(0, 1, 2))
    assert (error[[0, 2, 3, 4]] < 0.02 * spread[[0, 2, 3, 4]]).all() and error[0] > 0
    stored = {
        x.name: x for op in read_operations(small) if op.name == "DEQUANTIZE" for x in op.inputs
    }
    assert {tensor.dtype for tensor in stored.values()} == {"INT8"}


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
        ({"size": (16, 64)}, "at least 24. Received: 16x64"),
        ({"size": [(48, 64), (16, 64)]}, "at least 24. Received: 16x64"),
        ({"size": [(48, 64), (48, 64)]}, "each size once. Received: 48x64, 48x64"),
        ({"size": (48, 2056)}, "at most 2048. Received: 48x2056"),
        ({"precision": "int4"}, "int4"),
        ({"path": "model.tf"}, r"ends in \.tflite. Received: model\.tf"),
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
