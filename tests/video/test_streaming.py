"""The frames of a film: what each is matched with, from where it starts, and where points go."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.matcher import Matcher
from tfdense.mixture import LaplaceMixture
from tfdense.results.match import Match
from tfdense.video import tracking


@pytest.fixture
def film(texture):
    """Gives frames in which all moves by (6, -2) px from each to the next."""

    def make(count, seed=0, step=(6, -2), size=(96, 128)):
        scene = texture(size[0] + 200, size[1] + 200, seed).astype(np.uint8)
        y, x = 100, 100
        return [
            scene[y - i * step[1] : y - i * step[1] + size[0], x - i * step[0] :][:, : size[1]]
            for i in range(count)
        ]

    return make


def _flow(streamed):
    return np.median(streamed.match.flow, axis=(0, 1))


def test_each_frame_with_the_one_before(shifts, film):
    frames = film(4)
    found = list(Matcher(shifts()).stream(iter(frames)))
    assert [streamed.index for streamed in found] == [1, 2, 3]
    for streamed in found:
        np.testing.assert_allclose(_flow(streamed), (6, -2), atol=0.3)
        assert streamed.match.source is not None and not streamed.cut
        np.testing.assert_array_equal(streamed.match.target, frames[streamed.index - 1])
        np.testing.assert_array_equal(streamed.match.source, frames[streamed.index])


def test_a_cut_is_noticed(shifts, film):
    found = list(Matcher(shifts()).stream(film(3) + film(3, seed=5)))
    assert [streamed.cut for streamed in found] == [False, False, True, False, False]


def test_after_a_cut_the_new_shot_has_a_first_frame_of_its_own(shifts, film):
    frames = film(3) + film(3, seed=5)
    found = list(Matcher(shifts()).stream(frames, "first"))
    assert [streamed.cut for streamed in found] == [False, False, True, False, False]
    np.testing.assert_allclose(_flow(found[1]), (12, -4), atol=0.5)
    np.testing.assert_array_equal(found[4].match.target, frames[3])
    np.testing.assert_allclose(_flow(found[4]), (12, -4), atol=0.5)


def test_the_start_from_the_frame_before_finds_what_a_single_run_does_not(shifts, film):
    frames, backend = film(6), shifts(reach=10)
    cold = list(Matcher(backend).stream(frames, "first", warm_start=False))
    assert [streamed.lost for streamed in cold] == [False, True, True, True, True]
    backend.runs = 0
    warm = list(Matcher(backend).stream(frames, "first"))
    assert backend.runs == 5
    for i, streamed in enumerate(warm, 1):
        assert (streamed.warm, streamed.lost) == (i > 1, False)
        trusted = streamed.match.confidence > 0.5
        expected = np.array([6 * i, -2 * i])
        np.testing.assert_allclose(
            np.median(streamed.match.flow[trusted], axis=0), expected, atol=0.6
        )
        # Also where the start led out of the frame.
        np.testing.assert_allclose(np.mean(streamed.match.flow, (0, 1)), expected, atol=0.8)
        shift = streamed.homography[:2, 2]
        np.testing.assert_allclose(shift, -expected, atol=0.8)


def test_a_given_picture_is_found_lost_and_found_again(shifts, film, tmp_path):
    frames, others = film(4), film(2, seed=9)
    found = list(Matcher(shifts()).stream([*frames[:2], *others, frames[1]], frames[0]))
    assert [streamed.index for streamed in found] == [0, 1, 2, 3, 4]
    assert [streamed.lost for streamed in found] == [False, False, True, True, False]
    assert not any(streamed.cut for streamed in found)
    assert found[2].homography is None
    with pytest.raises(InputError, match="nothing"):
        next(Matcher(shifts()).stream(frames, "nothing"))


def test_points_are_followed_out_of_the_frame(shifts, film):
    points = np.array([[20.0, 60.0], [110.0, 50.0]])
    tracks = list(Matcher(shifts()).track(film(5), points))
    assert [tracked.index for tracked in tracks] == [0, 1, 2, 3, 4]
    for i, tracked in enumerate(tracks):
        np.testing.assert_allclose(tracked.positions, points + i * np.array([6, -2]), atol=0.7)
        # The second leaves at x = 127.
        np.testing.assert_array_equal(tracked.visible, [True, i < 3])
    with pytest.raises(InputError, match="key points"):
        Matcher(shifts()).track(film(2), [1, 2, 3])


@pytest.mark.parametrize(
    "frames", ["film.mp4", b"film", Path("film.mp4"), None, 3, cv2.VideoCapture()]
)
def test_what_is_no_film_is_refused_at_once(shifts, frames):
    matcher = Matcher(shifts())
    for follow in (matcher.stream, lambda frames: matcher.track(frames, [(5, 5)])):
        with pytest.raises(InputError) as refusal:
            follow(frames)
        (line,) = str(refusal.value).splitlines()
        assert line.startswith("Expected frames: images one after the other, ")
        assert "Received: " in line and line.endswith("the command tfdense video.")


def _refilled(frames):
    buffer = np.empty_like(frames[0])
    for frame in frames:
        buffer[:] = frame
        yield buffer


def _spoilt(results):
    """Yields copies of results, and overwrites the arrays that it was given itself."""
    for result in results:
        yield copy.deepcopy(result)
        match = getattr(result, "match", None)
        arrays = result if match is None else (*result, *vars(match).values())
        for array in arrays:
            if isinstance(array, np.ndarray):
                array[...] = 0


@pytest.mark.parametrize("reference", ["previous", "first", "picture"])
def test_neither_the_frames_nor_what_is_given_need_to_last(shifts, film, reference):
    frames = film(4) + film(2, seed=5)
    given = frames[0] if reference == "picture" else reference
    matcher = Matcher(shifts())
    expected = list(matcher.stream(frames, given))
    results = (
        list(matcher.stream(_refilled(frames), given)),
        list(_spoilt(matcher.stream(_refilled(frames), given))),
    )
    for found in results:
        assert [x.share for x in found] == [x.share for x in expected]
        for one, other in zip(found, expected, strict=True):
            for name in ("source", "target", "flow", "confidence"):
                np.testing.assert_array_equal(one.match[name], other.match[name])
            np.testing.assert_array_equal(one.homography, other.homography)


def test_a_picture_is_copied_when_it_is_given(shifts, film):
    frames, picture = film(3), film(1)[0].copy()
    found = Matcher(shifts()).stream(frames, picture)
    next(found)
    picture[:] = 0
    np.testing.assert_allclose(_flow(next(found)), (6, -2), atol=0.5)


def test_neither_the_frames_nor_the_tracks_need_to_last(shifts, film):
    frames, points = film(5), [[20.0, 60.0], [110.0, 50.0]]
    matcher = Matcher(shifts())
    expected = list(matcher.track(frames, points))
    for found in (
        list(matcher.track(_refilled(frames), points)),
        list(_spoilt(matcher.track(_refilled(frames), points))),
    ):
        for one, other in zip(found, expected, strict=True):
            assert one.index == other.index
            for array, right in zip(one[1:], other[1:], strict=True):
                np.testing.assert_array_equal(array, right)


def _match(flow, trusted):
    """Makes a match of one flow, certain or not."""
    size = (20, 30)
    image = np.zeros((*size, 3), np.uint8)
    return Match(
        flow=np.full((*size, 2), flow, np.float32),
        confidence=np.ones(size, np.float32),
        log_variance=np.full((*size, 2), (-4.0, 12.0), np.float32),
        logits=np.full((*size, 2), (9.0 if trusted else -9.0, 0.0), np.float32),
        radius=1.0,
        source=image,
        target=image,
    )


def test_of_both_ways_the_more_probable_is_taken():
    mixture = LaplaceMixture(maximum_variance=1e6)
    begun = tracking.start_tracks(np.array([[5.0, 5.0]]), np.zeros((20, 30, 3), np.uint8))

    def advance(former, step, direct):
        return tracking.advance(mixture, begun, former, step, direct, radius=2.0)

    hidden = advance(begun, _match((9, 9), False), _match((8, 8), False))
    assert not hidden.visible[0]
    # What was lost is not found again by following what hid it, but from the first frame.
    still = advance(hidden, _match((1, 0), True), _match((8, 8), False))
    assert not still.visible[0]
    again = advance(still, _match((1, 0), True), _match((3, 4), True))
    assert again.visible[0]
    np.testing.assert_allclose(again.positions, [[8, 9]])
    # What the first frame no longer tells is followed from frame to frame.
    after = advance(again, _match((2, -1), True), _match((7, 7), False))
    assert after.visible[0]
    np.testing.assert_allclose(after.positions, [[10, 8]])


def test_no_points_are_no_tracks(shifts, film):
    tracks = list(Matcher(shifts()).track(film(2), []))
    assert tracks[1].positions.shape == (0, 2)


def test_a_turned_picture_is_followed_by_its_homography(shifts, film):
    """The outline of a picture in the frame comes from the inverse of the homography."""
    frames = film(3)
    (_, streamed) = Matcher(shifts()).stream(frames[1:], frames[0])
    corner = cv2.perspectiveTransform(
        np.float64([[[30, 40]]]), np.linalg.inv(streamed.homography)
    ).ravel()
    np.testing.assert_allclose(corner, (42, 36), atol=0.8)
