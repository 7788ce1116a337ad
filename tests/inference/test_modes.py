"""The modes of matching: their parts against the original's numbers, and what they gain."""

from typing import get_args

import cv2
import numpy as np
import pytest

import tfdense
from tfdense.cli import main
from tfdense.errors import InputError
from tfdense.inference import fitting
from tfdense.inference.backends import TargetSize
from tfdense.inference.fitting import find_affine_map, find_homography
from tfdense.inference.looks import compose
from tfdense.inference.modes import MODES, PLAIN, Mode, Plan
from tfdense.matcher import Matcher
from tfdense.mixture import LaplaceMixture
from tfdense.two_view.estimation import map_points

_SIZE = (160, 208)


class OpticalFlow:
    """A backend that only finds small changes: OpenCV's optical flow.

    Where the flows from and to the source disagree it is not confident.
    """

    def __init__(self):
        self.mixture = LaplaceMixture(maximum_variance=1e4)
        self.working_size = lambda height, width: _SIZE
        self.seen = []

    def run(self, source, target):
        self.seen.append((source, target))
        source, target = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (source, target))
        estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flow, back = estimator.calc(target, source, None), estimator.calc(source, target, None)
        there = _grid(_SIZE).astype(np.float32) + flow
        error = np.linalg.norm(flow + cv2.remap(back, there, None, cv2.INTER_LINEAR), axis=-1)
        logits = np.stack([4 - 4 * error**2, np.zeros_like(error)], axis=-1)
        log_variance = np.broadcast_to(np.float32([0, 9]), logits.shape)
        return {"flow": flow, "log_variance": log_variance, "logits": logits}


def _grid(size):
    return np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), axis=-1)


def _texture(height, width):
    """Noise of three scales, as large as the image."""
    random = np.random.default_rng(0)
    image = np.zeros((height, width, 3))
    for cell in (4, 12, 32):
        noise = random.normal(size=(_SIZE[0] // cell, _SIZE[1] // cell, 3))
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 40 * image, 0, 255).astype(np.uint8)


def _around_the_centre(size, angle=0.0, scale=1.0, perspective=0.0):
    """Returns a homography that turns and scales about the centre of an image."""
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    there = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])
    cos, sin = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [perspective, -perspective, 1]])
    homography = np.linalg.inv(there) @ turn @ there
    return homography / homography[2, 2]


def _error(match, homography):
    """Returns the distance from the true places, NaN where these are outside of the source."""
    grid = _grid(match.target.shape)
    true = map_points(np.linalg.inv(homography), grid)[0]
    error = np.linalg.norm(grid + match.flow - true, axis=-1)
    inside = ((true >= 2) & (true <= np.array(match.source.shape[1::-1]) - 3)).all(axis=-1)
    return np.where(inside, error, np.nan)


def _pair(source_size, target_size, **change):
    """Returns source, target and the homography between them, given at the working size."""
    homography = _around_the_centre(_SIZE, **change)
    source = _texture(*source_size)
    homography = np.linalg.inv(_scaling(target_size)) @ homography @ _scaling(source_size)
    return source, cv2.warpPerspective(source, homography, target_size[::-1]), homography


def _scaling(size):
    """Returns the matrix from the pixels of a size to those of the working size."""
    x, y = _SIZE[1] / size[1], _SIZE[0] / size[0]
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])


def _at_one_scale(*pair):
    """Matches by a homography that is sought as the images are; also returns what was seen."""
    with pytest.MonkeyPatch.context() as patch:
        (search,) = MODES["multiscale"].searches
        search = search._replace(views=(PLAIN,))
        patch.setitem(MODES, "multiscale", Plan((search,)))
        backend = OpticalFlow()
        return Matcher(backend, "multiscale").match(*pair), backend.seen


