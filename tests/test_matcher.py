"""Matching images of any size: where the answer lands, in whose pixels, and from which backend."""

import gc
import multiprocessing
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import tensorflow as tf

import tfdense
from tfdense.config import Config, ModelConfig, save_config
from tfdense.errors import InputError
from tfdense.exporting import export_saved_model, export_tflite
from tfdense.inference.backends import KerasBackend, TargetSize
from tfdense.matcher import Matcher
from tfdense.mixture import LaplaceMixture
from tfdense.models import build, load
from tfdense.networks import newest_saved_model
from tfdense.ops import correlation

_SIZES = [
    # source, target, working size: (height, width)
    ((60, 80), (60, 80), (60, 80)),
    ((50, 70), (120, 90), (48, 64)),
    ((300, 200), (40, 30), (64, 64)),
    ((90, 400), (333, 111), (96, 32)),
]


class KnownMatch:
    """A backend that knows the true places, a function of the target's pixels."""

    def __init__(self, source, target, working, places, log_variance=(0.0, 2.0), logits=(1.0, 0.0)):
        self.mixture = LaplaceMixture(maximum_variance=1e4)
        self.working_size = lambda height, width: working
        self.seen = None
        x, y = np.meshgrid(np.arange(working[1]), np.arange(working[0]))
        x_target = (x + 0.5) / working[1] * target[1] - 0.5
        y_target = (y + 0.5) / working[0] * target[0] - 0.5
        x_source, y_source = places(x_target, y_target)
        dx = (x_source + 0.5) / source[1] * working[1] - 0.5 - x
        dy = (y_source + 0.5) / source[0] * working[0] - 0.5 - y
        self.answer = {
            "flow": np.stack([dx, dy], axis=-1).astype(np.float32),
            "log_variance": np.full((*working, 2), log_variance, np.float32),
            "logits": np.full((*working, 2), logits, np.float32),
        }

    def run(self, source, target):
        self.seen = source, target
        return self.answer


def _image(height, width, seed=0):
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 8 + 2, width // 8 + 2, 3))
    return cv2.resize(noise.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(("source", "target", "working"), _SIZES)
def test_homography_comes_back_in_the_sources_pixels(source, target, working):
    corners = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]])
    moved = np.float32([[0.1, 0.05], [0.93, 0.1], [0.9, 0.95], [0.03, 0.88]])
    homography = cv2.getPerspectiveTransform(
        corners * np.float32(target[::-1]), moved * np.float32(source[::-1])
    )

    def places(x, y):
        z = homography[2, 0] * x + homography[2, 1] * y + homography[2, 2]
        return (
            (homography[0, 0] * x + homography[0, 1] * y + homography[0, 2]) / z,
            (homography[1, 0] * x + homography[1, 1] * y + homography[1, 2]) / z,
        )

    backend = KnownMatch(source, target, working, places)
    match = Matcher(backend).match(_image(*source), _image(*target))

    x, y = np.meshgrid(np.arange(target[1]), np.arange(target[0]))
    expected = np.stack(places(x, y), axis=-1) - np.stack([x, y], axis=-1)
    error = np.abs(match.flow - expected)
    # Beyond the centres of the outermost working pixels there is nothing to interpolate.
    rows, columns = (-(-own // (2 * work)) for own, work in zip(target, working, strict=True))
    assert error[rows : target[0] - rows, columns : target[1] - columns].max() < 0.05
    assert match.flow.dtype == match.confidence.dtype == match.log_variance.dtype == np.float32
    assert [image.shape[:2] for image in backend.seen] == [working, working]


@pytest.mark.parametrize(("source", "target", "working"), _SIZES)
def test_shift_is_exact_to_the_border(source, target, working):
    stretch = np.array(source[::-1]) / target[::-1]

    def places(x, y):
        return (x + 0.5) * stretch[0] - 0.5 + 3, (y + 0.5) * stretch[1] - 0.5 - 2.25

    backend = KnownMatch(source, target, working, places)
    match = Matcher(backend).match(_image(*source), _image(*target))
    x, y = np.meshgrid(np.arange(target[1]), np.arange(target[0]))
    np.testing.assert_allclose(match.positions(), np.stack(places(x, y), -1), atol=1e-3)


def test_warp_of_a_pure_enlargement_is_opencvs_resize():
    source, target = (40, 56), (130, 100)

    def places(x, y):
        return (x + 0.5) * source[1] / target[1] - 0.5, (y + 0.5) * source[0] / target[0] - 0.5

    image = _image(*source)
    match = Matcher(KnownMatch(source, target, (32, 64), places)).match(image, _image(*target))
    expected = cv2.resize(image, target[::-1], interpolation=cv2.INTER_LINEAR).astype(int)
    inside = (slice(4, -4), slice(4, -4))
    # remap rounds places to 1/32 px.
    assert np.abs(match.warp()[inside] - expected[inside]).max() <= 4
    assert match.warp().dtype == np.uint8


def test_warp_is_black_where_the_match_leaves_the_source():
    size = (40, 60)
    backend = KnownMatch(size, size, size, lambda x, y: (x + 20, y))
    match = Matcher(backend).match(np.full((*size, 3), 200, np.uint8), _image(*size))
    assert (match.warp()[:, :40] == 200).all()
    assert (match.warp()[:, 40:] == 0).all()


def test_photos_are_shrunk_without_aliasing_along_each_axis():
    stripes = np.zeros((256, 32, 3), np.uint8)
    stripes[::2] = 255
    backend = KnownMatch((256, 32), (256, 32), (32, 64), lambda x, y: (x, y))
    Matcher(backend).match(stripes, stripes.astype(np.float32))
    for seen in backend.seen:
        assert seen.dtype == np.uint8
        assert np.abs(seen.astype(int) - 127).max() <= 2


def test_confidence_has_its_radius_in_pixels_of_the_source():
    source, target, working = (300, 80), (50, 50), (100, 40)
    backend = KnownMatch(source, target, working, lambda x, y: (x, y), (0.0, 3.0), (0.4, -0.3))
    matcher = Matcher(backend)
    weights = np.exp([0.4, -0.3]) / np.exp([0.4, -0.3]).sum()
    # The source has 2 px to a working pixel in x, and 3 in y.
    deviation = np.exp(np.array([0.0, 3.0]) / 2)
    for radius in (1.0, 2.5):
        x = 1 - np.exp(-np.sqrt(2) * radius / (2 * deviation))
        y = 1 - np.exp(-np.sqrt(2) * radius / (3 * deviation))
        match = matcher.match(_image(*source), _image(*target), radius)
        np.testing.assert_allclose(match.confidence, (weights * x * y).sum(), rtol=1e-5)
        assert match.radius == radius
    np.testing.assert_allclose(
        match.log_variance[0, 0], np.array([0.0, 3.0]) + np.log(6), rtol=1e-6
    )
    np.testing.assert_allclose(match.variance, (weights * deviation**2).sum() * 6, rtol=1e-5)


@pytest.mark.parametrize("radius", ["", "1", b"2", object(), [1, 2], np.ones(1), 1j, np.inf, -1])
def test_what_is_no_radius_is_refused(radius, shifts):
    image = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(InputError, match=r"Expected a (positive|finite) radius\. Received: "):
        Matcher(shifts()).match(image, image, radius)


def test_no_radius_means_one_pixel_of_what_the_network_sees():
    small, large = (40, 40), (160, 250)
    for source, expected in ((small, 1.0), (large, 5.0)):
        backend = KnownMatch(source, small, small, lambda x, y: (x, y))
        match = Matcher(backend).match(_image(*source), _image(*small))
        assert match.radius == pytest.approx(expected)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (480, 640)),
        ((3000, 4000), (480, 640)),
        ((4000, 1000), (640, 160)),
        ((100, 130), (96, 128)),
        ((16, 5000), (32, 640)),
        ((20, 20), (32, 32)),
    ],
)
def test_working_size_follows_the_target(size, expected):
    assert TargetSize(max_side=650, stride=16, minimum=32)(*size) == expected


