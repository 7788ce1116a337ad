"""Checks of a match by that of the other direction."""

import dataclasses

import numpy as np
import pytest

from tfdense import matcher
from tfdense.cli import main
from tfdense.errors import InputError
from tfdense.images import write_image
from tfdense.matcher import Matcher
from tfdense.mixture import LaplaceMixture
from tfdense.results.match import Match

_SOURCE, _TARGET = (50, 70), (40, 90)


def _match(places, source, target, reverse=None):
    random = np.random.default_rng(1)
    return Match(
        flow=(places - _grid(target)).astype(np.float32),
        confidence=random.uniform(0.2, 0.57, target).astype(np.float32),
        log_variance=np.zeros((*target, 1), np.float32),
        logits=np.zeros((*target, 1), np.float32),
        radius=1.0,
        source=np.zeros((*source, 3), np.uint8),
        target=np.zeros((*target, 3), np.uint8),
        reverse=reverse,
    )


def _grid(size):
    return np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), axis=-1).astype(float)


@pytest.fixture
def affine_match():
    """A stretch, a shear and a shift, and its inverse; both noisy, the latter wrong in a square."""
    random = np.random.default_rng(0)
    matrix, shift = np.array([[0.7, 0.1], [-0.05, 1.2]]), np.array([1.3, 2.1])
    forward = _grid(_TARGET) @ matrix.T + shift + random.normal(scale=0.2, size=(*_TARGET, 2))
    back = (_grid(_SOURCE) - shift) @ np.linalg.inv(matrix).T
    back += random.normal(scale=0.2, size=back.shape)
    back[20:30, 20:40] += [5, 0]
    return _match(forward, _SOURCE, _TARGET, _match(back, _TARGET, _SOURCE))


def test_cycle_error_is_that_of_going_there_and_back(affine_match):
    error = affine_match.cycle_error()
    back = affine_match.reverse.positions()
    for y, x in np.random.default_rng(2).integers(0, _TARGET, (200, 2)):
        place = affine_match.positions()[y, x].astype(float)
        if not (0 <= place[0] <= 69 and 0 <= place[1] <= 49):
            assert error[y, x] == np.inf
            continue
        column, row = np.minimum(place.astype(int), [68, 48])
        u, v = place - [column, row]
        returned = (1 - v) * ((1 - u) * back[row, column] + u * back[row, column + 1]) + v * (
            (1 - u) * back[row + 1, column] + u * back[row + 1, column + 1]
        )
        # remap rounds places to 1/32 px.
        assert error[y, x] == pytest.approx(np.hypot(*(returned - [x, y])), abs=0.1)
    assert np.isinf(error).any() and error.dtype == np.float32


def test_matches_can_be_checked_by_their_cycle(affine_match):
    every, checked = affine_match.matches(), affine_match.matches(cycle=2.0)
    x, y = checked.target.astype(int).T
    assert (affine_match.cycle_error()[y, x] <= 2).all()
    # What leads into the square comes back 5 px off.
    in_square = ((every.source > [21, 21]) & (every.source < [38, 28])).all(axis=-1)
    assert in_square.sum() > 50
    kept = set(map(tuple, checked.target))
    assert not kept & set(map(tuple, every.target[in_square]))
    assert len(checked.target) > 0.8 * (len(every.target) - 400)


def test_mutual_matches_are_each_others_nearest_pixels(affine_match):
    forward, back = affine_match.positions(), affine_match.reverse.positions()
    expected = set()
    for y in range(_TARGET[0]):
        for x in range(_TARGET[1]):
            place = forward[y, x]
            if 0 <= place[0] <= 69 and 0 <= place[1] <= 49:
                column, row = round(float(place[0])), round(float(place[1]))
                if tuple(np.rint(back[row, column])) == (x, y):
                    expected.add((x, y))
    mutual = affine_match.matches(mutual=True)
    assert set(map(tuple, mutual.target)) == expected
    assert 200 < len(expected) < len(affine_match.matches().target) / 2


@pytest.mark.parametrize("check", [{"cycle": 1.0}, {"mutual": True}])
def test_checks_need_the_other_direction(affine_match, check):
    one_way = dataclasses.replace(affine_match, reverse=None)
    with pytest.raises(InputError, match="both_ways=True"):
        one_way.matches(**check)


class Shift:
    """Sees a brighter image 4 px to the right of a darker one, which is 4 or 6 px to the left."""

    mixture = LaplaceMixture(maximum_variance=1e4)

    def working_size(self, height, width):
        return height, width

    def run(self, source, target):
        flow = np.zeros((*target.shape[:2], 2), np.float32)
        flow[..., 0] = 4 if source.mean() > target.mean() else -4
        if source.mean() < target.mean():
            flow[12:, :, 0] = -6
        return {"flow": flow, "log_variance": flow * 0, "logits": flow * 0}


_DARK, _BRIGHT = np.full((20, 30, 3), 50, np.uint8), np.full((20, 30, 3), 200, np.uint8)


def test_matcher_matches_both_ways():
    assert Matcher(Shift()).match(_BRIGHT, _DARK).reverse is None
    match = Matcher(Shift()).match(_BRIGHT, _DARK, radius=2.0, both_ways=True)
    np.testing.assert_array_equal(match.flow[..., 0], 4)
    np.testing.assert_array_equal(match.reverse.flow[:12, :, 0], -4)
    assert match.reverse.source is match.target and match.reverse.target is match.source
    assert match.reverse.radius == 2.0
    error = match.cycle_error()
    assert (error[:12, :26] == 0).all() and (error[12:, :26] == 2).all()
    assert np.isinf(error[:, 26:]).all()


@pytest.mark.parametrize(("radius", "share"), [("0.6", 12 * 26 / 600), ("0.7", 26 / 30)])
def test_the_command_line_counts_what_returns(monkeypatch, tmp_path, capsys, radius, share):
    monkeypatch.setattr(matcher, "load", lambda *arguments: Matcher(Shift()))
    for name, image in (("bright.png", _BRIGHT), ("dark.png", _DARK)):
        write_image(tmp_path / name, image)
    paths = [str(tmp_path / name) for name in ("bright.png", "dark.png", "out")]
    arguments = ["match", *paths[:2], "-o", paths[2], "--radius", radius]
    assert main([*arguments, "--both-ways"]) == 0
    limit = f"{3 * float(radius):.3g} px"
    line = capsys.readouterr().out.splitlines()[1]
    assert line.endswith(
        f": 100.0% of the target, of which {share:.1%} return to within {limit} of the target"
    )
    with np.load(tmp_path / "out" / "match.npz") as arrays:
        assert np.mean(arrays["cycle_error"] <= 3 * float(radius)) == pytest.approx(share)
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(": 100.0% of the target")
