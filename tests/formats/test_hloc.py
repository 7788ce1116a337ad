"""Features and matches as hloc reads them."""

import dataclasses
import itertools

import h5py
import numpy as np
import pytest

from tfdense import formats
from tfdense.errors import InputError, OutputError

_PAIRS = [*itertools.permutations(range(3), 2)]


def _name(number):
    return f"folder/{number}.jpg"


def _write(folder, views, pairs, **options):
    with formats.open("hloc", folder, points=1000, **options) as writer:
        for source, target in pairs:
            writer.add(_name(source), _name(target), views.match(source, target))
    return folder


def _keypoints(folder, name):
    """As hloc's `get_keypoints`."""
    with h5py.File(folder / "features.h5", "r") as file:
        return file[name]["keypoints"][:]


def _matches(folder, first, second):
    """As hloc's `get_matches`."""
    with h5py.File(folder / "matches.h5", "r") as file:
        pair = file["/".join(name.replace("/", "-") for name in (first, second))]
        matches, scores = pair["matches0"][:], pair["matching_scores0"][:]
    (found,) = np.where(matches != -1)
    return np.stack([found, matches[found]], -1), scores[found]


def test_places_numbers_and_scores(views, tmp_path):
    _write(tmp_path, views, [(0, 1)])
    match = views.match(0, 1)
    source, target = (_keypoints(tmp_path, _name(number)) for number in (0, 1))
    pairs, scores = _matches(tmp_path, _name(0), _name(1))
    assert len(pairs) > 500 and len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    columns, rows = target[pairs[:, 1]].astype(int).T
    expected = match.positions()[rows, columns]
    np.testing.assert_allclose(source[pairs[:, 0]], expected, atol=1e-4)
    np.testing.assert_array_equal(scores, match.confidence[rows, columns])
    with h5py.File(tmp_path / "features.h5", "r") as file:
        for name, keypoints in ((_name(0), source), (_name(1), target)):
            np.testing.assert_array_equal(file[name]["image_size"], [128, 96])
            assert len(file[name]["scores"]) == len(keypoints)


def test_pairs_share_the_key_points_of_a_target(views, tmp_path):
    _write(tmp_path, views, [(0, 2), (1, 2)])
    shared = [_matches(tmp_path, _name(number), _name(2))[0][:, 1] for number in (0, 1)]
    both = np.intersect1d(*shared)
    assert len(both) > 400
    # What the two sources show of a key point is one place of the scene.
    surface = views.surface(2, _keypoints(tmp_path, _name(2))[both])
    for number in (0, 1):
        pairs, _ = _matches(tmp_path, _name(number), _name(2))
        found = {j: i for i, j in pairs}
        places = _keypoints(tmp_path, _name(number))[[found[j] for j in both]]
        np.testing.assert_allclose(places, views.project(number, surface), atol=1e-3)


def test_places_next_to_each_other_are_one_key_point_that_stays(views, tmp_path):
    _write(tmp_path, views, _PAIRS[:1])
    before = _keypoints(tmp_path, _name(0))
    _write(tmp_path, views, _PAIRS[1:])
    after = _keypoints(tmp_path, _name(0))
    np.testing.assert_array_equal(after[: len(before)], before)
    assert len(np.unique(np.rint(after), axis=0)) == len(after) > len(before)
    for source, target in _PAIRS:
        pairs, _ = _matches(tmp_path, _name(source), _name(target))
        keypoints = [_keypoints(tmp_path, _name(number)) for number in (source, target)]
        surface = views.surface(target, keypoints[1][pairs[:, 1]])
        away = np.abs(views.project(source, surface) - keypoints[0][pairs[:, 0]])
        # Either place may be moved by less than a pixel.
        assert np.median(away) < 0.5 and away.max() < 3


def test_cells_of_another_size(views, tmp_path):
    counts = []
    for cell in (0.5, 4.0):
        folder = _write(tmp_path / str(cell), views, _PAIRS, cell=cell)
        counts.append(len(_keypoints(folder, _name(0))))
    assert counts[0] > 1.5 * counts[1] and counts[1] <= 25 * 33


def test_a_match_of_both_ways_has_the_lattices_of_both(views, tmp_path):
    with formats.open("hloc", tmp_path, points=1000) as writer:
        writer.add("0", "1", views.match(0, 1, both_ways=True))
    pairs, _ = _matches(tmp_path, "0", "1")
    whole = [
        (_keypoints(tmp_path, name)[each] % 1 == 0).all(axis=-1)
        for name, each in zip("01", pairs.T, strict=True)
    ]
    assert min(np.mean(each) for each in whole) > 0.4
    assert (whole[0] | whole[1]).all()


def test_what_it_has(views, tmp_path):
    _write(tmp_path, views, [(0, 1)])
    with formats.open("hloc", tmp_path) as writer:
        assert writer.has(_name(0), _name(1)) and not writer.has(_name(1), _name(0))
        with pytest.raises(InputError, match="already"):
            writer.add(_name(0), _name(1), views.match(0, 1))
        larger = dataclasses.replace(views.match(0, 2), source=np.zeros((99, 128, 3), np.uint8))
        with pytest.raises(InputError, match=r"128x96 px, as before\. Received: 128x99 px"):
            writer.add(_name(0), _name(2), larger)


def test_no_match_at_all(views, tmp_path):
    _write(tmp_path, views, [(0, 1)], threshold=0.9)
    assert _matches(tmp_path, _name(0), _name(1))[0].shape == (0, 2)


def test_other_files_are_refused(views, tmp_path):
    (tmp_path / "features.h5").write_bytes(b"nothing of HDF5")
    with pytest.raises(OutputError, match=r"Cannot write to .*features.h5: .*signature"):
        _write(tmp_path, views, [(0, 1)])


def test_matches_without_features_are_refused(views, tmp_path):
    _write(tmp_path, views, [(0, 1)])
    (tmp_path / "features.h5").unlink()
    with pytest.raises(InputError, match=r"of no use without features\.h5"):
        formats.open("hloc", tmp_path)


def test_a_pair_that_was_broken_off_is_written_again(views, tmp_path):
    _write(tmp_path, views, [(0, 1)])
    pairs, scores = _matches(tmp_path, _name(0), _name(1))
    with h5py.File(tmp_path / "matches.h5", "a") as file:
        del file["folder-0.jpg"]["folder-1.jpg"]["matching_scores0"]
    with formats.open("hloc", tmp_path) as writer:
        assert not writer.has(_name(0), _name(1))
    _write(tmp_path, views, [(0, 1)])
    for former, again in zip((pairs, scores), _matches(tmp_path, _name(0), _name(1)), strict=True):
        np.testing.assert_array_equal(again, former)
