"""Modes, geometry and settings with exported networks, whose answers are known by hand."""

import json
import shutil

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdense
from tfdense import cli
from tfdense.client import remote
from tfdense.config import Config
from tfdense.errors import InputError
from tfdense.exporting import saved_model, tflite
from tfdense.images import write_image
from tfdense.inference.backends import KerasBackend
from tfdense.inference.settings import SETTINGS
from tfdense.lite import LiteMatcher
from tfdense.lite_runners import InterpreterRunner
from tfdense.matcher import Matcher
from tfdense.mixture import LaplaceMixture
from tfdense.two_view.estimation import map_points

_SIZE = (64, 96)
_HOMOGRAPHY = np.array([[0.92, 0.1, 7], [-0.08, 1.04, 3], [6e-4, -4e-4, 1]])


class ReadsPlaces(keras.Model):
    """A network for images whose red and green say where in the source a pixel is from.

    Of the way between the places in source and target it goes the share that the target's blue
    says. Where an image has no blue it is not confident.
    """

    stride, minimum_size = 16, 32
    mixture = LaplaceMixture(maximum_variance=1e4)

    def call(self, inputs):
        source, target = inputs["source"] / 255.0, inputs["target"] / 255.0
        height, width = tf.unstack(tf.shape(target)[1:3])
        size = tf.cast([width, height], tf.float32)
        sure = 8.0 * tf.minimum(source[..., 2:], target[..., 2:]) - 4.0
        zeros = tf.zeros_like(sure)
        return {
            "flow": target[..., 2:] * (target[..., :2] - source[..., :2]) * size,
            "log_variance": tf.concat([zeros, zeros + 9.0], axis=-1),
            "logits": tf.concat([sure, zeros], axis=-1),
            "levels": [],
        }


@pytest.fixture(scope="module")
def network():
    return ReadsPlaces()


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    """The network's SavedModel and .tflite."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for module in (saved_model, tflite):
            monkeypatch.setattr(module, "load", lambda name: (network, Config()))
        saved_model.export_saved_model("any", folder / "served")
        tflite.export_tflite("any", folder / "device.tflite", size=_SIZE)
    return {"SavedModel": folder / "served", "LiteRT": folder / "device.tflite"}


@pytest.fixture(params=["SavedModel", "LiteRT"])
def path(exported, request):
    return exported[request.param]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("assets.extra/tfdense.json", '{"a"', "its description is no JSON"),
        ("assets.extra/tfdense.json", "[" * 100_000, "its description is no JSON"),
        ("assets.extra/tfdense.json", "[]", "its description is none"),
        ("assets.extra/tfdense.json", '{"stride": -16}', "its description has no stride: -16"),
        ("assets.extra/tfdense.json", '{"stride": 16}', "has no minimum_size: None"),
        (
            "assets.extra/tfdense.json",
            '{"stride": 16, "minimum_size": 32, "mixture": {"name": "LaplaceMixture"}}',
            "the description of its mixture is none",
        ),
        ("saved_model.pb", "", "no signature match in saved_model.pb"),
        ("saved_model.pb", "no message", "is broken: "),
    ],
)
def test_a_broken_saved_model_is_refused(exported, tmp_path, name, content, message):
    folder = tmp_path / "1"
    shutil.copytree(exported["SavedModel"] / "1", folder)
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        tfdense.load(folder)
    assert "\n" not in str(caught.value)


_DESCRIPTION = '{"stride": 16, "minimum_size": 32, "mixture": {"name": "%s"%s}}'
_SPEC = tf.TensorSpec([None, None, None, 3], tf.uint8)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Writes a SavedModel of somebody else, with a description of tfdense's."""

    def write(match, specs=(_SPEC, _SPEC), name="LaplaceMixture", rest=', "maximum_variance": 100'):
        folder = tmp_path_factory.mktemp("foreign")
        module = tf.Module()
        module.match = tf.function(match, input_signature=specs)
        tf.saved_model.save(module, str(folder), signatures={"match": module.match})
        (folder / "assets.extra").mkdir()
        (folder / "assets.extra" / "tfdense.json").write_text(_DESCRIPTION % (name, rest))
        return folder

    return write


def _answers(flow=lambda zeros: zeros, rest=lambda zeros: zeros):
    def match(source, target):
        zeros = tf.zeros_like(target[..., :2], tf.float32)
        return {"flow": flow(zeros), "log_variance": rest(zeros), "logits": rest(zeros)}

    return match


