import hashlib
import json

import cv2
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage
from tensorflow.core.framework.tensor_pb2 import TensorProto

from tfdense.errors import InputError
from tfdense.exporting import VerificationError, export_saved_model, saved_model, signatures
from tfdense.exporting.metadata import SIGNATURES, hash_weights
from tfdense.exporting.verification import read_pair
from tfdense.exporting.warm_up import prediction_log
from tfdense.files import adding_version
from tfdense.inference.backends import KerasBackend
from tfdense.matcher import Matcher
from tfdense.saved_models import SavedModel


@pytest.fixture(scope="module")
def exported(exported_report):
    """The report of an exported pdcnet-lite and the SavedModel, loaded."""
    return exported_report, tf.saved_model.load(str(exported_report.path))


@pytest.fixture(scope="module")
def model(exported):
    """The same as it is served."""
    return SavedModel(exported[0].path)


def smooth_images(*sizes):
    """Photos cannot be used to compare ways of resizing, smooth colours can."""
    random = np.random.default_rng(3)
    for height, width in sizes:
        colours = random.integers(0, 256, (3, 4, 3)).astype(np.uint8)
        yield cv2.resize(colours, (width, height), interpolation=cv2.INTER_CUBIC)


def png(image):
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def call(loaded, signature, source, target, **others):
    """Calls a signature of what `tf.saved_model.load` gave."""
    inputs = {"source": source, "target": target, **others}
    inputs = {name: tf.constant(values) for name, values in inputs.items()}
    answer = loaded.signatures[signature](**inputs)
    return {name: values.numpy() for name, values in answer.items()}


def test_report_and_layout(exported):
    report, loaded = exported
    assert report.path.name == "1" and report.path.parent.name == "pdcnet"
    assert report.size > (report.path / "saved_model.pb").stat().st_size
    assert 0 <= report.median.flow <= 1e-3 and 0 <= report.largest.flow <= 1e-3
    assert 0 <= report.median.confidence <= report.largest.confidence <= 1e-3
    assert "kept" in str(report)
    assert set(loaded.signatures) == {*SIGNATURES, "serving_default"}
    inputs = loaded.signatures["serving_default"].structured_input_signature[1]
    assert {name: spec.dtype for name, spec in inputs.items()} == {
        "source": tf.uint8,
        "target": tf.uint8,
    }


def test_each_signature_takes_its_inputs_by_name(exported, model):
    source, target = smooth_images((80, 96), (64, 96))
    mask = np.zeros((64, 96), np.uint8)
    mask[:, 40:] = 255
    points = np.float32([[[3, 4], [50.5, 20]]])
    images = {"source": source[None], "target": target[None]}
    files = {"source": [png(source)], "target": [png(target)]}
    whole = np.ones([1, 1, 1], np.uint8)
    masks = {"source_mask": whole, "target_mask": mask[None]}
    mask_files = {"source_mask": [b""], "target_mask": [png(np.dstack([mask] * 3))]}
    inputs = {
        "serving_default": images,
        "match": images,
        "match_masked": {**images, **masks},
        "match_encoded": files,
        "match_encoded_masked": {**files, **mask_files},
        "match_points": {**files, "target_points": points},
        "match_points_masked": {**files, **mask_files, "target_points": points},
    }
    assert inputs.keys() == set(exported[1].signatures)
    answers = {}
    for name, values in inputs.items():
        answers[name] = call(exported[1], name, **values)
        for key, expected in model.run(name, values).items():  # by a session
            np.testing.assert_allclose(answers[name][key], expected, atol=1e-4)
    for name in ("serving_default", "match_encoded"):
        np.testing.assert_allclose(answers[name]["flow"], answers["match"]["flow"], atol=1e-4)
    assert answers["match"]["confidence"].min() > 0
    for end, is_masked in (("", False), ("_masked", True)):
        dense, points = answers[f"match_encoded{end}"], answers[f"match_points{end}"]
        assert (dense["confidence"][0, :, :40] == 0).all() == is_masked
        np.testing.assert_allclose(
            dense["confidence"], answers[f"match{end}"]["confidence"], atol=1e-4
        )
        np.testing.assert_allclose(
            points["source_points"][0, 0], dense["flow"][0, 4, 3] + [3, 4], atol=1e-4
        )
        assert (points["confidence"] > 0).tolist() == [[not is_masked, True]]