@pytest.mark.parametrize(
    ("source_size", "target_size"), [(_SIZE, _SIZE), ((200, 290), _SIZE), (_SIZE, (240, 312))]
)
def test_a_homography_leads_to_what_a_direct_run_does_not_find(source_size, target_size):
    source, target, homography = _pair(
        source_size, target_size, angle=24, scale=1.1, perspective=4e-4
    )
    direct = Matcher(OpticalFlow()).match(source, target)
    match, seen = _at_one_scale(source, target)
    assert np.nanmedian(_error(direct, homography)) > 10
    error = _error(match, homography)
    assert np.nanmedian(error) < 0.2
    assert np.nanmean(error > 1) < 0.03
    # It is confident of what it found.
    assert np.median(match.confidence[error < 1]) > 0.3
    # The second time the network saw the source as the target.
    assert len(seen) == 2
    inside = (slice(40, -40), slice(40, -40))
    before, after = (
        np.abs(source[inside].astype(int) - target[inside]).mean() for source, target in seen
    )
    assert after < 0.3 * before


@pytest.mark.parametrize("mode", ["multiscale", "wide-baseline"])
def test_homographies_are_sought_without_the_level_at_full_resolution(mode):
    source, target, _ = _pair(_SIZE, _SIZE, angle=24, scale=1.1)
    backend = OpticalFlow()
    backend.coarse = OpticalFlow()
    match = Matcher(backend, mode).match(source, target)
    expected = Matcher(OpticalFlow(), mode).match(source, target)
    np.testing.assert_array_equal(match.flow, expected.flow)
    # Once on the images, once on the source warped.
    assert len(backend.seen) == 2 and backend.coarse.seen
    mask = np.ones(_SIZE, bool)
    mask[:8] = False
    Matcher(backend, mode).match(source, target, source_mask=mask)
    assert len(backend.seen) == 4


@pytest.mark.parametrize("closer", ["source", "target"])
def test_multiscale_mode_finds_what_one_scale_does_not(closer):
    # About the corner: what is shrunk towards it is where the optical flow can find it.
    zoom = np.vstack([cv2.getRotationMatrix2D((0, 0), 3, 2), [0, 0, 1]])
    far = _texture(*_SIZE)
    near = cv2.warpPerspective(far, zoom, _SIZE[::-1])
    pair = (far, near) if closer == "target" else (near, far)
    homography = zoom if closer == "target" else np.linalg.inv(zoom)
    matches = _at_one_scale(*pair)[0], Matcher(OpticalFlow(), "multiscale").match(*pair)
    errors = [_error(match, homography) for match in matches]
    one, several = (np.mean(error[np.isfinite(error)] < 1) for error in errors)
    assert one < 0.1
    assert several > 0.9


@pytest.mark.parametrize("mode", ["wide-baseline", "plane"])
@pytest.mark.parametrize(
    ("angle", "scale"), [(0, 0.9), (80, 0.9), (180, 1.1), (265, 0.9), (3, 2.8), (93, 0.5)]
)
def test_wide_baselines_are_found_that_one_look_does_not_find(angle, scale, mode):
    source, target, homography = _pair(_SIZE, _SIZE, angle=angle, scale=scale)
    backend = OpticalFlow()
    error = _error(Matcher(backend, mode).match(source, target), homography)
    assert np.nanmedian(error) < 0.3
    assert np.nanmean(error > 2) < 0.05
    # A first look, here as large as the eleven further small ones, one from the best of these, five
    # at full size if that is still not confident, twice three refinements.
    assert 13 <= len(backend.seen) <= 24
    other = _error(_at_one_scale(source, target)[0], homography)
    assert (np.nanmedian(other) > 10) == bool(angle)


# How much larger the target shows things; the last one shows the source on 52x40 pixels.
@pytest.mark.parametrize(("scale", "accuracy"), [(1 / 1.6, 0.3), (2, 0.3), (1 / 4, 2)])
def test_scales_beside_those_of_the_small_views_are_found_at_full_size(
    scale, accuracy, monkeypatch
):
    source, target, homography = _pair(_SIZE, _SIZE, angle=10, scale=scale, perspective=3e-4)
    found = Matcher(OpticalFlow(), "wide-baseline").match(source, target)
    assert np.nanmedian(_error(found, homography)) < accuracy
    plan = MODES["wide-baseline"]
    monkeypatch.setitem(MODES, "wide-baseline", plan._replace(searches=plan.searches[:1]))
    missed = Matcher(OpticalFlow(), "wide-baseline").match(source, target)
    assert np.nanmedian(_error(missed, homography)) > 10


