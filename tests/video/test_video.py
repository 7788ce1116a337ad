"""``tfdense video``: the films and numbers it writes, and going on where it was broken off."""

import csv
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tfdense import cli
from tfdense.images import write_image
from tfdense.video.reading import open_film
from tfdense.video.writing import write_film

_COUNT = 7


@pytest.fixture
def frames(texture, tmp_path):
    """A folder of frames that move by (4, 2) px; the last three are another scene's."""
    scenes = [texture(100, 160, seed).astype(np.uint8) for seed in (0, 7)]
    for i in range(_COUNT):
        scene = scenes[i // 4]
        picture = scene[30 - 2 * i :, 40 - 4 * i :][:64, :96]
        write_image(tmp_path / "frames" / f"{i}.png", picture)
    return tmp_path / "frames"


def _run(*arguments):
    return cli.main(["video", *map(str, arguments)])


def _entries(output):
    return [json.loads(line) for line in (output / "frames.jsonl").read_text().splitlines()]


def _interrupted(run, after):
    """Does as `run` so many times, then as if Ctrl-C were pressed."""
    left = iter(range(after))

    def interrupted(*images):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return run(*images)

    return interrupted


def _length(path):
    return sum(1 for _ in open_film(str(path)).frames())


def test_frame_to_frame(backend, frames, tmp_path, capsys):
    output, points = tmp_path / "out", tmp_path / "points.txt"
    points.write_text("50 30\n80,20\n", "utf-8-sig")
    assert _run(frames, "-o", output, "--points", points, "--arrays") == 0
    assert {path.name for path in output.iterdir()} == {
        "arrays",
        "frames.jsonl",
        "settings.json",
        "tracks.csv",
        "view.mp4",
    }
    entries = _entries(output)
    assert [entry["frame"] for entry in entries] == list(range(_COUNT))
    assert [entry.get("cut") for entry in entries[1:]] == [False] * 3 + [True] + [False] * 2
    assert _length(output / "view.mp4") == _COUNT - 1
    with np.load(output / "arrays" / "000002.npz") as arrays:
        np.testing.assert_allclose(np.median(arrays["flow"], (0, 1)), (4, 2), atol=0.3)
    rows = list(csv.DictReader((output / "tracks.csv").open()))
    assert len(rows) == 2 * _COUNT
    third = [float(rows[6][key]) for key in ("x", "y", "visible")]
    np.testing.assert_allclose(third, (62, 36, 1), atol=0.7)
    assert rows[-1]["visible"] == "0"
    printed = capsys.readouterr().out
    assert "7 frames" in printed and "another shot from frame 4" in printed


def test_stabilised_to_the_first_frame_of_each_shot(backend, frames, tmp_path):
    output = tmp_path / "out"
    assert _run(frames, "-o", output, "--to", "first", "--keep-frames") == 0
    assert [entry["reference"] for entry in _entries(output)] == [0, 0, 0, 0, 0, 4, 4]
    assert _length(output / "stabilised.mp4") == _COUNT
    pictures = [
        cv2.imread(str(output / "frames" / f"stabilised_{i:06d}.jpg")).astype(int)
        for i in range(_COUNT)
    ]
    moved = [cv2.imread(str(frames / f"{i}.png")).astype(int) for i in range(_COUNT)]
    inside = (slice(10, -10), slice(16, -16))
    for i, first in ((3, 0), (6, 4)):
        before = np.abs(moved[i] - moved[first])[inside].mean()
        after = np.abs(pictures[i] - pictures[first])[inside].mean()
        assert after < 0.4 * before


def test_a_picture_is_found_in_each_frame(backend, frames, tmp_path, capsys):
    output = tmp_path / "out"
    assert _run(frames, "-o", output, "--to", frames / "1.png") == 0
    entries = _entries(output)
    assert [entry["lost"] for entry in entries] == [False] * 4 + [True] * 3
    np.testing.assert_allclose(np.array(entries[3]["homography"])[:2, 2], (-8, -4), atol=0.5)
    assert entries[5]["homography"] is None
    assert "lost in 3" in capsys.readouterr().out


@pytest.mark.parametrize("reference", ["previous", "first", "picture"])
def test_broken_off_and_gone_on_it_is_the_same(backend, frames, tmp_path, reference):
    options = ["--to", frames / "0.png" if reference == "picture" else reference, "--keep-frames"]
    if reference == "previous":
        (tmp_path / "points.txt").write_text("50 30\n")
        options += ["--points", tmp_path / "points.txt"]
    assert _run(frames, "-o", tmp_path / "whole", *options) == 0
    run = backend.run
    for after in (2, 3):
        backend.run = _interrupted(run, after)
        assert _run(frames, "-o", tmp_path / "parts", *options) == 130
    # And once in the middle of a line.
    with (tmp_path / "parts" / "frames.jsonl").open("a") as file:
        file.write('{"frame": ')
    backend.run = run
    assert _run(frames, "-o", tmp_path / "parts", *options) == 0
    whole, parts = (_entries(tmp_path / name) for name in ("whole", "parts"))
    for entry in (*whole, *parts):
        entry.pop("seconds", None)
    assert whole == parts
    pictures = sorted((tmp_path / "whole" / "frames").iterdir())
    assert len(pictures) >= _COUNT - 1
    for picture in pictures:
        assert (tmp_path / "parts" / "frames" / picture.name).read_bytes() == picture.read_bytes()
    backend.runs = 0
    assert _run(frames, "-o", tmp_path / "parts", *options) == 0
    assert backend.runs == 0


def test_a_finished_film_does_not_grow(backend, frames, tmp_path, capsys):
    output = tmp_path / "out"
    assert _run(frames, "-o", output, "--frames", 3) == 0
    assert _run(frames, "-o", output, "--frames", 3) == 0
    assert _length(output / "view.mp4") == 2
    assert _run(frames, "-o", output) == 2
    assert "are finished" in capsys.readouterr().err
    assert _length(output / "view.mp4") == 2


def test_a_film_is_read_as_it_was_written(frames, tmp_path):
    path = tmp_path / "film.avi"
    write_film(path, sorted(frames.iterdir()), 12.5)
    film = open_film(str(path))
    assert (film.count, film.rate, film.is_camera) == (_COUNT, 12.5, False)
    for picture, frame in zip(sorted(frames.iterdir()), film.frames(), strict=True):
        written = cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB)
        assert np.abs(written.astype(int) - frame).mean() < 12