def test_every_input_and_output_is_described(exported, model):
    assert model.description["signatures"].keys() == SIGNATURES.keys()
    for name in SIGNATURES:
        signature = model.signatures[name]
        for kind in ("inputs", "outputs"):
            specs = getattr(signature, kind)
            assert {key: spec.description for key, spec in specs.items()} == SIGNATURES[name][kind]
            assert not any(spec.optional for spec in specs.values())
    with pytest.raises(InputError, match="not a SavedModel that tfdense exported"):
        SavedModel(exported[0].path.parent)


def test_no_operation_of_match_is_tensorflows_alone(exported):
    """Other readers, as OpenVINO, have no ScaleAndTranslate, and decode no files."""
    graph = exported[1].signatures["match"].graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    operations = {node.op for node in nodes}
    assert "Conv2D" in operations and "ResizeBilinear" in operations
    assert not operations & {"ScaleAndTranslate", "DecodeJpeg", "While", "If", "StatelessIf"}


@pytest.mark.parametrize("size", [(20, 30), (7, 11), (33, 47), (9, 60), (31, 8), (1, 1)])
def test_resizing_is_tensorflows_with_antialias(size):
    values = np.random.default_rng(2).uniform(0, 255, (2, 20, 30, 3)).astype(np.float32)
    expected = tf.image.resize(values, size, antialias=True).numpy()
    found = signatures._resize_image(tf.constant(values), tf.constant(size))
    np.testing.assert_allclose(found, expected, atol=2e-2)


def test_masks_as_inputs_are_those_of_transparent_files(model):
    (source, target), masks = smooth_images((96, 128), (96, 128)), np.zeros((2, 96, 128), np.uint8)
    masks[0, :, 30:] = 1
    masks[1, 20:, :] = 255
    plain = model.run("match", {"source": source[None], "target": target[None]})
    answer = model.run(
        "match_masked",
        {
            "source": source[None],
            "target": target[None],
            "source_mask": masks[:1],
            "target_mask": masks[1:],
        },
    )
    assert np.abs(plain["flow"] - answer["flow"]).max() > 0.1
    transparent = [
        cv2.imencode(".png", np.dstack([image[..., ::-1], 255 * (mask > 0)]).astype(np.uint8))[1]
        for image, mask in zip((source, target), masks, strict=True)
    ]
    names = ("source", "target")
    encoded = {name: [x.tobytes()] for name, x in zip(names, transparent, strict=True)}
    files = {
        **{name: [png(image)] for name, image in zip(names, (source, target), strict=True)},
        "source_mask": [png(np.repeat(masks[0, ..., None], 3, axis=-1))],
        "target_mask": [png(np.repeat(masks[1, ..., None], 3, axis=-1))],
    }
    for signature, inputs in (("match_encoded", encoded), ("match_encoded_masked", files)):
        other = model.run(signature, inputs)
        for name, values in answer.items():
            np.testing.assert_allclose(other[name], values, atol=1e-4)
    assert (answer["confidence"][0, :20] == 0).all()
    files["source_mask"] = [png(source[:50])]
    with pytest.raises(tf.errors.InvalidArgumentError, match="source has another size"):
        model.run("match_encoded_masked", files)


def test_each_pair_of_a_batch_has_its_own_size_and_points(model):
    sizes = (64, 96), (80, 64), (48, 100)
    images = list(smooth_images(*sizes))
    pairs = [(images[0], images[1]), (images[2], images[0])]
    single = [model.run("match", {"source": s[None], "target": t[None]}) for s, t in pairs]
    encoded = {
        role: [png(pair[i]) for pair in pairs] for i, role in enumerate(("source", "target"))
    }
    together = model.run("match_encoded", encoded)
    np.testing.assert_array_equal(together["target_size"], [[80, 64], [64, 96]])
    assert together["flow"].shape == (2, 80, 96, 2)
    for i, (height, width) in enumerate(together["target_size"]):
        for name, values in single[i].items():
            np.testing.assert_allclose(together[name][i, :height, :width], values[0], atol=1e-4)
            assert not together[name][i, height:].any() and not together[name][i, :, width:].any()
    points = np.float32(
        [[[3, 4], [3.25, 4.5], [-3, 20], [np.nan, 1]], [[95, 63], [94.5, 63.4], [0, 0], [95, 70]]]
    )
    found = model.run("match_points", {**encoded, "target_points": points})
    for i in range(2):
        values = np.dstack([single[i]["flow"][0], single[i]["confidence"][0]])
        x, y = np.nan_to_num(points[i]).T
        *flow, expected = (
            ndimage.map_coordinates(values[..., c], [y, x], order=1, mode="nearest")
            for c in range(3)
        )
        places = np.nan_to_num(points[i]) + np.transpose(flow)
        outside = np.isnan(points[i]).any(axis=-1) | (points[i] < -0.5).any(axis=-1)
        outside |= points[i, :, 1] > 79.5 if i == 0 else points[i, :, 1] > 63.5
        places[np.isnan(points[i]).any(axis=-1)] = 0
        np.testing.assert_allclose(found["source_points"][i], places, atol=1e-3)
        np.testing.assert_allclose(
            found["confidence"][i], np.where(outside, 0, expected), atol=1e-4
        )
    with pytest.raises(tf.errors.InvalidArgumentError, match="differ in their batch size"):
        model.run("match_encoded", {**encoded, "target": encoded["target"][:1]})