def test_a_few_matches_are_enough_for_an_affine_map(monkeypatch):
    """Where the views find nothing and the first look sees a small part of the image only."""
    source, target, homography = _pair(_SIZE, _SIZE, angle=50, scale=1.2)
    flow = map_points(np.linalg.inv(homography), _grid(_SIZE))[0] - _grid(_SIZE)
    logits = np.full((*_SIZE, 2), (-9, 0))
    unseen = Constant(flow, logits.copy())
    # Of each fourth pixel 8 by 12: enough for an affine map, too few for a homography.
    logits[60:92, 80:128] = (4, 0)
    first = Constant(flow, logits)
    views = sum(len(search.views) for search in MODES["wide-baseline"].searches)

    def match():
        later = OpticalFlow()
        looks = iter([first, *[unseen] * (views - 1)])  # The first look is the plain view.
        backend = Constant(flow, logits)
        backend.run = lambda *images: next(looks, later).run(*images)
        return Matcher(backend, "wide-baseline").match(source, target)

    found = match()
    assert np.nanmedian(_error(found, homography)) < 0.3
    assert found.confidence.mean() > 0.3
    monkeypatch.setattr(fitting, "find_affine_map", lambda *_: None)
    assert match().confidence.mean() < 0.05


def test_a_refinement_that_makes_less_confident_is_left():
    """Of a network that a second look makes unsure, the first look counts."""
    backend = Constant(np.zeros((*_SIZE, 2)), (4, 0))
    unsure = {**backend.answer, "logits": backend.answer["logits"] - np.float32([5, 0])}
    image = _texture(*_SIZE)

    def run(source, target):
        backend.seen.append((source, target))
        return backend.answer if len(backend.seen) == 1 else unsure

    backend.run = run
    match = Matcher(backend, "wide-baseline").match(image, image)
    np.testing.assert_array_equal(match.logits, backend.answer["logits"])


def test_wide_baselines_are_sought_at_a_small_size():
    size = (480, 960)
    backend = Constant(np.zeros((*size, 2)), (4, 0))
    backend.working_size = TargetSize(960, 32, 32)
    answers = {(192, 416): 0, size: 0}

    def run(source, target):
        answers[source.shape[:2]] += 1
        shape = (*source.shape[:2], 2)
        return {name: np.zeros(shape, np.float32) for name in ("flow", "log_variance", "logits")}

    backend.run = run
    image = np.zeros((*size, 3), np.uint8)
    Matcher(backend, "wide-baseline").match(image, image)
    assert answers[192, 416] == 12


def test_one_image_is_shrunk_within_its_frame():
    source, target = _texture(*_SIZE), _texture(*_SIZE)[::-1].copy()
    backend = Constant(np.zeros((*_SIZE, 2)), (-9, 0))
    Matcher(backend, "multiscale").match(source, target)
    assert len(backend.seen) == 7
    for ratio, seen in zip((1, 0.5, 0.6, 0.88, 1.33, 1.66, 2), backend.seen, strict=True):
        for image, own, shrunk in zip(
            (source, target), seen, (min(1, 1 / ratio), min(1, ratio)), strict=True
        ):
            height, width = int(shrunk * _SIZE[0]), int(shrunk * _SIZE[1])
            assert own.shape == image.shape
            assert (own[height:] == 0).all() and (own[:, width:] == 0).all()
            corner = own[: height - 1, : width - 1].astype(int)
            x, y = np.float32(
                np.meshgrid(
                    np.arange(width - 1) * _SIZE[1] / width,
                    np.arange(height - 1) * _SIZE[0] / height,
                )
            )
            assert np.abs(corner - cv2.remap(image, x, y, cv2.INTER_LINEAR)).max() <= 12


