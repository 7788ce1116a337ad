"""The measurements start, at least, and those of devices give their tables."""

import importlib
import sys
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parents[1] / "bench"
# What environments of their own have.
_FOREIGN = {"addons": "tensorflow_addons", "kserve_server": "kserve"}
_MODULES = [path.stem for path in sorted(_FOLDER.glob("*.py"))]


@pytest.mark.parametrize("name", _MODULES)
def test_imports(name, monkeypatch):
    if name in _FOREIGN:
        pytest.importorskip(_FOREIGN[name])
    monkeypatch.setattr(sys, "path", [*sys.path, str(_FOLDER)])  # some are run as scripts
    assert importlib.import_module(f"bench.{name}").__doc__


@pytest.mark.slow
def test_devices(tmp_path, monkeypatch, capsys):
    from bench import device
    from tfdense import cli

    file = str(tmp_path / "small.tflite")
    assert cli.main(["export", "tflite", "pdcnet-lite", "-o", file, "--size", "64x64"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(
        sys, "argv", ["device", file, "--rounds", "1", "--methods", "DIS", "SIFT + homography"]
    )
    assert device.main() == 0
    printed = capsys.readouterr().out
    for row in ("| small.tflite | 64x64 | float32 |", "| DIS |", "| SIFT + homography |"):
        assert row in printed, printed
    assert "times the convolutions" in printed