def test_versions_appear_whole_and_replace_none(tmp_path):
    with adding_version(tmp_path / "model") as version:
        version.path.mkdir()
        (version.path / "file").write_text("first")
        assert not list((tmp_path / "model").glob("[0-9]*"))
        with adding_version(tmp_path / "model") as other:  # the same number, had they been counted
            other.path.mkdir()
            (other.path / "file").write_text("second")
        assert other.path.name == "1"
    assert version.path.name == "2"
    assert (tmp_path / "model" / "1" / "file").read_text() == "second"
    with pytest.raises(KeyError), adding_version(tmp_path / "model") as broken:
        broken.path.mkdir()
        raise KeyError
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["1", "2"]


def test_match_at_a_working_size_is_exactly_the_network(exported, network):
    source, target = read_pair((64, 96))
    answer = call(exported[1], "match", source[None], target[None])
    expected = network({"source": np.float32(source[None]), "target": np.float32(target[None])})
    for name in ("flow", "log_variance", "logits"):
        np.testing.assert_allclose(answer[name], expected[name], atol=1e-4)
    confidence = network.mixture.confidence(expected["log_variance"], expected["logits"], 1.0)
    np.testing.assert_allclose(answer["confidence"], confidence, atol=1e-5)


def test_a_batch_is_matched_pair_by_pair(exported):
    first, second = read_pair((64, 64))
    both = call(exported[1], "match", np.stack([first, second]), np.stack([second, first]))
    one = call(exported[1], "match", second[None], first[None])
    np.testing.assert_allclose(both["flow"][1], one["flow"][0], atol=1e-4)


def test_weights_and_graph_are_float32_in_spite_of_mixed_precision(exported):
    functions = [exported[1].signatures["match"].graph]
    definition = functions[0].as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    assert len(nodes) > 300
    half = {tf.float16.as_datatype_enum, tf.bfloat16.as_datatype_enum}
    assert not [node.name for node in nodes for a in node.attr.values() if a.type in half]


def test_transparent_pixels_are_masked_as_those_of_paths(exported, network, tmp_path):
    random = np.random.default_rng(5)
    sources, targets = [], []
    for i in range(2):
        for encoded, image in zip(
            (sources, targets), smooth_images((96, 128), (96, 128)), strict=True
        ):
            image = np.dstack([np.roll(image, 9 * i, axis=1), np.full((96, 128), 255, np.uint8)])
            image[30:60, 20 + 30 * i : 90] = random.integers(0, 127, (30, 70 - 30 * i, 4))
            encoded.append(cv2.imencode(".png", image)[1].tobytes())
    answer = call(exported[1], "match_encoded", sources, targets)
    matcher = Matcher(KerasBackend(network, max_side=128))
    for i in range(2):
        match = matcher.match(sources[i], targets[i])
        np.testing.assert_allclose(answer["flow"][i], match.flow, atol=1e-3)
        np.testing.assert_allclose(answer["confidence"][i], match.confidence, atol=1e-4)
        np.testing.assert_allclose(answer["log_variance"][i], match.log_variance, atol=1e-3)
        assert (match.confidence == 0).mean() > 0.1


def test_metadata(exported, network):
    metadata = json.loads((exported[0].path / "assets.extra" / "tfdense.json").read_text())
    assert metadata["preset"] == "pdcnet-lite" and metadata["size"] is None
    assert (metadata["stride"], metadata["minimum_size"], metadata["radius"]) == (16, 32, 1.0)
    assert metadata["mixture"] == {
        "name": "LaplaceMixture",
        "maximum_variance": 65536.0,
        "minimum_variance": 9.0,
        "first_variance": 9.0,
        "least_first_variance": 0.01,
    }
    digest = hashlib.sha256()
    for values in network.get_weights():
        digest.update(np.array(values.shape, np.int64).tobytes() + values.tobytes())
    assert metadata["weights_sha256"] == digest.hexdigest()
    network.weights[-1].assign(network.weights[-1] + 1e-6)
    assert hash_weights(network) != digest.hexdigest()


