"""Masks of source and target, given or by an alpha channel: what they exclude, and nothing else."""

import functools

import cv2
import numpy as np
import pytest

import tfdense
from tfdense.cli import main
from tfdense.data.photos import bundled_pair
from tfdense.errors import InputError
from tfdense.images import read_image
from tfdense.matcher import Matcher


@pytest.fixture(scope="module")
def pair():
    return [cv2.resize(read_image(path), (320, 240)) for path in bundled_pair()]


@pytest.fixture(scope="module")
def masks():
    """A hole in each, and a border of the source that shows nothing."""
    source, target = np.ones((2, 240, 320), bool)
    source[:, :40] = False
    cv2.ellipse(source.view(np.uint8), (200, 120), (40, 30), 20, 0, 360, 0, -1)
    cv2.ellipse(target.view(np.uint8), (100, 100), (50, 40), 0, 0, 360, 0, -1)
    return source, target


@pytest.fixture(scope="module")
def matcher():
    return tfdense.load("pdcnet-lite", max_side=320)


@pytest.fixture(scope="module")
def small():
    """Makes matchers of any mode at 160 px; they share a network, and what it has prepared."""
    backend = tfdense.load("pdcnet-lite", max_side=160).backend
    return functools.partial(Matcher, backend)


@pytest.fixture(scope="module")
def match(matcher, pair, masks):
    return matcher.match(*pair, source_mask=masks[0], target_mask=masks[1])


def _needs_masked(places, mask):
    x, y = places.T
    height, width = mask.shape
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    corners = [(f(y).astype(int), g(x).astype(int)) for f in _ROUND for g in _ROUND]
    return inside & ~np.all([mask[corner] for corner in corners], axis=0)


_ROUND = np.floor, np.ceil


def test_what_is_masked_has_no_confidence(match, masks):
    on_source = _needs_masked(match.positions().reshape(-1, 2), masks[0]).reshape(240, 320)
    assert on_source.mean() > 0.01
    assert (match.confidence[~masks[1] | on_source] == 0).all()
    assert (match.variance[~masks[1] | on_source] > 1e5).all()
    assert match.confidence[masks[1] & ~on_source].mean() > 0.2


@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_nothing_masked_is_among_the_matches(match, masks, threshold):
    matches = match.matches(threshold=threshold)
    columns, rows = matches.target.astype(int).T
    assert masks[1][rows, columns].all()
    assert not _needs_masked(matches.source, masks[0]).any()
    assert len(matches.confidence) > 10000
    camera = [[300, 0, 160], [0, 300, 120], [0, 0, 1]]
    for inliers in (match.homography().inliers, match.pose(camera, camera).inliers):
        columns, rows = inliers.target.astype(int).T
        assert masks[1][rows, columns].all() and not _needs_masked(inliers.source, masks[0]).any()


def test_key_points_on_masked_pixels_are_not_matched(match, masks):
    grid = np.stack(np.meshgrid(np.arange(0, 320, 4), np.arange(0, 240, 4)), axis=-1)
    points = grid.reshape(-1, 2)
    found = match.keypoints(points, points, threshold=0.0)
    assert len(found.source) > 500
    for mask, chosen in zip(masks, (found.source, found.target), strict=True):
        columns, rows = points[chosen].T
        assert mask[rows, columns].all()


def test_the_warp_shows_nothing_of_what_is_masked(matcher, pair, masks):
    source = np.where(masks[0][..., None], 90, 255).astype(np.uint8)
    warp = matcher.match(source, source, source_mask=masks[0]).warp()
    assert warp.max() <= 90


@pytest.mark.parametrize("mode", ["direct", "multiscale", "wide-baseline", "plane"])
def test_what_is_masked_does_not_change_the_rest(small, pair, masks, mode):
    matcher = small(mode, fill=mode != "direct")
    random = np.random.default_rng(0)
    answers = []
    for hidden in (random.integers(0, 256, (240, 320, 3)), 0, pair[0][::-1, ::-1]):
        images = [
            np.where(mask[..., None], image, hidden).astype(np.uint8)
            for image, mask in zip(pair, masks, strict=True)
        ]
        answers.append(matcher.match(*images, source_mask=masks[0], target_mask=masks[1]))
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.flow, answers[0].flow)
        np.testing.assert_array_equal(answer.confidence, answers[0].confidence)