def test_a_foreign_saved_model_that_does_the_same_is_taken(foreign):
    image = np.zeros((40, 60, 3), np.uint8)
    assert not tfdense.load(foreign(_answers())).match(image, image).flow.any()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"match": lambda x: {"flow": x}, "specs": [tf.TensorSpec([None], tf.float32)]},
            r"signature match to take source and target, .* Received: x float32 \[None\]",
        ),
        (
            {"match": _answers(), "specs": [tf.TensorSpec([1, 64, 64, 3], tf.uint8)] * 2},
            r"images of any size\. Received: source uint8 \[1, 64, 64, 3\], target",
        ),
        (
            {"match": lambda source, target: {"flow": source + target}},
            "its signature match answers no log_variance and no logits",
        ),
        ({"match": _answers(), "name": "InputError", "rest": ""}, "of its mixture is none"),
        ({"match": _answers(), "name": "_pair", "rest": ', "radius": 2'}, "of its mixture is none"),
        ({"match": _answers(), "name": "Mixture", "rest": ""}, "of its mixture is none"),
    ],
)
def test_a_foreign_saved_model_is_refused(foreign, how, message):
    with pytest.raises(InputError, match=f"The SavedModel .* is broken: .*{message}") as caught:
        tfdense.load(foreign(**how))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("match", "message"),
    [
        (
            _answers(lambda x: x[:, ::2], lambda x: x[:, ::2]),
            r"flow of shape \(32, 64, 2\) .*64x32",
        ),
        (_answers(lambda x: tf.concat([x, x], -1)), r"Received: \(32, 64, 4\)"),
        (_answers(rest=lambda x: x[:, :8]), r"log_variance .* Received: \(8, 64, 2\)"),
        (_answers(lambda x: x + np.nan), "numbers that are not finite: are its weights damaged"),
        (_answers(rest=lambda x: x + np.inf), "numbers that are not finite"),
    ],
)
def test_a_saved_model_that_answers_something_else_is_refused(foreign, match, message):
    image = np.zeros((32, 64, 3), np.uint8)
    with pytest.raises(InputError, match=message):
        tfdense.load(foreign(match)).match(image, image)


class NotFinite(ReadsPlaces):
    """A network whose weights are damaged, in two parts."""

    def features(self, images):
        return images

    def match_features(self, source, target):
        outputs = self({"source": source, "target": target})
        return {**outputs, "flow": outputs["flow"] * np.inf}

    def call(self, inputs):
        return {**super().call(inputs), "logits": super().call(inputs)["logits"] + np.nan}


def test_a_network_whose_answer_is_not_finite_is_refused():
    matcher = Matcher(KerasBackend(NotFinite(), 64))
    image = np.zeros((32, 64, 3), np.uint8)
    for match in (matcher.match, lambda *pair: next(matcher.match_many([pair]))):
        with pytest.raises(InputError, match="numbers that are not finite"):
            match(image, image)


