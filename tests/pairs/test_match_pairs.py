"""``tfdense match-pairs``: results, manifest, what fails, and going on."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfdense import cli
from tfdense import matcher as matchers
from tfdense.images import write_image
from tfdense.inference.backends import KerasBackend
from tfdense.matcher import Matcher


def _run(*arguments):
    return cli.main(["match-pairs", *map(str, arguments)])


def _entries(output):
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


def test_a_list_and_its_results(backend, folder, tmp_path, capsys):
    output = tmp_path / "out"
    assert _run(folder / "list.txt", "-o", output) == 0
    entries = _entries(output)
    assert [(e["source"], e["target"], e["status"]) for e in entries] == [
        ("1.png", "0.png", "matched"),
        ("2.png", "0.png", "matched"),
    ]
    for entry, shift in zip(entries, (5, 10), strict=True):
        with np.load(output / entry["files"][0]) as arrays:
            assert {*arrays} == {"flow", "confidence", "radius"}
            assert arrays["flow"].dtype == arrays["confidence"].dtype == np.float32
            np.testing.assert_allclose(np.median(arrays["flow"], (0, 1)), (shift, 0), atol=0.3)
        assert entry["matched"] == 1
    assert "2 of 2 pairs have a result" in capsys.readouterr().out


def test_a_folder_is_each_two_of_its_images(backend, folder, tmp_path):
    assert _run(folder, "-o", tmp_path / "out", "--format", "matches", "--matches", 50) == 0
    entries = _entries(tmp_path / "out")
    assert {(e["target"], e["source"]) for e in entries} == {
        ("0.png", "1.png"),
        ("0.png", "2.png"),
        ("1.png", "2.png"),
    }
    with np.load(tmp_path / "out" / entries[0]["files"][0]) as arrays:
        assert arrays["source"].shape == arrays["target"].shape == (50, 2)
        shift = arrays["source"] - arrays["target"]
        np.testing.assert_allclose(np.abs(np.median(shift, axis=0)), (5, 0), atol=0.3)


def test_broken_pairs_are_named_and_tried_again(backend, folder, tmp_path, capsys):
    output, listed = tmp_path / "out", folder / "list.txt"
    (folder / "broken.png").write_bytes(b"no image")
    listed.write_text("1.png 0.png\nbroken.png 0.png\nabsent.png 1.png\n2.png 0.png\n")
    assert _run(listed, "-o", output) == 1
    printed = capsys.readouterr()
    assert "2 of 4 pairs have a result" in printed.out
    assert "broken.png 0.png: " in printed.err and "absent.png" in printed.err
    shutil.copy(folder / "2.png", folder / "broken.png")
    (folder / "absent.png").write_bytes((folder / "2.png").read_bytes())
    backend.runs = 0
    assert _run(listed, "-o", output) == 0
    assert backend.runs == 2


def test_what_is_done_is_not_done_again(backend, folder, tmp_path, capsys):
    output = tmp_path / "out"
    _run(folder, "-o", output)
    first, *_ = entries = _entries(output)
    contents = {e["files"][0]: (output / e["files"][0]).read_bytes() for e in entries}
    # A result that was lost, and a process that was killed in the middle of a line.
    (output / first["files"][0]).unlink()
    with (output / "manifest.jsonl").open("a") as file:
        file.write('{"source": "1.p')
    backend.runs = 0
    assert _run(folder, "-o", output) == 0
    assert backend.runs == 1
    assert "2 of 3 pairs are done already" in capsys.readouterr().out
    assert {name: (output / name).read_bytes() for name in contents} == contents
    assert len(_entries(output)) == 4
    backend.runs = 0
    assert _run(folder, "-o", output) == 0
    assert backend.runs == 0


def test_an_interrupted_job_goes_on(backend, folder, tmp_path, interrupted):
    output = tmp_path / "out"
    with interrupted():
        assert _run(folder, "-o", output) == 130
    backend.runs = 0
    assert _run(folder, "-o", output) == 0
    assert 1 <= backend.runs <= 3
    assert len({entry["files"][0] for entry in _entries(output)}) == 3


def test_results_of_other_settings_are_not_mixed(backend, folder, tmp_path, capsys):
    output = tmp_path / "out"
    assert _run(folder / "list.txt", "-o", output) == 0
    assert _run(folder / "list.txt", "-o", output, "--radius", 3) == 2
    assert "radius was None, is 3.0" in capsys.readouterr().err
    assert _run(folder / "list.txt", "-o", output, "--max-side", 320) == 2
    assert "max_side was 640, is 320" in capsys.readouterr().err


def test_results_below_the_images_are_no_images(backend, folder, capsys):
    for _ in range(2):
        assert _run(folder, "-o", folder / "out", "--format", "folder") == 0
        assert "3 of 3 pairs have a result" in capsys.readouterr().out
    assert _run(folder, "-o", folder) == 2
    assert "Expected another output than the folder of the images" in capsys.readouterr().err


def test_one_process_at_a_time(backend, folder, tmp_path, capsys):
    output, run = tmp_path / "out", backend.run

    def meanwhile(*images):
        backend.run = run
        if output.exists():
            assert _run(folder, "-o", output) == 2
            assert f"Another process is at work in {output}." in capsys.readouterr().err
        return run(*images)

    backend.run = meanwhile
    assert _run(folder, "-o", output) == 0
    assert len(_entries(output)) == 3


def test_a_line_of_the_manifest_that_is_none_is_named(backend, folder, tmp_path, capsys):
    output = tmp_path / "out"
    assert _run(folder, "-o", output) == 0
    lines = (output / "manifest.jsonl").read_text().splitlines()
    (output / "manifest.jsonl").write_text("\n".join([lines[0], "nothing", *lines[1:], ""]))
    assert _run(folder, "-o", output) == 2
    assert "manifest.jsonl, line 2, is not what tfdense writes. Remove" in capsys.readouterr().err


def test_a_folder_of_images_that_is_none_leaves_nothing(backend, folder, tmp_path, capsys):
    assert _run(folder / "list.txt", "--images", "nowhere", "-o", tmp_path / "out") == 2
    assert "Expected a folder of images. Received: nowhere" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("list.txt", "--workers", 0), "--workers to be at least 1"),
        (("list.txt", "--batch-size", 0), "--batch-size to be at least 1"),
        (("list.txt", "--retrieve", 2), "--retrieve with a folder"),
        (("list.txt", "--threshold", 2), "threshold in 0..1"),
        (("", "--images", "."), "--images with a list"),
        (("absent.txt",), "no list of pairs"),
    ],
)
def test_mistakes(backend, folder, tmp_path, capsys, options, message):
    name, *others = options
    assert _run(folder / name, "-o", tmp_path / "out", *others) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_job(backend, folder, tmp_path, capsys, full_disk):
    output = tmp_path / "out"
    with full_disk():
        assert _run(folder, "-o", output, "--format", "folder") == 2
    assert "Cannot write to" in capsys.readouterr().err
    assert not (output / "manifest.jsonl").exists(), "the disk is at fault, not a pair"


def test_exported_files_cannot_describe_images(backend, folder, tmp_path, capsys):
    assert _run(folder, "-o", tmp_path / "out", "--retrieve", 1) == 2
    assert "Give a list of pairs" in capsys.readouterr().err


class Colours(KerasBackend):
    """Of an image, its features are its colours."""

    has_features = True

    def __init__(self, backend):
        self._backend = backend
        self.mixture, self.working_size, self.run = (
            backend.mixture,
            backend.working_size,
            backend.run,
        )

    def features(self, images):
        return [tf.constant(images, tf.float32), tf.image.resize(images / 255 - 0.5, (4, 6))]


def test_images_that_look_alike_are_retrieved(
    shifts, folder, texture, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(matchers, "load", lambda *use: Matcher(Colours(shifts())))
    monkeypatch.setattr("tfdense.matcher.reusing", lambda backend: backend)
    other = texture(64, 120, seed=4).astype(np.uint8) // 2
    for i in range(2):
        write_image(folder / f"other_{i}.png", other[:, 4 * i :][:, :96])
    (folder / "broken.png").write_bytes(b"no image")
    assert _run(folder, "-o", tmp_path / "out", "--retrieve", 1) == 0
    pairs = {frozenset((e["source"][0], e["target"][0])) for e in _entries(tmp_path / "out")}
    # No scene with the other: "other" only with "other".
    assert frozenset("o") in pairs
    assert not [pair for pair in pairs if len(pair) == 2 and "o" in pair]
    assert "left out: " in capsys.readouterr().err


@pytest.mark.slow
def test_several_processes_give_the_same(folder, tmp_path):
    for workers in (1, 2):
        output = tmp_path / str(workers)
        options = ("--max-side", 64, "--workers", workers)
        assert _run(folder, "-o", output, *options) == 0
    one, two = ({e["files"][0]: e for e in _entries(tmp_path / str(n))} for n in (1, 2))
    assert one.keys() == two.keys() and len(one) == 3
    for name in one:
        with np.load(tmp_path / "1" / name) as a, np.load(tmp_path / "2" / name) as b:
            np.testing.assert_allclose(a["flow"], b["flow"], atol=0.02)
