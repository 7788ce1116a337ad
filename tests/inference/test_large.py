"""Large images by `Matcher`: in tiles to the pixel, in bounded memory, from every form."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

import tfdense
from tfdense import matcher as matchers
from tfdense.data.photos import bundled_pair
from tfdense.errors import InputError
from tfdense.exporting import export_saved_model, export_tflite
from tfdense.images import read_image
from tfdense.lite import LiteMatcher
from tfdense.matcher import Matcher
from tfdense.mixture import LaplaceMixture

_SIZE = (120, 160)
# From the target's pixels to the source's.
_HOMOGRAPHY = np.array([[1.02, 0.03, 9.0], [-0.02, 0.98, 14.0], [1e-5, -2e-5, 1]])


class OpticalFlow:
    """OpenCV's optical flow at one size, sure to a third of a pixel."""

    mixture = LaplaceMixture(maximum_variance=1e4)

    def __init__(self):
        self.runs = 0

    def working_size(self, height, width):
        return _SIZE

    def run(self, source, target):
        self.runs += 1
        estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flow = estimator.calc(
            *(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (target, source)), None
        )
        log_variance = np.broadcast_to(np.float32([-2, 6]), (*_SIZE, 2))
        return {"flow": flow, "log_variance": log_variance, "logits": log_variance[..., ::-1]}


def _warped(source, size):
    return cv2.warpPerspective(
        source, _HOMOGRAPHY, size[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )


def _true_places(size):
    grid = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), axis=-1).astype(float)
    return cv2.perspectiveTransform(grid.reshape(-1, 1, 2), _HOMOGRAPHY).reshape(*size, 2)


def _errors(match):
    """The distance from the true places, of those well inside of the source."""
    true = _true_places(match.target.shape[:2])
    inside = ((true > 8) & (true < np.array(match.source.shape[1::-1]) - 9)).all(axis=-1)
    return np.linalg.norm(match.positions() - true, axis=-1)[inside]


@pytest.fixture(scope="module")
def pair(texture):
    source = texture(500, 660).astype(np.uint8)
    return source, _warped(source, (480, 640))


def test_tiles_are_exact_to_the_targets_pixels(pair):
    backend = OpticalFlow()
    whole, tiled = (Matcher(backend).match(*pair, tiles=tiles) for tiles in (None, True))
    assert backend.runs == 2 + 25
    assert np.median(_errors(whole)) > 0.3
    assert np.median(_errors(tiled)) < 0.1 and _errors(tiled).mean() < _errors(whole).mean() / 3
    assert whole.radius > 4 and tiled.radius == pytest.approx(660 / 640 * 500 / 480, rel=0.05)


def test_no_seam_in_an_answer_with_texture(pair):
    """The flow changes over the borders of tiles by no more than elsewhere."""
    match = Matcher(OpticalFlow()).match(*pair, tiles=True)
    steps = np.abs(np.diff(match.positions() - _true_places((480, 640)), axis=1)).max(axis=-1)
    steps = steps[40:-40].mean(axis=0)
    # Five tiles of 160 px, every 120 px: they meet at 140, 260, 380 and 500.
    crossing = np.concatenate([steps[x - 10 : x + 10] for x in (140, 260, 380, 500)])
    assert crossing.max() < 3 * np.median(steps[40:-40])


def test_a_target_that_is_seen_in_its_own_pixels_needs_none(pair):
    backend = OpticalFlow()
    small = [image[:120, :165] for image in pair]
    Matcher(backend, tiles=True).match(*small)
    assert backend.runs == 1
    Matcher(backend, tiles=(1, 1)).match(*small)
    assert backend.runs == 3


def test_a_matcher_has_tiles_for_all_its_pairs(pair):
    expected = Matcher(OpticalFlow()).match(*pair, tiles=(2, 2), both_ways=True)
    matcher = Matcher(OpticalFlow(), tiles=(2, 2))
    (of_many,) = matcher.match_many([pair], both_ways=True)
    for match in (matcher.match(*pair, both_ways=True), of_many):
        np.testing.assert_array_equal(match.flow, expected.flow)
        np.testing.assert_array_equal(match.reverse.confidence, expected.reverse.confidence)
    whole = Matcher(OpticalFlow()).match(*pair)
    np.testing.assert_array_equal(matcher.match(*pair, tiles=False).flow, whole.flow)
    with pytest.raises(InputError, match="Expected tiles"):
        Matcher(OpticalFlow(), tiles=5)