def test_the_command_writes_nothing_of_an_answer_that_is_not_finite(foreign, tmp_path, capsys):
    folder, image = foreign(_answers(lambda x: x + np.nan)), str(tmp_path / "image.png")
    write_image(image, np.zeros((32, 64, 3), np.uint8))
    out = tmp_path / "out"
    assert cli.main(["match", image, image, "--model", str(folder), "-o", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("numbers that are not finite: are its weights damaged?")
    assert not out.exists()


def test_a_server_whose_answer_is_not_finite_is_refused():
    class Server:
        def description(self):
            return json.loads(_DESCRIPTION % ("LaplaceMixture", ', "maximum_variance": 100'))

        def predict(self, signature, images, outputs):
            return {name: np.full((*images["target"].shape[:3], 2), np.nan) for name in outputs}

    image = np.zeros((32, 64, 3), np.uint8)
    with pytest.raises(InputError, match="numbers that are not finite"):
        remote.connect(Server(), 64, "direct", False).match(image, image)


def test_a_tflite_file_whose_answer_is_not_finite_is_refused(exported, monkeypatch):
    answer = {
        name: np.full((1, *_SIZE, channels), np.nan, np.float32)
        for name, channels in (("flow", 2), ("log_variance", 2), ("logits", 2))
    }
    matcher = tfdense.load(exported["LiteRT"])
    monkeypatch.setattr(InterpreterRunner, "run", lambda *_: answer)
    image = np.zeros((*_SIZE, 3), np.uint8)
    for refuses in (matcher, LiteMatcher(exported["LiteRT"])):
        with pytest.raises(InputError, match="numbers that are not finite"):
            refuses.match(image, image)


def _grid():
    return np.stack(np.meshgrid(np.arange(_SIZE[1]), np.arange(_SIZE[0])), axis=-1).astype(float)


def _image(places, share=1.0):
    """Paints places [height, width, 2] in the source."""
    colours = (places + 0.5) / _SIZE[::-1]
    inside = ((colours > 0) & (colours < 1)).all(axis=-1, keepdims=True)
    painted = 255 * np.concatenate([colours, np.full_like(inside, share, float)], axis=-1)
    return np.rint(np.where(inside, painted, 0)).astype(np.uint8)


def _plane(share=1.0):
    """Returns the source, the target by `_HOMOGRAPHY`, and the target's places in the source."""
    places = map_points(np.linalg.inv(_HOMOGRAPHY), _grid())[0]
    return _image(_grid()), _image(places, share), places


def _median_error(match, places):
    inside = match.target[..., 2] > 0
    assert 0.6 < inside.mean() < 1
    return np.median(np.linalg.norm(match.positions() - places, axis=-1)[inside])


def test_each_mode_answers_as_in_keras(network, path):
    source, target, places = _plane(share=0.8)
    errors = {}
    for mode in ("direct", "multiscale"):
        match = tfdense.load(path, mode=mode).match(source, target)
        expected = Matcher(KerasBackend(network, 640), mode).match(source, target)
        for name in ("flow", "confidence", "log_variance"):
            difference = np.abs(getattr(match, name) - getattr(expected, name))
            assert np.mean(difference > 0.01) < 0.01, name
        errors[mode] = _median_error(match, places)
    assert errors["direct"] > 1
    # With one image shrunk the share is another, but the best homography is closer than none.
    assert errors["multiscale"] < 0.9 * errors["direct"]


def test_a_setting_chooses_the_mode_and_whether_to_fill(path):
    source, target, _ = _plane(share=0.8)
    direct = tfdense.load(path, mode="direct").match(source, target).flow
    precise = tfdense.load(path, mode="wide-baseline", fill=True).match(source, target).flow
    assert np.abs(direct - precise).max() > 1
    plane = tfdense.load(path, mode="plane").match(source, target).flow
    assert np.abs(plane - precise).max() > 0.1
    expected = {"precise": precise, "plane": plane}
    for setting in SETTINGS:
        flow = tfdense.load(path, setting=setting).match(source, target).flow
        np.testing.assert_array_equal(flow, expected.get(setting, direct))


def test_a_setting_chooses_the_size_unless_the_file_has_its_own(path):
    source, target, places = _plane()
    large = [cv2.resize(image, None, fx=10, fy=10) for image in (source, target)]
    match = tfdense.load(path, setting="turbo").match(*large)
    # A pixel of the network's is the radius: of 320 x 208 pixels, or the file's 96 x 64.
    expected = 10.0 if path.suffix == ".tflite" else np.sqrt(960 / 320 * 640 / 208)
    assert match.radius == pytest.approx(expected)
    y, x = np.nonzero(target[..., 2])
    found = match.positions()[10 * y + 5, 10 * x + 5]
    error = np.linalg.norm(found - (10 * places[y, x] + 5), axis=-1)
    assert np.median(error) < 4


def test_matches_and_homography(path):
    source, target, places = _plane()
    match = tfdense.load(path).match(source, target)
    matches = match.matches(200, threshold=0.3)
    assert len(matches.source) == 200
    x, y = matches.target.astype(int).T
    assert np.linalg.norm(matches.source - places[y, x], axis=-1).max() < 1
    assert (target[y, x, 2] > 0).all()
    corners = np.array([[0.0, 0], [95, 0], [95, 63], [0, 63]])
    mapped = map_points(match.homography().matrix, corners)[0]
    assert np.abs(mapped - map_points(_HOMOGRAPHY, corners)[0]).max() < 0.5


def test_pose(path):
    """A scene with depth, whose points the target's camera sees at each pixel."""
    camera = np.array([[90.0, 0, 47], [0, 90, 32], [0, 0, 1]])
    rotation = cv2.Rodrigues(np.array([0.02, -0.05, 0.03]))[0]
    translation = np.array([0.5, 0.1, -0.1])
    pixels = _grid().reshape(-1, 2)
    depth = 4 + np.sin(pixels[:, :1] / 15) + np.cos(pixels[:, 1:] / 10)
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(camera).T
    in_source = (rays * depth - translation) @ rotation @ camera.T
    places = (in_source[:, :2] / in_source[:, 2:]).reshape(*_SIZE, 2)
    pose = tfdense.load(path).match(_image(_grid()), _image(places)).pose(camera, camera)
    turned = cv2.Rodrigues(pose.rotation @ rotation.T)[0]
    assert np.degrees(np.linalg.norm(turned)) < 0.5
    cosine = pose.translation @ translation / np.linalg.norm(translation)
    assert np.degrees(np.arccos(cosine)) < 3
    assert len(pose.inliers.source) > 2000
