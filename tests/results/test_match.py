"""The answer of a matcher: selection of matches, variance and files."""

import dataclasses

import cv2
import numpy as np
import pytest

from tfdense.errors import InputError, OutputError
from tfdense.flow_files import read_flow
from tfdense.results.match import Match


def _match(confidence, flow=None, source_size=None):
    height, width = confidence.shape
    flow = np.zeros((height, width, 2), np.float32) if flow is None else flow
    random = np.random.default_rng(0)
    return Match(
        flow=flow,
        confidence=confidence.astype(np.float32),
        log_variance=random.normal(size=(height, width, 3)).astype(np.float32),
        logits=random.normal(size=(height, width, 3)).astype(np.float32),
        radius=1.0,
        source=random.integers(0, 256, (*(source_size or (height, width)), 3), np.uint8),
        target=random.integers(0, 256, (height, width, 3), np.uint8),
    )


@pytest.fixture
def random_match():
    random = np.random.default_rng(1)
    flow = random.uniform(-20, 20, (37, 53, 2)).astype(np.float32)
    return _match(random.uniform(0, 0.57, (37, 53)), flow, source_size=(30, 61))


def test_it_is_a_dictionary_of_its_arrays(random_match):
    assert random_match["flow"] is random_match.flow
    np.testing.assert_array_equal(random_match["variance"], random_match.variance)
    assert "flow" in random_match and "warp" not in random_match and 0 not in random_match
    names = list(random_match)
    assert {*names} >= {"flow", "confidence", "log_variance", "logits", "source", "variance"}
    for name in names:
        random_match[name]
    for name in ("nope", "warp", "_accepted", "", 0, None, ["flow"], np.zeros(3)):
        with pytest.raises(KeyError, match=r"Expected any of flow, confidence, .* Received: "):
            random_match[name]


def test_all_matches_are_those_above_the_threshold_inside_the_source(random_match):
    matches = random_match.matches(threshold=0.3)
    expected = []
    for y in range(37):
        for x in range(53):
            place = random_match.flow[y, x] + np.float32([x, y])
            inside = 0 <= place[0] <= 60 and 0 <= place[1] <= 29
            if inside and random_match.confidence[y, x] >= 0.3:
                expected.append((*place, x, y, random_match.confidence[y, x]))
    expected = np.array(sorted(expected, key=lambda row: -row[-1]), np.float32)
    assert len(expected) > 100
    np.testing.assert_array_equal(matches.source, expected[:, :2])
    np.testing.assert_array_equal(matches.target, expected[:, 2:4])
    np.testing.assert_array_equal(matches.confidence, expected[:, 4])