def test_a_working_size_below_the_networks_is_refused():
    with pytest.raises(InputError, match=r"at least 32.*Received: 31"):
        TargetSize(max_side=31, stride=16, minimum=32)


def test_a_working_size_may_be_without_bounds():
    assert TargetSize(max_side=10**400, stride=16, minimum=32)(480, 650) == (480, 656)


def test_all_sizes_share_one_trace():
    class Still:
        mixture, stride, minimum_size, traces = LaplaceMixture(maximum_variance=1e4), 4, 4, 0

        def __call__(self, images):
            self.traces += 1
            zeros = tf.zeros_like(images["target"][..., :2])
            return {"flow": zeros, "log_variance": zeros, "logits": zeros, "levels": []}

    model = Still()
    matcher = Matcher(KerasBackend(model, 640))
    for size in ((16, 16), (24, 32), (48, 20)):
        assert matcher.match(_image(*size), _image(*size)).flow.shape[:2] == size
    assert model.traces == 1


def test_a_network_that_is_deleted_leaves_no_graph():
    class Correlates:
        mixture, stride, minimum_size = LaplaceMixture(maximum_variance=1e4), 4, 4

        def __call__(self, images):
            cells = correlation.local(images["target"], images["source"], 1)
            self.graph = weakref.ref(cells.graph)
            two = cells[..., :2]
            return {"flow": two, "log_variance": two, "logits": two, "levels": []}

    model = Correlates()
    matcher = Matcher(KerasBackend(model, 640))
    matcher.match(_image(16, 16), _image(16, 16))
    assert model.graph() is not None
    del matcher
    gc.collect()
    assert model.graph() is None


@pytest.mark.parametrize("radius", [0, -1.0, float("nan"), True, np.True_])
def test_radius_must_be_positive(radius):
    backend = KnownMatch((32, 32), (32, 32), (32, 32), lambda x, y: (x, y))
    with pytest.raises(InputError, match="positive radius"):
        Matcher(backend).match(_image(32, 32), _image(32, 32), radius)


