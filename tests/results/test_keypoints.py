"""Key points of two images, matched through a flow."""

import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.results.match import Match

_SOURCE, _TARGET = (60, 90), (50, 70)


def _match(flow, source_size=_SOURCE, **changes):
    height, width = flow.shape[:2]
    random = np.random.default_rng(0)
    values = {
        "flow": flow.astype(np.float32),
        "confidence": random.uniform(0.05, 0.57, (height, width)).astype(np.float32),
        "log_variance": np.zeros((height, width, 1), np.float32),
        "logits": np.zeros((height, width, 1), np.float32),
        "radius": 1.0,
        "source": np.zeros((*source_size, 3), np.uint8),
        "target": np.zeros((height, width, 3), np.uint8),
    }
    return Match(**values | changes)


def _by_hand(match, source, target, threshold, distance):
    """The pairs of key points, one after the other."""
    found = []
    for number, (x, y) in enumerate(target):
        row, column = round(float(y)), round(float(x))
        if not (0 <= row < _TARGET[0] and 0 <= column < _TARGET[1]):
            continue
        away = np.hypot(*(np.array([x, y]) + match.flow[row, column] - source).T)
        confidence = match.confidence[row, column]
        if confidence >= threshold and away.min() <= distance:
            found.append((away.argmin(), number, confidence))
    return sorted(found, key=lambda pair: -pair[2])


def test_a_key_point_goes_where_its_pixels_flow_takes_it():
    random = np.random.default_rng(1)
    match = _match(random.uniform(-15, 15, (*_TARGET, 2)))
    source = random.uniform(0, _SOURCE[::-1], (80, 2))
    target = random.uniform(-3, np.array(_TARGET[::-1]) + 3, (300, 2))
    sizes = []
    for threshold, distance in ((0.1, 3.0), (0.3, 3.0), (0.1, 1.0)):
        found = match.keypoints(source, target, threshold, distance)
        expected = _by_hand(match, source, target, threshold, distance)
        for values, others in zip(found, zip(*expected, strict=True), strict=True):
            np.testing.assert_array_equal(values, others)
        sizes.append(len(found.source))
    assert sizes[0] > 50 and sizes[1] < 0.7 * sizes[0] and sizes[2] < 0.4 * sizes[0]


def test_moved_key_points_find_themselves():
    random = np.random.default_rng(2)
    target = random.permutation(np.argwhere(np.ones((7, 8)))) * 6.3 + 3
    shift = np.array([4.5, -1.25])
    source = target[::-1] + shift + random.uniform(-0.4, 0.4, target.shape)
    found = _match(np.tile(shift, (*_TARGET, 1))).keypoints(source, target, threshold=0)
    np.testing.assert_array_equal(found.source, len(target) - 1 - found.target)
    inside = (np.rint(target) < _TARGET[::-1]).all(axis=1)
    np.testing.assert_array_equal(np.sort(found.target), np.flatnonzero(inside))


@pytest.mark.parametrize("radius", [1.0, 2.5])
def test_three_times_the_radius_is_near(radius):
    match = _match(np.zeros((*_TARGET, 2)), radius=radius)
    target = np.full((2, 2), 20)
    source = np.array([[20 + 3 * radius + 0.1, 20], [60, 50]])
    assert len(match.keypoints(source, target, threshold=0).source) == 0
    found = match.keypoints(source - [0.2, 0], target, threshold=0)
    np.testing.assert_array_equal(found.source, [0, 0])  # two may share one
    np.testing.assert_array_equal(found.target, [0, 1])


def test_the_cycle_can_be_checked():
    """What comes back from the left half of the source is 5 px off."""
    back = np.zeros((*_SOURCE, 2))
    back[:, :30] += [3, 4]
    match = _match(np.zeros((*_TARGET, 2)), reverse=_match(back, _TARGET))
    points = np.array([[10, 10], [50, 30], [20, 40], [40, 20]])
    assert len(match.keypoints(points, points, 0).source) == 4
    assert sorted(match.keypoints(points, points, 0, cycle=4.9).source) == [1, 3]
    one_way = _match(np.zeros((*_TARGET, 2)))
    with pytest.raises(InputError, match="both_ways=True"):
        one_way.keypoints(points, points, cycle=4.9)


def test_without_key_points_there_are_no_matches():
    match = _match(np.zeros((*_TARGET, 2)))
    some, none = np.array([[10, 10]]), np.empty((0, 2))
    for source, target in ((some, none), (none, some), (none, none), ([], []), (some, [])):
        found = match.keypoints(source, target)
        assert [len(values) for values in found] == [0, 0, 0]


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((4, 3)),
        np.zeros((0, 3)),
        np.zeros(2),
        [["a", "b"]],
        np.array("a"),
        [[np.nan, 1]],
        [[1, 2], [3]],
        [[10**400, 1]],
        [[1j, 1]],
        np.ma.masked_equal([[1, 2]], 2),
    ],
)
def test_what_are_no_key_points_is_refused(points):
    match = _match(np.zeros((*_TARGET, 2)))
    good = np.zeros((4, 2))
    for role, pair in (("source", (points, good)), ("target", (good, points))):
        with pytest.raises(InputError, match=rf"key points of the {role} to be finite \(x, y\)"):
            match.keypoints(*pair)
    with pytest.raises(InputError, match="positive distance"):
        match.keypoints(good, good, distance=0)
    for distance in (np.ones(2), float("nan")):
        with pytest.raises(InputError, match="positive distance"):
            match.homography(distance=distance)
    for n in (0, 1.5, float("nan")):
        with pytest.raises(InputError, match="number of matches"):
            match.matches(n)