def test_a_homography_has_no_tiles(pair):
    for use in ({"tiles": True}, {"tiles": (2, 2)}):
        with pytest.raises(InputError, match="Expected no tiles in mode plane"):
            Matcher(OpticalFlow(), "plane", **use)
        with pytest.raises(InputError, match="Expected no tiles in mode plane"):
            Matcher(OpticalFlow(), "plane").match(*pair, **use)
    Matcher(OpticalFlow(), "plane", tiles=False)


def test_masks(pair):
    mask = np.ones((480, 640), bool)
    mask[:, :200] = False
    hidden = pair[1].copy()
    hidden[:, :200] = 255
    matches = [
        Matcher(OpticalFlow(), tiles=True).match(pair[0], target, target_mask=mask)
        for target in (pair[1], hidden)
    ]
    np.testing.assert_array_equal(matches[0].flow, matches[1].flow)
    assert (matches[0].confidence[:, :200] == 0).all()
    assert np.median(_errors(matches[0])) < 0.1


def test_load_passes_tiles_on(monkeypatch):
    received = []
    monkeypatch.setattr(matchers, "load", lambda *use: received.append(use[5]))
    for tiles in (None, True, (2, 3)):
        tfdense.load("run", tiles=tiles)
    assert received == [False, True, (2, 3)]
    with pytest.raises(InputError, match="Expected tiles"):
        tfdense.load("run", tiles=(0, 1))


@pytest.mark.slow
def test_every_form_of_a_network(tmp_path):
    """A SavedModel, a .tflite file and the client of devices answer as Keras does."""
    export_saved_model("pdcnet-lite", tmp_path / "served")
    export_tflite("pdcnet-lite", tmp_path / "lite.tflite", size=(192, 256))
    source = cv2.resize(read_image(bundled_pair()[0]), (768, 576), interpolation=cv2.INTER_CUBIC)
    pair = source, _warped(source, (560, 740))
    loaded = [
        tfdense.load(name, max_side=256)
        for name in ("pdcnet-lite", tmp_path / "served", tmp_path / "lite.tflite")
    ]
    matches = [
        matcher.match(*pair, tiles=(2, 2))
        for matcher in (*loaded, LiteMatcher(tmp_path / "lite.tflite"))
    ]
    for match in matches:
        assert np.median(_errors(match)) < 0.5
    np.testing.assert_allclose(matches[1].flow, matches[0].flow, atol=0.05)
    np.testing.assert_allclose(matches[3].flow, matches[2].flow, atol=0.05)


_LARGE = """
import re
import cv2
import numpy as np
import tfdense

random = np.random.default_rng(0)
source = np.zeros((3000, 4000, 3), np.uint8)
for cell in (4, 16, 64):
    noise = random.integers(0, 85, (3000 // cell + 1, 4000 // cell + 1, 3), np.uint8)
    source += cv2.resize(noise, (4000, 3000), interpolation=cv2.INTER_LINEAR)
target = np.roll(source, (-37, -52), (0, 1))
match = tfdense.load("pdcnet-lite", tiles=True).match(source, target)
# Unlike its resource usage, this begins with the process itself, not with the one that started it.
peak = re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())
error = np.linalg.norm(match.flow - (52, 37), axis=-1)[:-60, :-60]
print(np.median(error), int(peak[1]) * 1024 / 1e9)
"""


@pytest.mark.slow
def test_twelve_megapixels_take_little_memory():
    """Both images, the answer and TensorFlow included, in less than 1.5 GB."""
    command = [sys.executable, "-c", _LARGE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    error, gigabytes = map(float, done.stdout.split())
    assert error < 0.3 and gigabytes < 1.5