def test_where_the_warped_source_ends_the_first_match_stays():
    source, target, _ = _pair(_SIZE, _SIZE, angle=24)
    direct = Matcher(OpticalFlow()).match(source, target)
    match, _ = _at_one_scale(source, target)
    # The upper left of the target is turned out of the source.
    for name in ("flow", "log_variance", "logits", "confidence"):
        corner, expected = getattr(match, name)[:8, :8], getattr(direct, name)[:8, :8]
        np.testing.assert_array_equal(corner, expected)
    assert (match.flow[70:90, 90:110] != direct.flow[70:90, 90:110]).all()


class Constant:
    """A backend with one answer to all."""

    def __init__(self, flow, logits):
        self.mixture = LaplaceMixture(maximum_variance=1e4)
        self.working_size = lambda height, width: _SIZE
        self.seen = []
        self.answer = {
            "flow": flow.astype(np.float32),
            "log_variance": np.broadcast_to(np.float32([0, 9]), flow.shape),
            "logits": np.broadcast_to(np.float32(logits), flow.shape),
        }

    def run(self, source, target):
        self.seen.append((source, target))
        return self.answer


@pytest.mark.parametrize(
    ("mode", "runs"), [("multiscale", 7), ("wide-baseline", 12), ("plane", 12)]
)
@pytest.mark.parametrize(
    ("flow", "logits"),
    [
        # Mirrored; sure of nothing.
        (np.array([_SIZE[1] - 1, 0]) - _grid(_SIZE) * [2, 0], (4, 0)),
        (np.zeros((*_SIZE, 2)), (-9, 0)),
    ],
)
def test_without_a_homography_the_direct_match_is_returned(flow, logits, mode, runs):
    image = _texture(*_SIZE)
    backend = Constant(flow, logits)
    match = Matcher(backend, mode).match(image, image)
    np.testing.assert_array_equal(match.flow, backend.answer["flow"])
    np.testing.assert_array_equal(match.logits, backend.answer["logits"])
    # Wide baselines are sought at full size too as long as the network is sure of nothing.
    assert len(backend.seen) == runs + 4 * (runs == 12 and logits[0] < 0)


# A homography is sought at each fourth pixel: 69, 72, 200, 204 matches.
@pytest.mark.parametrize(
    ("rows", "columns", "runs", "found"),
    [(12, 92, 7, False), (12, 96, 8, False), (16, 200, 8, False), (16, 204, 8, True)],
)
def test_more_than_200_matches_are_needed_or_70_of_a_scale(rows, columns, runs, found):
    logits = np.full((*_SIZE, 2), (-9, 0))
    logits[:rows, :columns] = (4, 0)
    backend = Constant(np.zeros((*_SIZE, 2)), logits)
    Matcher(backend, "multiscale").match(_texture(*_SIZE), _texture(*_SIZE))
    assert len(backend.seen) == runs
    assert (find_homography(backend.mixture, backend.answer) is not None) == found


def test_variance_of_the_second_match_is_brought_to_the_sources_pixels():
    still = np.zeros((*_SIZE, 2), np.float32)
    outputs = {"flow": still, "log_variance": still + np.float32([0, 5]), "logits": still}
    homography = _around_the_centre(_SIZE, scale=2, perspective=1e-3)
    joined = compose(outputs, outputs, homography)
    # A pixel of the warped source covers this area of the source, by differences.
    grid = _grid(_SIZE)
    inverse = np.linalg.inv(homography)
    along = [
        map_points(inverse, grid + step)[0] - map_points(inverse, grid - step)[0]
        for step in (np.array([0.5, 0]), np.array([0, 0.5]))
    ]
    area = along[0][..., 0] * along[1][..., 1] - along[0][..., 1] * along[1][..., 0]
    inside = (slice(30, -30), slice(30, -30))
    np.testing.assert_allclose(
        joined["log_variance"][inside],
        (np.float32([0, 5]) + np.log(area)[..., None])[inside],
        atol=1e-3,
    )