def test_what_was_there_stays(backend, frames, tmp_path, capsys):
    output = tmp_path / "out"
    (output / "frames").mkdir(parents=True)
    (output / "frames" / "mine.png").write_bytes(b"mine")
    assert _run(frames, "-o", output) == 0
    assert [path.name for path in (output / "frames").iterdir()] == ["mine.png"]
    (output / "frames.jsonl").unlink()
    before = (output / "view.mp4").read_bytes()
    assert _run(frames, "-o", output) == 2
    assert "view.mp4 is not of this film. Choose another output." in capsys.readouterr().err
    assert (output / "view.mp4").read_bytes() == before


def test_an_input_is_not_replaced(backend, frames, tmp_path, capsys):
    film, points = tmp_path / "view.mp4", tmp_path / "tracks.csv"
    write_film(film, sorted(frames.iterdir()), 25)
    points.write_text("50 30\n")
    before = film.read_bytes(), points.read_bytes()
    for arguments in ((film,), (frames, "--points", points)):
        assert _run(*arguments, "-o", tmp_path) == 2
        assert "would replace the input" in capsys.readouterr().err
    assert (film.read_bytes(), points.read_bytes()) == before
    assert _run(frames, "-o", tmp_path) == 2
    assert "Expected another output than the folder above" in capsys.readouterr().err
    assert len([*frames.iterdir()]) == _COUNT


def test_results_within_the_folder_of_the_frames_are_no_frames(backend, frames, tmp_path):
    for _ in range(2):
        assert _run(frames, "-o", frames / "out", "--keep-frames") == 0
        assert len(_entries(frames / "out")) == _COUNT


def test_numbers_in_names_count_as_such(frames, tmp_path):
    for path in sorted(frames.iterdir()):
        path.rename(path.with_name(f"{int(path.stem) + 7}.png"))
    first, last = (cv2.imread(str(frames / f"{number}.png")) for number in (7, 13))
    read = [*open_film(str(frames)).frames()]
    assert (read[0] == first[..., ::-1]).all() and (read[-1] == last[..., ::-1]).all()


