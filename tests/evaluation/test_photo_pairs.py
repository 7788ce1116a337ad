"""Pairs that are made from folders of photos."""

import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation.datasets import read_pairs
from tfdense.images import write_image


def photos(folder, count):
    for shade in range(count):
        write_image(folder / f"{shade}.png", np.full((20, 30 + shade, 3), shade, np.uint8))
    return folder


def test_synthetic_pairs_are_warps_with_their_flow(tmp_path, monkeypatch):
    monkeypatch.setattr("tfdense.evaluation.photo_pairs._LARGEST_COUNT", 2)
    x, y = np.meshgrid(np.arange(300), np.arange(280))
    smooth = np.stack([127 + 100 * np.sin(x / 40), 127 + 100 * np.cos(y / 40), x / 2], axis=-1)
    write_image(tmp_path / "photo.png", smooth.astype(np.uint8))
    pairs = list(read_pairs("synthetic", tmp_path))
    assert [pair.name for pair in pairs] == ["0", "1"]
    for pair in pairs:
        columns, rows = pair.points.astype(int).T
        places = np.round(pair.points + pair.true_flow).astype(int)
        seen = pair.source[places[:, 1].clip(0, 255), places[:, 0].clip(0, 255)].astype(int)
        assert np.median(np.abs(seen - pair.target[rows, columns])) < 3
        known = {tuple(point) for point in pair.points.astype(int)}
        assert known.isdisjoint(map(tuple, pair.unmatched))
    assert any(len(pair.unmatched) for pair in pairs)


def test_unrelated_pairs_are_of_different_photos(tmp_path):
    pairs = list(read_pairs("unrelated", photos(tmp_path, 5)))
    shades = [(int(pair.source[0, 0, 0]), int(pair.target[0, 0, 0])) for pair in pairs]
    assert sorted(source for source, _ in shades) == list(range(5))
    assert sorted(target for _, target in shades) == list(range(5))
    assert all(source != target for source, target in shades)
    assert [pair.name for pair in pairs] == [f"{source}-{target}" for source, target in shades]
    again = read_pairs("unrelated", tmp_path)
    assert [pair.name for pair in again] == [pair.name for pair in pairs]


def test_nothing_in_unrelated_pairs_matches(tmp_path):
    pair = next(read_pairs("unrelated", photos(tmp_path, 2)))
    assert not len(pair.points)
    assert pair.unmatched.min(axis=0).tolist() == [0, 0]
    width = pair.target.shape[1]
    assert {tuple(p) for p in pair.unmatched.tolist()} == {
        (x, y) for x in range(0, width, 4) for y in range(0, 20, 4)
    }
    halved = pair.limited(15)
    # The centre of the first pixel of 30 or 31 lies at half a pixel's distance from the border.
    scale = 15 / width
    np.testing.assert_allclose(halved.unmatched[0, 0], 0.5 * scale - 0.5)


def test_one_photo_makes_no_pair(tmp_path):
    with pytest.raises(InputError, match="holds one image"):
        next(read_pairs("unrelated", photos(tmp_path, 1)))
