"""Named settings of the matcher."""

import numpy as np
import pytest

import tfdense
from tfdense import matcher
from tfdense.cli import main
from tfdense.errors import InputError
from tfdense.inference.settings import SETTINGS


@pytest.fixture
def loaded(monkeypatch):
    """What `tfdense.load` asks for."""
    received = []
    monkeypatch.setattr(matcher, "load", lambda *arguments: received.append(arguments))
    return received


def test_a_setting_is_a_size_and_a_mode_filled_or_not(loaded):
    tfdense.load("run")
    tfdense.load("run", setting="turbo")
    tfdense.load("run", setting="precise")
    tfdense.load("run", setting="plane")
    assert loaded == [
        ("run", 640, "direct", False, True, False),
        ("run", 320, "direct", False, False, False),
        ("run", 960, "wide-baseline", True, True, False),
        ("run", 640, "plane", False, True, False),
    ]
    *by_effort, plane = SETTINGS
    assert by_effort == ["turbo", "fast", "base", "precise"] and plane == "plane"
    sides = [SETTINGS[name].max_side for name in by_effort]
    assert sides == sorted(sides)


def test_what_is_given_wins_over_the_setting(loaded):
    tfdense.load("run", max_side=100, setting="precise")
    tfdense.load("run", mode="multiscale", setting="fast")
    tfdense.load("run", setting="precise", fill=False)
    assert loaded == [
        ("run", 100, "wide-baseline", True, True, False),
        ("run", 480, "multiscale", False, True, False),
        ("run", 960, "wide-baseline", False, True, False),
    ]


def test_unknown_setting_is_refused(loaded):
    with pytest.raises(InputError, match=r"turbo, fast, base, precise, plane\. Received: 'best'"):
        tfdense.load("run", setting="best")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("setting", [], r"a setting of turbo, .* Received: \[\]"),
        ("mode", [], r"a mode of direct, .* Received: \[\]"),
        ("mode", {"direct": 1}, "a mode of direct, .* Received: {'direct': 1}"),
        ("fill", "no", "fill to be True or False. Received: 'no'"),
        ("fill", "--", "fill to be True or False. Received: '--'"),
        ("fill", np.ones(2), r"fill to be True or False. Received: array\("),
        ("fill", 1, "fill to be True or False. Received: 1"),
        ("max_side", np.nan, "max_side to be a whole number, in px. Received: nan"),
        ("max_side", np.inf, "max_side to be a whole number, in px. Received: inf"),
        ("max_side", "320", "max_side to be a whole number, in px. Received: '320'"),
        ("max_side", [320], r"max_side to be a whole number, in px. Received: \[320\]"),
        ("max_side", True, "max_side to be a whole number, in px. Received: True"),
        ("tiles", (2, 0, 3), r"tiles to be True, False or .* Received: \(2, 0, 3\)"),
        ("tiles", (np.inf, 2), r"tiles to be True, False or .* Received: \(inf, 2\)"),
    ],
)
def test_what_is_no_value_of_a_setting_is_refused(loaded, name, value, message):
    with pytest.raises(InputError, match=f"^Expected {message}"):
        tfdense.load("run", **{name: value})
    assert not loaded


def test_numbers_of_numpy_are_numbers(loaded):
    tfdense.load("run", max_side=np.int64(320), fill=np.bool_(True), tiles=np.array([2, 3]))
    assert loaded == [("run", 320, "direct", True, True, (2, 3))]
    assert [type(value) for value in loaded[0][1:4]] == [int, str, bool]


@pytest.mark.parametrize("command", ["match a b", "match-pairs p -o o", "evaluate points --data d"])
@pytest.mark.parametrize("tiles", ["2by3", "1000000x1000000", f"{'1' * 5000}x2"], ids=len)
def test_tiles_that_are_none_are_refused_by_the_name_of_the_option(command, tiles, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*command.split(), "--tiles", tiles])
    assert exit_.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    start = f"tfdense {command.split()[0]}: error: argument --tiles: Expected tiles of auto, none,"
    assert line.startswith(start) and f"Received: '{tiles[:9]}"[:-1] in line and len(line) < 250


def test_the_command_line_passes_all_on(monkeypatch, tmp_path):
    received = []

    def load(*arguments):
        received.append(arguments)
        raise InputError("Enough.")

    monkeypatch.setattr(matcher, "load", load)
    image = tmp_path / "a.ppm"
    image.write_bytes(b"P6 32 32 255\n" + bytes(32 * 32 * 3))
    arguments = ["match", str(image), str(image), "-o", str(tmp_path)]
    main([*arguments, "--setting", "precise", "--mode", "multiscale"])
    main([*arguments, "--max-side", "256", "--fill", "--tiles", "auto"])
    main([*arguments, "--no-fill", "--tiles", "2x3"])
    assert received == [
        ("pdcnet-lite", 960, "multiscale", True, True, False),
        ("pdcnet-lite", 256, "direct", True, True, True),
        ("pdcnet-lite", 640, "direct", False, True, (2, 3)),
    ]


def test_a_picture_is_sought_in_a_film_unless_the_setting_does_so_already(monkeypatch, tmp_path):
    received = []

    def load(*arguments):
        received.append(arguments)
        raise InputError("Enough.")

    monkeypatch.setattr(matcher, "load", load)
    for name in ("a", "b", "picture"):
        (tmp_path / f"{name}.ppm").write_bytes(b"P6 32 32 255\n" + bytes(32 * 32 * 3))
    picture = tmp_path / "picture.ppm"
    arguments = ["video", str(tmp_path), "-o", str(tmp_path / "out"), "--to"]
    main([*arguments, "first"])
    main([*arguments, str(picture)])
    main([*arguments, str(picture), "--mode", "direct"])
    main([*arguments, str(picture), "--setting", "plane"])
    assert [(side, mode) for _, side, mode, *_ in received] == [
        (480, "direct"),
        (480, "wide-baseline"),
        (480, "direct"),
        (640, "plane"),
    ]


@pytest.mark.parametrize(
    ("command", "lines"), [("match", 40), ("match-pairs", 40), ("video", 40), ("evaluate", None)]
)
def test_help_leads_with_the_setting_and_fits_a_screen(command, lines, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([command, "-h"])
    shown = capsys.readouterr().out.partition("data sets and the layouts")[0]
    assert all(
        shown.count(f"\n  {option}") == 1 for option in ("--setting ", "--fill, ", "--mode ")
    )
    assert shown.index("--setting NAME") < shown.index("in place of what the setting says:")
    assert shown.index("in place of what the setting says:") < shown.index("--mode MODE")
    assert max(map(len, shown.splitlines())) <= 80
    assert lines is None or len(shown.splitlines()) <= lines