# Serialised by tensorflow-serving-api 2.21.0, whose messages these are.
def test_prediction_log_is_what_tensorflow_serving_reads():
    encoded = prediction_log("pdcnet", "match_encoded", {"source": [b"abc"]})
    assert encoded == (
        b"24\n2\n\x17\n\x06pdcnet\x1a\rmatch_encoded\x12\x17\n\x06source\x12\r\x08\x07\x12\x04"
        b"\x12\x02\x08\x01B\x03abc"
    )
    longer = prediction_log("pdcnet", "match_encoded", {"source": [b"abc"], "target": [b"x" * 200]})
    assert longer == (
        b"2\x96\x02\n\x93\x02\n\x17\n\x06pdcnet\x1a\rmatch_encoded\x12\x17\n\x06source\x12\r\x08"
        b"\x07\x12\x04\x12\x02\x08\x01B\x03abc\x12\xde\x01\n\x06target\x12\xd3\x01\x08\x07\x12\x04"
        b"\x12\x02\x08\x01B\xc8\x01" + b"x" * 200
    )


def fields(message):
    """Splits a message of length-delimited fields into (number, payload)."""
    while message:
        tag, message = message[0], message[1:]
        assert tag & 7 == 2
        length = shift = 0
        while True:
            byte, message = message[0], message[1:]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield tag >> 3, message[:length]
        message = message[length:]


def test_warm_up_requests_run(exported):
    report, loaded = exported
    path = report.path / "assets.extra" / "tf_serving_warmup_requests"
    answers = {}
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        ((number, log),) = fields(record)
        ((request_number, request),) = fields(log)
        assert (number, request_number) == (6, 1)
        inputs = {}
        for number, payload in fields(request):
            parts = dict(fields(payload))
            if number == 1:
                assert parts[1] == b"pdcnet"
                signature = parts[3].decode()
            else:
                tensor = tf.make_ndarray(TensorProto.FromString(parts[2]))
                inputs[parts[1].decode()] = tensor
        answers[signature] = call(loaded, signature, **inputs)
    assert set(answers) == {"match", "match_encoded", "match_points"}
    np.testing.assert_allclose(answers["match"]["flow"], answers["match_encoded"]["flow"])


def test_other_networks_at_any_size(other_network, tmp_path):
    report = export_saved_model("any", tmp_path / "model")
    assert export_saved_model("any", tmp_path / "model").path.name == "2"
    loaded = tf.saved_model.load(str(report.path))
    # The network sees 72x88: one axis of the source shrinks, the other grows.
    source, target = smooth_images((140, 61), (70, 90))
    answer = call(loaded, "match", source[None], target[None])
    matcher = Matcher(KerasBackend(other_network, max_side=640))
    expected = matcher.match(source, target, radius=1.0)
    np.testing.assert_allclose(answer["flow"][0], expected.flow, atol=0.1)
    np.testing.assert_allclose(answer["confidence"][0], expected.confidence, atol=0.01)
    np.testing.assert_allclose(answer["log_variance"][0], expected.log_variance, atol=0.02)
    np.testing.assert_allclose(answer["logits"][0], expected.logits, atol=0.02)
    # The differences would be larger if the source's size, say, had been overlooked.
    assert np.ptp(expected.flow) > 20

    encoded = call(loaded, "match_encoded", [png(source)], [png(target)])
    np.testing.assert_allclose(encoded["flow"], answer["flow"], atol=1e-4)
    jpeg = cv2.imencode(".jpg", target[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    encoded = call(loaded, "match_encoded", [png(source)], [jpeg])
    np.testing.assert_allclose(encoded["flow"], answer["flow"], atol=0.5)

    with pytest.raises(tf.errors.InvalidArgumentError, match="differ in their batch size"):
        call(loaded, "match", np.stack([source] * 2), target[None])


@pytest.mark.parametrize("other_network", ["three components"], indirect=True)
@pytest.mark.parametrize("damage", ["swapped", "nan", "confidence"])
def test_a_wrong_graph_is_not_kept(other_network, tmp_path, monkeypatch, damage):
    match = signatures.match

    def wrong(model, source, target):
        answer = match(model, *((target, source) if damage == "swapped" else (source, target)))
        if damage == "nan":
            answer["flow"] += float("nan")
        if damage == "confidence":
            answer["confidence"] += 0.01
        return answer

    monkeypatch.setattr(saved_model.signatures, "match", wrong)
    with pytest.raises(VerificationError, match="exceeded"):
        export_saved_model("any", tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"Cannot write to .*file: Not a directory"):
        export_saved_model("pdcnet-lite", path)
    assert path.read_text() == "mine"
