"""Named settings of the matcher."""

import pytest

import tfdense
from tfdense.cli import main
from tfdense.errors import InputError
from tfdense.inference import matcher
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
