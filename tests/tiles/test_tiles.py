"""Tiles, with a stand-in for the network that reads its answer from the colours of the images."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.exporting import export_tflite
from tfdense.images import Photo
from tfdense.masking import UNKNOWN_LOG_VARIANCE
from tfdense.mixture import LaplaceMixture
from tfdense.numpy_mixture import NumpyMixture
from tfdense.resampling import resize_image
from tfdense.tiles.matching import match_tiles
from tfdense.tiles.spans import checked, read_tiles, spans

_SIZE = (48, 64)
_SOURCE, _TARGET = (250, 330), (180, 300)
# Of the target's (x, y, 1) in the source: turned and stretched.
_AFFINE = np.array([[0.9, 0.25], [-0.2, 1.1], [40.0, 10.0]])


def _grid(size):
    return np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), axis=-1).astype(float)


def _paint(places):
    """An image whose red and green say where in the source a pixel is from; blue, that it is."""
    colours = np.concatenate([places / 1.5 + 10, np.full((*places.shape[:2], 1), 255)], axis=-1)
    return np.rint(colours).clip(0, 255).astype(np.uint8)


def _true_places():
    grid = _grid(_TARGET)
    bumps = np.stack([np.sin(grid[..., 1] / 40), np.cos(grid[..., 0] / 50)], axis=-1)
    return grid @ _AFFINE[:2] + _AFFINE[2] + 4 * bumps


def _read(source, target, log_variance=-3.0):
    """Finds each colour of the target in the source, whose colours are linear in x and y."""
    grid, shown = _grid(_SIZE), source[..., 2] == 255
    terms = np.column_stack([source[shown][:, :2], np.ones(shown.sum())])
    to_pixel, *_ = np.linalg.lstsq(terms, grid[shown], rcond=None)
    flow = target[..., :2] @ to_pixel[:2] + to_pixel[2] - grid
    return _answer(flow, np.full((*_SIZE, 2), log_variance))


def _answer(flow, log_variance):
    logits = np.broadcast_to(np.float32([9, 0]), (*_SIZE, 2))
    return {"flow": np.float32(flow), "log_variance": np.float32(log_variance), "logits": logits}


@pytest.fixture(scope="module")
def images():
    return Photo(_paint(_grid(_SOURCE))), Photo(_paint(_true_places()))


@pytest.fixture(scope="module")
def coarse(images):
    """What is seen of the whole images, and misses by up to two of its pixels."""
    answer = _read(*(resize_image(image.pixels, _SIZE) for image in images), log_variance=1.0)
    wrong = np.random.default_rng(0).uniform(-2, 2, answer["flow"].shape)
    return {**answer, "flow": np.float32(answer["flow"] + wrong)}


def _match(images, coarse, tiles, radius=None, run=_read):
    mixture = NumpyMixture("LaplaceMixture")
    return match_tiles(run, coarse, mixture, *images, images, radius, tiles)


def _errors(match):
    return np.linalg.norm(match.positions() - _true_places(), axis=-1)


@pytest.mark.parametrize("tiles", [True, (3, 4)])
def test_tiles_are_as_exact_as_what_they_show(images, coarse, tiles):
    errors = _errors(_match(images, coarse, tiles))
    assert np.median(errors) < 0.7 and errors.max() < 3
    assert np.median(_errors(_match(images, coarse, (1, 1)))) < np.median(errors) + 0.5


def test_the_coarse_answer_stays_where_a_tile_knows_nothing(images, coarse):
    def unsure(source, target):
        return _read(source, target, log_variance=9.0)

    match = _match(images, coarse, (2, 2), radius=3.0, run=unsure)
    errors = _errors(match)
    assert 3 < np.median(errors) < 10
    scale = np.array([330 / 64, 250 / 48])
    np.testing.assert_allclose(match.log_variance, 1 + np.log(scale.prod()), atol=2e-3)
    mixture = LaplaceMixture(maximum_variance=1e4)
    expected = mixture.confidence([1.0, 1.0], [9.0, 0.0], 3 / scale)
    np.testing.assert_allclose(match.confidence, expected, rtol=1e-5)


def test_without_a_coarse_match_no_tile_is_run(images, coarse):
    lost = {**coarse, "log_variance": np.full((*_SIZE, 2), 12, np.float32)}
    match = _match(images, lost, True, run=None)
    assert match.flow.shape == (*_TARGET, 2) and np.isfinite(match.flow).all()


def test_distribution_and_radius_are_in_px_of_the_source(images, coarse):
    match = _match(images, coarse, True)
    # A tile shows the target's own pixels; the map stretches them to sqrt(det) of the source's.
    stretch = np.sqrt(np.linalg.det(_AFFINE[:2]))
    assert np.median(np.abs(match.log_variance - (-3 + 2 * np.log(stretch)))) < 0.1
    assert match.radius == pytest.approx(np.sqrt(330 / 300 * 250 / 180))
    assert match.log_variance.dtype == np.float16 and match.variance.dtype == np.float32
    assert _match(images, coarse, True, radius=7.0).radius == 7.0
    mixture = LaplaceMixture(maximum_variance=1e4)
    expected = mixture.confidence([-3.0, -3.0], [9.0, 0.0], match.radius / stretch)
    assert np.median(match.confidence) == pytest.approx(float(expected), abs=0.01)


def test_masks(images, coarse):
    masks = [np.ones(photo.pixels.shape[:2], bool) for photo in images]
    masks[1][:, 200:] = False
    photos = [Photo(photo.pixels, mask) for photo, mask in zip(images, masks, strict=True)]
    mixture = NumpyMixture("LaplaceMixture")
    match = match_tiles(_read, coarse, mixture, *photos, images, None, True)
    assert (match.confidence[:, 200:] == 0).all() and (match.confidence[:, :200] > 0).all()
    assert (match.log_variance[:, 200:] == np.float16(UNKNOWN_LOG_VARIANCE)).all()


@pytest.mark.parametrize(
    ("length", "seen", "count"), [(4000, 256, None), (257, 256, None), (90, 256, None), (90, 48, 4)]
)
def test_spans_cover_an_axis_once(length, seen, count):
    parts = spans(length, seen, count)
    assert len(parts) == (count or len(parts))
    shares = np.zeros(length)
    for span in parts:
        shares[span.own] += span.window
        assert (np.abs(np.diff(span.window)) <= 0.5 / (span.length // 16) + 1e-6).all()
    np.testing.assert_allclose(shares, 1, atol=1e-6)
    for span in parts:
        assert span.seen.start >= 0 and span.seen.stop <= length
        assert span.seen.start <= span.own.start < span.own.stop <= span.seen.stop
        if count is None:
            assert span.length == min(seen, length)
    for first, second in itertools.pairwise(parts):
        assert first.seen.stop - second.seen.start >= 0.24 * first.length - 1


def test_tiles_are_numbers_all_or_none():
    assert [checked(tiles) for tiles in (None, False, True, [2, 3.0])] == [
        False,
        False,
        True,
        (2, 3),
    ]
    assert [read_tiles(text) for text in ("auto", "none", "2x3", "100x1")] == [
        True,
        False,
        (2, 3),
        (100, 1),
    ]


@pytest.mark.parametrize(
    "tiles",
    [
        *(3, "2x2", "22", (), {"a": 2}, [[2, 2], [2, 2]], np.ones((2, 2))),
        *((0, 2), (2, 2.5), (1, 2, 3), (2, 0, 3), (0, 2, 3), (True, 2)),
        *((np.inf, 2), (np.nan, 2), (2, 101), (10**9, 10**9)),
    ],
    ids=str,
)
def test_refuses(tiles):
    expected = r"Expected tiles to be True, False or .* from 1 to 100\. Received: "
    with pytest.raises(InputError, match=expected) as refusal:
        checked(tiles)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("2", "0x3", "2x3x4", "-1x2", "2 x 3", "", "2by3", "2x3x"),
        *("101x2", "1000000x1000000", f"{'1' * 5000}x2"),
    ],
    ids=lambda text: text[:20],
)
def test_refuses_words(text):
    with pytest.raises(InputError, match="Expected tiles of auto, none, or"):
        read_tiles(text)


def test_no_seam_is_seen_where_tiles_disagree(images):
    """Each is sure of another shift, of up to two pixels of the target."""
    grid, scale = _grid(_SIZE), np.array([300 / 64, 180 / 48])
    pixels = (grid + 0.5) * scale - 0.5
    places = pixels @ _AFFINE[:2] + _AFFINE[2]
    flow = (places + 0.5) / np.array([330 / 64, 250 / 48]) - 0.5 - grid
    coarse = _answer(flow, np.full((*_SIZE, 2), 1.0))
    shifts = np.random.default_rng(0).uniform(-2, 2, (1000, 2))
    number = itertools.count()

    def shifted(source, target):
        return _answer(np.full((*_SIZE, 2), shifts[next(number)]), np.full((*_SIZE, 2), -3.0))

    match = _match(images, coarse, True, run=shifted)
    assert next(number) == 5 * 6
    off = (match.positions() - _AFFINE[2]) @ np.linalg.inv(_AFFINE[:2]) - _grid(_TARGET)
    assert np.abs(off).max() < 2.01 and np.ptp(off) > 3
    # One gives way to the next within an eighth of a tile: six rows, eight columns.
    assert np.abs(np.diff(off, axis=0)).max() < 4 / 6 * 1.05
    assert np.abs(np.diff(off, axis=1)).max() < 4 / 8 * 1.05
    inside = match.confidence[2:-2, 2:-2]
    np.testing.assert_allclose(inside, inside[0, 0], atol=1e-4)


_LARGE = """
import re, sys
import numpy as np
from tfdense.lite import LiteMatcher

matcher = LiteMatcher(sys.argv[1], threads=1)
rows, columns = np.arange(3000, dtype=np.uint8)[:, None], np.arange(4000, dtype=np.uint8)
source, target = np.empty((2, 3000, 4000, 3), np.uint8)
source[..., 0], source[..., 1], source[..., 2] = rows, columns, rows ^ columns
target[:, :-40], target[:, -40:] = source[:, 40:], 0
match = matcher.match(source, target, tiles=(3, 4))
# Unlike its resource usage, this begins with the process itself, not with the one that started it.
peak = re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())
print(match.flow.shape, int(peak[1]) * 1024 / 1e6)
"""


@pytest.mark.slow
def test_large_images_take_little_memory(tmp_path):
    """Twelve megapixels, both images and the answer included, in less than 500 MB."""
    report = export_tflite("pdcnet-lite", tmp_path / "model.tflite", precision="float16")
    command = [sys.executable, "-c", _LARGE, str(report.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shape, _, megabytes = done.stdout.rpartition(" ")
    assert shape == "(3000, 4000, 2)" and float(megabytes) < 500