@pytest.mark.parametrize("n", [1, 7, 50, 300])
def test_n_matches_are_each_the_best_of_a_cell(random_match, n):
    every = random_match.matches(threshold=0.2)
    chosen = random_match.matches(n, threshold=0.2)
    assert len(chosen.confidence) == n
    assert (np.diff(chosen.confidence) <= 0).all()
    assert chosen.confidence[0] == every.confidence[0]
    side = int((len(every.confidence) / n) ** 0.5)
    assert len(np.unique(chosen.target // side, axis=0)) == n
    for target, confidence in zip(chosen.target, chosen.confidence, strict=True):
        in_cell = (every.target // side == target // side).all(axis=-1)
        assert every.confidence[in_cell].max() == confidence


def test_fewer_matches_than_asked_for_are_all_returned(random_match):
    every = random_match.matches(threshold=0.5)
    chosen = random_match.matches(10_000, threshold=0.5)
    np.testing.assert_array_equal(chosen.target, every.target)


def test_equally_confident_matches_are_spread_over_the_target():
    chosen = _match(np.full((100, 100), 0.5)).matches(30)
    for axis in (0, 1):
        halves = (chosen.target[:, axis] >= 50).sum()
        assert 8 <= halves <= 22


def test_the_warp_is_black_where_either_image_is_masked(random_match):
    random = np.random.default_rng(1)
    masks = [random.uniform(size=shape) < 0.5 for shape in ((30, 61), (37, 53))]
    white = np.full((30, 61, 3), 255, np.uint8)
    still = np.zeros((37, 53, 2), np.float32)
    match = dataclasses.replace(
        random_match, flow=still, source=white, source_mask=masks[0], target_mask=masks[1]
    )
    expected = np.zeros((37, 53), bool)
    expected[:30] = masks[0][:, :53] & masks[1][:30]
    np.testing.assert_array_equal(match.warp()[..., 0] == 255, expected)


def test_a_match_is_shown_in_one_line(random_match):
    assert repr(random_match).startswith("<Match of 53x37 px, ")


def test_no_match():
    matches = _match(np.zeros((20, 20))).matches(5)
    assert matches.source.shape == matches.target.shape == (0, 2)
    assert matches.confidence.shape == (0,)


def test_number_of_matches_must_be_positive():
    with pytest.raises(InputError, match=r"positive\. Received: 0"):
        _match(np.ones((20, 20))).matches(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, _: m.matches(n="5"), "number of matches to be positive. Received: '5'"),
        (lambda m, _: m.matches(threshold=None), "Expected a threshold in 0..1. Received: None"),
        (lambda m, _: m.matches(threshold="0.5"), "a threshold in 0..1. Received: '0.5'"),
        (lambda m, _: m.matches(threshold=True), "a threshold in 0..1. Received: True"),
        (lambda m, _: m.matches(cycle=True), "cycle to be a distance .* Received: True"),
        (lambda m, _: m.homography(distance=True), "a positive distance. Received: True"),
        (lambda m, _: m.matches(threshold=[0.5]), r"a threshold in 0..1. Received: \[0.5\]"),
        (lambda m, _: m.matches(threshold=1.5), "a threshold in 0..1. Received: 1.5"),
        (lambda m, _: m.pose(np.eye(3), np.eye(3), -0.1), "a threshold in 0..1. Received: -0.1"),
        (lambda m, _: m.homography(threshold=np.nan), "a threshold in 0..1. Received: nan"),
        (lambda m, _: m.matches(cycle="3"), "cycle to be a distance in px, or None. Received: '3'"),
        (lambda m, _: m.matches(mutual="no"), "mutual to be True or False. Received: 'no'"),
        (lambda m, _: m.keypoints([[1, 2]], [[3, 4]], distance="3"), "distance. Received: '3'"),
        (lambda m, _: m.keypoints([[np.nan, 2]], []), r"Received: \[\[nan, 2\]\]"),
        (lambda m, out: m.save(out, threshold=np.nan), "a threshold in 0..1. Received: nan"),
        (lambda m, _: m.save(None), "the path of a folder. Received: None"),
        (lambda m, _: m.save(b"x"), "the path of a folder. Received: b'x'"),
        (lambda m, out: m.save(f"{out}\0b"), r"the path of a folder. Received: '.*\\x00b'"),
        (lambda m, out: m.save(out, formats=None), "a list of formats. Received: None"),
        (lambda m, out: m.save(out, formats="kitti"), "a list of formats. Received: 'kitti'"),
        (lambda m, out: m.save(out, formats=[[1]]), r"a list of formats. Received: \[\[1\]\]"),
        (lambda m, out: m.save(out, names=(1, 2)), r"names of both images. Received: \(1, 2\)"),
        (lambda m, out: m.save(out, names=("a",)), r"of both images. Received: \('a',\)"),
        (lambda m, out: m.save(out, names="ab"), "names of both images. Received: 'ab'"),
    ],
)
def test_arguments_of_another_kind_are_refused(random_match, tmp_path, call, message):
    with pytest.raises(InputError, match=message) as caught:
        call(random_match, tmp_path / "out")
    assert "\n" not in str(caught.value) and not [*tmp_path.iterdir()]


def test_variance_is_the_weighted_mean_of_the_components(random_match):
    expected = np.zeros((37, 53))
    for y in range(37):
        for x in range(53):
            weights = np.exp(random_match.logits[y, x].astype(np.float64))
            variances = np.exp(random_match.log_variance[y, x].astype(np.float64))
            expected[y, x] = (weights * variances).sum() / weights.sum()
    np.testing.assert_allclose(random_match.variance, expected, rtol=1e-5)


def test_variance_survives_large_logits(random_match):
    random_match.logits[...] = (200.0, -200.0, 0.0)
    np.testing.assert_allclose(
        random_match.variance, np.exp(random_match.log_variance[..., 0]), rtol=1e-6
    )


def test_save_writes_every_file_and_keeps_others(random_match, tmp_path):
    folder = tmp_path / "new" / "out"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "flow.flo").write_text("an older one")
    paths = random_match.save(folder)
    pictures = ["warp.png", "flow.png", "confidence.png", "matches.png", "overview.png"]
    names = ["match.npz", "flow.flo", *pictures]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "notes.txt"])
    with np.load(folder / "match.npz") as arrays:
        assert set(arrays) == {"flow", "confidence", "radius"}
        np.testing.assert_array_equal(arrays["flow"], random_match.flow)
        np.testing.assert_array_equal(arrays["confidence"], random_match.confidence)
        assert arrays["radius"] == 1.0
    np.testing.assert_array_equal(read_flow(folder / "flow.flo"), random_match.flow)
    warped = cv2.imread(str(folder / "warp.png"), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(warped, random_match.warp())
    for name in pictures[1:]:
        picture = cv2.imread(str(folder / name))
        assert min(picture.shape[:2]) > 300 and picture.std() > 10


def test_save_shows_what_does_not_return_as_not_matched(tmp_path):
    confidence = np.random.default_rng(2).uniform(0.2, 0.57, (40, 50))
    there = np.full((40, 50, 2), [0, -2], np.float32)
    back = -there
    back[:, :20] += [3, 4]  # 5 px off
    match = _match(confidence, there)
    match = dataclasses.replace(match, reverse=_match(confidence, back))
    cycle_error = np.tile(np.where(np.arange(50) < 20, 5.0, 0.0), (40, 1))
    cycle_error[:2] = np.inf
    paths = match.save(tmp_path / "checked", cycle=4.0)
    with np.load(paths[0]) as arrays:
        np.testing.assert_allclose(arrays["cycle_error"], cycle_error, atol=1e-5)
        np.testing.assert_array_equal(arrays["confidence"], match.confidence)
    unsure = dataclasses.replace(match, confidence=np.where(cycle_error > 4, 0, match.confidence))
    unsure.save(tmp_path / "unsure")
    match.save(tmp_path / "unchecked")
    for path in paths[4:]:  # confidence, matches and overview, as PNG
        assert path.read_bytes() == (tmp_path / "unsure" / path.name).read_bytes()
        assert path.read_bytes() != (tmp_path / "unchecked" / path.name).read_bytes()


def test_save_to_a_full_disk_changes_nothing(random_match, tmp_path, full_disk):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "flow.flo").write_text("an older one")
    for output in (folder, tmp_path / "new" / "folder"):
        with pytest.raises(OutputError) as raised, full_disk():
            random_match.save(output)
        assert str(raised.value) == f"Cannot write to {output}: File too large."
    assert [*tmp_path.rglob("*")] == [folder, folder / "flow.flo"]
    assert (folder / "flow.flo").read_text() == "an older one"


def test_save_to_a_folder_with_any_name(random_match, tmp_path):
    expected = random_match.save(tmp_path / "plain")
    paths = random_match.save(tmp_path / "caf\udce9")
    for path, other in zip(paths, expected, strict=True):
        assert path.parent.name == "caf\udce9"
        if path.suffix != ".npz":  # which holds the time
            assert path.read_bytes() == other.read_bytes()
    with np.load(paths[0]) as arrays:
        np.testing.assert_array_equal(arrays["flow"], random_match.flow)
    np.testing.assert_array_equal(read_flow(paths[1]), random_match.flow)


def test_save_to_a_file_is_refused(random_match, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="Cannot write to"):
        random_match.save(tmp_path / "out")