@pytest.mark.parametrize("exchanged", ["film", "picture"])
def test_another_film_of_the_same_name(backend, frames, tmp_path, capsys, exchanged):
    picture = tmp_path / "picture.png"
    picture.write_bytes((frames / "0.png").read_bytes())
    command = (frames, "-o", tmp_path / "out", "--to", picture, "--frames")
    assert _run(*command, 2) == 0
    (frames / "0.png" if exchanged == "film" else picture).write_bytes(
        (frames / "5.png").read_bytes()
    )
    assert _run(*command, 3) == 2
    assert f"other settings: bytes of the {exchanged} was" in capsys.readouterr().err


def test_one_process_at_a_time(backend, frames, tmp_path, capsys):
    output = tmp_path / "out"
    run = backend.run

    def meanwhile(*images):
        backend.run = run
        if output.exists():
            assert _run(frames, "-o", output) == 2
            assert f"Another process is at work in {output}." in capsys.readouterr().err
        return run(*images)

    backend.run = meanwhile
    assert _run(frames, "-o", output) == 0
    assert len(_entries(output)) == _COUNT


def test_a_film_that_ends_early_says_so(backend, frames, tmp_path, capsys):
    film = tmp_path / "film.avi"
    write_film(film, sorted(frames.iterdir()), 25)
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 2 // 3])
    assert _run(film, "-o", tmp_path / "out") == 0
    assert f"frames of {_COUNT} that the film states" in capsys.readouterr().out


def test_fewer_frames_than_are_done(backend, frames, tmp_path, capsys):
    assert _run(frames, "-o", tmp_path / "out", "--frames", 4) == 0
    assert _run(frames, "-o", tmp_path / "out", "--frames", 3) == 2
    assert "Expected --frames of at least 4, which are done" in capsys.readouterr().err


def test_what_is_refused_at_once_leaves_nothing(backend, frames, tmp_path, capsys):
    write_image(frames / "1.png", np.zeros((12, 12, 3), np.uint8))
    assert _run(frames, "-o", tmp_path / "out") == 2
    assert "12x12" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_broken_frames_print_nothing(frames, tmp_path):
    path = tmp_path / "film.avi"
    write_film(path, sorted(frames.iterdir()), 12.5)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(content)
    code = (
        "import sys; from tfdense.video.reading import open_film\n"
        "print(len([*open_film(sys.argv[1]).frames()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) >= 1 and done.stderr == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("absent.mp4",), "no film absent.mp4"),
        (("text.mp4",), "text.mp4 is no film"),
        (("text.txt",), "text.txt is no film"),
        (("text.png",), "text.png is no film"),
        (("99",), "99 is no camera"),
        (("",), "Expected a film, a folder of images or a camera's number. Received: ''"),
        (("frames", "--to", ""), "Expected --to previous, first or an image file. Received: ''"),
        (("frames", "--to", "film.mp4"), "film.mp4 is not an image that can be decoded"),
        (("frames", "--frames", 1), "--frames to be at least 2"),
        (("frames", "--to", "absent.png"), "no image file absent.png"),
        (("frames", "--to", "first", "--points", "text.mp4"), "--to previous with --points"),
        (("frames", "--points", "text.mp4"), "text.mp4, line 1: expected the x and y of a point"),
        (("frames", "--points", "points.txt"), "points.txt, line 3: expected the x and y"),
        (("frames", "--points", "nan.txt"), "line 1: expected the x and y of a point, in px"),
        (("frames", "--points", "bytes.txt"), "bytes.txt is not UTF-8"),
        (("frames", "--points", "none.txt"), "none.txt holds no point"),
        (("frames", "--points", "absent.txt"), "no list of points absent.txt"),
    ],
)
def test_mistakes(backend, frames, tmp_path, monkeypatch, capfd, options, message):
    monkeypatch.chdir(tmp_path)
    for name in ("text.mp4", "text.txt", "text.png"):
        (tmp_path / name).write_text("no film\n" * 500)
    (tmp_path / "points.txt").write_text("50 30\n\n80,20,7\n1 2\n")
    (tmp_path / "nan.txt").write_text("nan 3\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "none.txt").write_text("\n")
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    assert _run(*options, "-o", "out") == 2
    printed = capfd.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_single_frame_is_no_film(backend, frames, tmp_path, capsys):
    for path in sorted(frames.iterdir())[1:]:
        path.unlink()
    assert _run(frames, "-o", tmp_path / "out") == 2
    assert "two frames at least" in capsys.readouterr().err