def test_what_lies_behind_the_horizon_is_left_to_the_first_match():
    still = np.zeros((*_SIZE, 2), np.float32)
    first = {"flow": still, "log_variance": still, "logits": still}
    second = {**first, "logits": still + 1}
    # From x = 100 on the denominator is not positive; some of these places are inside even so.
    inverse = np.array([[-1, 0, 150], [0, 1, -60], [-0.01, 0, 1]])
    joined = compose(first, second, np.linalg.inv(inverse))
    np.testing.assert_allclose(joined["flow"][100, 20], [130 / 0.8 - 20, 40 / 0.8 - 100], rtol=1e-5)
    assert (joined["logits"][100, 20] == 1).all()
    assert (joined["logits"][:, 100:] == 0).all()
    assert all(np.isfinite(values).all() for values in joined.values())


def test_an_affine_map_is_found_among_wrong_matches():
    affine = np.array([[1.1, -0.2, 7], [0.15, 0.8, -4], [0, 0, 1]])
    flow = map_points(np.linalg.inv(affine), _grid(_SIZE))[0] - _grid(_SIZE)
    flow[:20] += np.random.default_rng(0).uniform(10, 60, size=(20, _SIZE[1], 2))
    logits = np.full((*_SIZE, 2), (-9, 0))
    logits[:60, :80] = (4, 0)
    backend = Constant(flow, logits)
    found = find_affine_map(backend.mixture, backend.answer, 200)
    np.testing.assert_allclose(
        map_points(found, _grid(_SIZE))[0], map_points(affine, _grid(_SIZE))[0], atol=0.1
    )
    # Of 15 by 20 matches more than 300 are none; and a mirror image is no view.
    assert find_affine_map(backend.mixture, backend.answer, 300) is None
    mirrored = Constant(np.array([_SIZE[1] - 1, 0]) - _grid(_SIZE) * [2, 0], logits)
    assert find_affine_map(mirrored.mixture, mirrored.answer, 200) is None


def test_unknown_mode_is_refused():
    with pytest.raises(InputError, match=r"direct, multiscale.*Received: 'best'"):
        Matcher(OpticalFlow(), "best")
    assert tuple(MODES) == get_args(Mode)


def test_a_former_mode_is_refused_with_what_to_take(capsys):
    with pytest.raises(InputError, match="There is no mode homography any more"):
        Matcher(OpticalFlow(), "homography")
    with pytest.raises(InputError, match="Take wide-baseline"):
        tfdense.load("pdcnet-lite", mode="homography")
    with pytest.raises(SystemExit):
        main(["match", "a.jpg", "b.jpg", "--mode", "homography"])
    assert "Take wide-baseline" in capsys.readouterr().err


@pytest.mark.reference
@pytest.mark.parametrize("variant", ["H", "MS"])
def test_composition_is_the_originals(reference, variant):
    arrays = np.load(reference / "ops" / "homography_compose.npz")
    full, size = arrays["size_image"][::-1], arrays["size_out"][::-1]
    inverse = np.linalg.inv(arrays["H"])
    places = map_points(inverse, _grid(full[::-1]))[0]
    np.testing.assert_allclose(places, _last(arrays["mapping_full"]), atol=1e-4)

    # The original resizes the places with half-pixel centres, and their values by the ratio of
    # the sizes (MS) or of the outermost centres (H). That too is a homography.
    ratio = full / size
    values = 1 / ratio if variant == "MS" else (size - 1) / (full - 1)
    shift = (ratio - 1) / 2
    resize = np.array([[ratio[0], 0, shift[0]], [0, ratio[1], shift[1]], [0, 0, 1]])
    homography = np.linalg.inv(np.diag([*values, 1]) @ inverse @ resize)
    zeros = np.zeros((*size[::-1], 2))
    first, second = (
        {"flow": _last(arrays[name]), "log_variance": zeros, "logits": zeros + mark}
        for mark, name in enumerate(("flow_first", "flow_second"))
    )
    joined = compose(first, second, homography)
    # The original interpolates the resized places, here they are computed.
    np.testing.assert_allclose(joined["flow"], _last(arrays[f"final_{variant}"]), atol=2e-3)
    np.testing.assert_array_equal(joined["logits"][..., 0] == 1, arrays[f"mask_{variant}"][0])


def _last(values):
    """Moves the channels of the original's [1, channels, height, width] to the end."""
    return values[0].transpose(1, 2, 0)