def test_newest_version_of_a_saved_model_is_taken(tmp_path):
    for version in ("2", "10", "9", "old"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    (tmp_path / "11").mkdir()
    assert newest_saved_model(tmp_path) == tmp_path / "10"
    assert newest_saved_model(tmp_path / "9") == tmp_path / "9"
    assert newest_saved_model(tmp_path / "11") is None


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """The folder of a run that was never trained."""
    folder = tmp_path_factory.mktemp("run")
    tf.keras.utils.set_random_seed(0)
    config = Config(model=ModelConfig(options={"radius": 1}))
    save_config(folder / "config.yaml", config)
    build(config.model).save_weights(folder / "best.weights.h5")
    return folder


@pytest.fixture(scope="module")
def pair():
    """A photo-like source, and a target that shows part of it, moved."""
    source = _image(150, 180, seed=3)
    return source, source[17:145, 9:105].copy()


@pytest.fixture(scope="module")
def matchers(run_folder, tmp_path_factory):
    """The same network in each form."""
    folder = tmp_path_factory.mktemp("exported")
    export_saved_model(run_folder, folder / "served")
    export_tflite(run_folder, folder / "device.tflite", size=(128, 96))
    paths = {"Keras": run_folder, "SavedModel": folder / "served", "LiteRT": "device.tflite"}
    return {form: tfdense.load(folder / path) for form, path in paths.items()}


@pytest.fixture(scope="module")
def answer(matchers, pair):
    """What Keras answers to the pair."""
    return matchers["Keras"].match(*pair, radius=2.0)


def test_weights_file_is_the_network_of_its_run(run_folder, pair, answer):
    match = tfdense.load(str(run_folder / "best.weights.h5"), max_side=256).match(*pair, radius=2.0)
    np.testing.assert_array_equal(match.flow, answer.flow)
    np.testing.assert_array_equal(match.confidence, answer.confidence)
    assert 0 < match.confidence.min() <= match.confidence.max() < 0.9


@pytest.mark.parametrize("form", ["SavedModel", "LiteRT"])
def test_what_was_exported_answers_as_keras_does(matchers, pair, answer, form):
    _assert_same(matchers[form].match(*pair, radius=2.0), answer)


@pytest.mark.parametrize("form", ["Keras", "SavedModel", "LiteRT"])
def test_threads_share_a_matcher(matchers, pair, form):
    """Bit for bit, in whatever order the sizes come."""
    source, target = pair
    pairs = [
        (np.roll(source, 9 * i, axis=1), target[: 96 + 16 * (i % 3), : 64 + 16 * (i % 2)])
        for i in range(16)
    ]
    alone = [matchers[form].match(*pair).flow for pair in pairs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda pair: matchers[form].match(*pair).flow, reversed(pairs)))
    for flow, expected in zip(reversed(together), alone, strict=True):
        np.testing.assert_array_equal(flow, expected)


@pytest.mark.parametrize("form", ["Keras", "SavedModel", "LiteRT"])
def test_nothing_stays_of_a_deleted_matcher(matchers, pair, form):
    """Neither graphs nor new names of variables, both of which TensorFlow may keep for ever."""

    def kept():
        load, origin = matchers[form].__reduce__()
        matcher = load(*origin)
        matcher.match(*pair)
        del matcher
        gc.collect()
        objects = [x for x in gc.get_objects() if isinstance(x, (tf.Graph, tf.Operation))]
        return len(objects)

    first = kept()
    assert kept() <= first


def test_variables_of_networks_have_no_names_of_their_own(run_folder):
    """TensorFlow keeps something for each name that it meets; Keras numbers those of its layers."""
    names = [{x.value.name for x in load(run_folder)[0].variables} for _ in range(2)]
    assert names[0] == names[1]


@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.parametrize("form", ["Keras", "SavedModel"])
def test_a_forked_process_is_refused(matchers, pair, form):
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def match():
        try:
            answers.put(matchers[form].match(*pair).flow)
        except InputError as error:
            answers.put(str(error))

    matchers[form].match(*pair)
    child = context.Process(target=match, daemon=True)
    child.start()
    child.join(10)
    hangs = child.is_alive()
    child.kill()
    assert not hangs
    assert 'get_context("spawn")' in answers.get()


def test_a_pickle_holds_what_a_matcher_was_loaded_from(matchers, pair, answer):
    content = pickle.dumps(matchers["Keras"])
    assert len(content) < 1000
    np.testing.assert_array_equal(pickle.loads(content).match(*pair).flow, answer.flow)
    backend = KnownMatch((32, 32), (32, 32), (32, 32), lambda x, y: (x, y))
    with pytest.raises(InputError, match=r"Expected a matcher of tfdense\.load"):
        pickle.dumps(Matcher(backend))


def _assert_same(match, expected):
    assert match.flow.shape == expected.flow.shape == (128, 96, 2)
    assert np.abs(match.flow - expected.flow).max() < 0.01
    assert np.abs(match.confidence - expected.confidence).max() < 1e-4
    np.testing.assert_allclose(match.log_variance, expected.log_variance, atol=1e-3)
    np.testing.assert_allclose(match.logits, expected.logits, atol=1e-3)
    assert match.radius == expected.radius == 2.0