def test_masks_leave_the_flow_elsewhere_as_it_was(matcher, pair, masks, match):
    whole = matcher.match(*pair)
    far = cv2.erode(masks[1].view(np.uint8), np.ones((33, 33))) > 0
    from_source = cv2.erode(masks[0].view(np.uint8), np.ones((33, 33)))
    far &= cv2.remap(from_source, whole.positions(), None, cv2.INTER_NEAREST) > 0
    far &= whole.confidence > 0.3
    assert far.mean() > 0.2
    # A quarter of the source is masked, and so is missing from what the network can tell by.
    assert np.median(np.linalg.norm(match.flow - whole.flow, axis=-1)[far]) < 0.25


@pytest.mark.parametrize("mode", ["direct", "multiscale", "wide-baseline", "plane"])
def test_masks_of_all_change_nothing_but_the_views_beyond_the_border(small, pair, mode):
    matcher = small(mode)
    whole = matcher.match(*pair)
    every = np.ones((240, 320), bool)
    match = matcher.match(*pair, source_mask=every, target_mask=every)
    error = np.linalg.norm(match.flow - whole.flow, axis=-1)
    assert np.median(error) < 0.1
    assert np.median(np.abs(match.confidence - whole.confidence)) < 0.02


def test_both_ways_are_masked(matcher, pair, masks):
    match = matcher.match(*pair, both_ways=True, source_mask=masks[0], target_mask=masks[1])
    assert (match.reverse.confidence[~masks[0]] == 0).all()
    assert match.reverse.target_mask is match.source_mask


def test_alpha_is_a_mask(matcher, pair, masks, match, tmp_path):
    paths = []
    for name, image, mask in zip("ab", pair, masks, strict=True):
        paths.append(str(tmp_path / f"{name}.png"))
        cv2.imwrite(paths[-1], np.dstack([image[..., ::-1], 255 * mask.astype(np.uint8)]))
    by_alpha = matcher.match(*paths)
    np.testing.assert_array_equal(by_alpha.flow, match.flow)
    np.testing.assert_array_equal(by_alpha.confidence, match.confidence)
    # A mask beside it excludes more.
    half = np.ones((240, 320), bool)
    half[:, 160:] = False
    both = matcher.match(*paths, target_mask=half)
    np.testing.assert_array_equal(both.target_mask, masks[1] & half)


def test_masks_of_the_command_line(match, pair, masks, tmp_path, capsys):
    files = {}
    for name, image in zip(("source", "target"), pair, strict=True):
        files[name] = str(tmp_path / f"{name}.png")
        cv2.imwrite(files[name], image[..., ::-1])
    for name, mask in zip(("source_mask", "target_mask"), masks, strict=True):
        files[name] = str(tmp_path / f"{name}.png")
        cv2.imwrite(files[name], 255 * mask.astype(np.uint8))
    command = ["match", files["source"], files["target"], "--max-side", "320"]
    masked = ["--source-mask", files["source_mask"], "--target-mask", files["target_mask"]]
    assert main([*command, *masked, "-o", str(tmp_path / "out")]) == 0
    with np.load(tmp_path / "out" / "match.npz") as arrays:
        np.testing.assert_array_equal(arrays["confidence"], match.confidence)
    assert main([*command, "--source-mask", files["target_mask"][:-4], "-o", str(tmp_path)]) == 2
    assert "There is no image file" in capsys.readouterr().err


def test_a_mask_of_another_size_is_refused(matcher, pair):
    with pytest.raises(InputError, match=r"mask of the target .*\(240, 320\).*\(100, 100\)"):
        matcher.match(*pair, target_mask=np.ones((100, 100)))
