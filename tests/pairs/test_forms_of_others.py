"""``tfdense match-pairs --format``: forms of other programs, and going on with files for all."""

import json
import sqlite3

import h5py
import numpy as np
import pytest

from tfdense import cli, formats
from tfdense import matcher as matchers
from tfdense.evaluation.truth_files import read_kitti_flow

# By how much each two images of `folder` are shifted.
_SHIFTS = {("1.png", "0.png"): 5, ("2.png", "0.png"): 10, ("2.png", "1.png"): 5}


def _run(*arguments):
    return cli.main(["match-pairs", *map(str, arguments)])


def _entries(output):
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


def _read_colmap(folder):
    """Reads the places of the matches of each pair, target first, as COLMAP reads them."""
    with sqlite3.connect(folder / "database.db") as database:
        names = dict(database.execute("SELECT image_id, name FROM images"))
        places = {
            names[number]: np.frombuffer(data, np.float32).reshape(-1, 2)
            for number, data in database.execute("SELECT image_id, data FROM keypoints")
        }
        rows = database.execute("SELECT pair_id, data FROM matches").fetchall()
    database.close()
    found = {}
    for pair, data in rows:
        pair = [names[number] for number in divmod(pair, 2**31 - 1)]
        numbers = np.frombuffer(data, np.uint32).reshape(-1, 2).T
        sides = {name: places[name][those] for name, those in zip(pair, numbers, strict=True)}
        source, target = sorted(pair, reverse=True)
        found[source, target] = sides[source], sides[target]
    return found


def _read_hloc(folder):
    """Reads the places of the matches of each pair, as hloc reads them."""
    found = {}
    with h5py.File(folder / "features.h5") as features, h5py.File(folder / "matches.h5") as pairs:
        for source in pairs:
            for target in pairs[source]:
                partners = pairs[source][target]["matches0"][:]
                (numbers,) = np.where(partners >= 0)
                places = (features[name]["keypoints"][:] for name in (source, target))
                sides = zip(places, (numbers, partners[numbers]), strict=True)
                found[source, target] = [points[those] for points, those in sides]
    return found


_READERS = {"colmap": _read_colmap, "hloc": _read_hloc}


@pytest.fixture(params=_READERS)
def form(request):
    """A form that gathers all pairs."""
    return request.param


def _check(found, shifts=_SHIFTS):
    assert found.keys() == shifts.keys()
    for pair, (source, target) in found.items():
        assert len(source) == len(target) > 500
        # Key points are shared by what is less than a pixel apart.
        shift = np.abs(np.median(source - target, axis=0))
        np.testing.assert_allclose(shift, (shifts[pair], 0), atol=0.3)


def test_all_pairs_in_the_same_files(backend, folder, tmp_path, form):
    assert _run(folder, "-o", tmp_path / "out", "--format", form) == 0
    _check(_READERS[form](tmp_path / "out"))
    files = [*formats.FORMATS[form].files]
    assert [entry["files"] for entry in _entries(tmp_path / "out")] == [files] * 3


def test_a_pair_that_the_manifest_missed_is_not_added_twice(backend, folder, tmp_path, form):
    output = tmp_path / "out"
    assert _run(folder, "-o", output, "--format", form) == 0
    contents = [(output / name).read_bytes() for name in formats.FORMATS[form].files]
    manifest = output / "manifest.jsonl"
    whole = manifest.read_text()
    # Killed between the last pair's matches and its line.
    manifest.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    backend.runs = 0
    assert _run(folder, "-o", output, "--format", form) == 0
    assert backend.runs == 1
    assert manifest.read_text() == whole
    assert [(output / name).read_bytes() for name in formats.FORMATS[form].files] == contents


def test_an_interrupted_job_goes_on(folder, tmp_path, interrupted, form):
    output = tmp_path / "out"
    with interrupted():
        assert _run(folder, "-o", output, "--format", form) == 130
    assert _run(folder, "-o", output, "--format", form) == 0
    _check(_READERS[form](output))


def test_files_that_were_begun_anew_get_all_pairs(backend, folder, tmp_path, form):
    output = tmp_path / "out"
    assert _run(folder, "-o", output, "--format", form) == 0
    for name in formats.FORMATS[form].files:
        (output / name).unlink()
    # As a process that was killed after one pair leaves it.
    with formats.open(form, output) as writer:
        match = matchers.load().match(folder / "1.png", folder / "0.png")
        writer.add("1.png", "0.png", match)
    backend.runs = 0
    assert _run(folder, "-o", output, "--format", form) == 0
    assert backend.runs == 2
    _check(_READERS[form](output))


def test_what_cannot_be_added_costs_no_other(backend, folder, tmp_path, form, capsys):
    (folder / "list.txt").write_text("1.png 0.png\n1.png 1.png\n2.png 0.png\n")
    assert _run(folder / "list.txt", "-o", tmp_path / "out", "--format", form) == 1
    assert "1.png 1.png: Expected names of two images." in capsys.readouterr().err
    _check(
        _READERS[form](tmp_path / "out"),
        {pair: shift for pair, shift in _SHIFTS.items() if pair[1] == "0.png"},
    )


def test_several_processes_are_refused(backend, folder, tmp_path, form, capsys):
    assert _run(folder, "-o", tmp_path / "out", "--format", form, "--workers", 2) == 2
    assert f"--workers 1 with --format {form}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_both_orders_are_one_pair_of_colmap(backend, folder, tmp_path):
    (folder / "list.txt").write_text("1.png 0.png\n0.png 1.png\n")
    for _ in range(2):
        backend.runs = 0
        assert _run(folder / "list.txt", "-o", tmp_path / "out", "--format", "colmap") == 0
    assert backend.runs == 0
    _check(_read_colmap(tmp_path / "out"), {("1.png", "0.png"): 5})


def test_what_colmap_opened_is_refused(backend, folder, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    with sqlite3.connect(tmp_path / "out" / "database.db") as database:
        database.execute("CREATE TABLE frames (frame_id INTEGER)")
    database.close()
    assert _run(folder, "-o", tmp_path / "out", "--format", "colmap") == 2
    assert "was opened by COLMAP" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", [name for name, form in formats.FORMATS.items() if not form.gathers]
)
def test_a_file_for_each_pair(backend, folder, tmp_path, name):
    output = tmp_path / "out"
    assert _run(folder / "list.txt", "-o", output, "--format", name) == 0
    paths = [entry["files"] for entry in _entries(output)]
    names = [f"pairs/{source}+0.png" for source in ("1.png", "2.png")]
    assert [path[: len(start)] for (path,), start in zip(paths, names, strict=True)] == names
    if name == "kitti":
        for (path,), shift in zip(paths, (5, 10), strict=True):
            flow, valid = read_kitti_flow(output / path)
            assert valid.all()
            np.testing.assert_allclose(np.median(flow, (0, 1)), (shift, 0), atol=0.3)
    (output / paths[0][0]).unlink()
    backend.runs = 0
    assert _run(folder / "list.txt", "-o", output, "--format", name) == 0
    assert backend.runs == 1
    assert (output / paths[0][0]).is_file()
