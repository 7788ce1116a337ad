"""Checks what a wheel installs, in an environment that holds nothing else: `make test-wheel`.

Run in the checkout as ``python -I tests/wheel_check.py WHEEL``, so that nothing of it is imported.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

_LARGEST = 15_000_000
_CHECKOUT = Path.cwd()
_SMALL = (
    "--steps 1 --set data.size=64 --set train.batch_size=1 --set train.validation_pairs=1 "
    "--set data.objects.probability=0 --set data.photometry.probability=0"
)
_MATCH = """
import sys
import numpy as np
import tfdense
from tfdense.data import bundled_pair

assert "site-packages" in tfdense.__file__, tfdense.__file__
match = tfdense.load(sys.argv[1], setting="fast").match(*bundled_pair())
share = float((match.confidence > 0.5).mean())
assert share > 0.1, f"only {share:.0%} of the pair that comes along is matched"
print(tfdense.__version__, match)
"""


def main(wheel: Path) -> None:
    """Raises if the wheel is too large or lacks a file, or what it installs does not work."""
    size = wheel.stat().st_size
    assert size < _LARGEST, f"{wheel} has {size} bytes, more than {_LARGEST}."
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = (path for path in (_CHECKOUT / "tfdense").rglob("*") if path.is_file())
    names = {path.relative_to(_CHECKOUT).as_posix() for path in files if path.suffix != ".pyc"}
    assert names <= packed, f"{wheel} lacks {sorted(names - packed)}."
    pair = [str(_CHECKOUT / f"tfdense/data/pair/{role}.jpg") for role in ("source", "target")]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        _tfdense("match", *pair, "--setting", "turbo", "-o", "out")
        assert Path("out/overview.png").stat().st_size
        subprocess.run([sys.executable, "-I", "-c", _MATCH, "pdcnet-lite"], check=True)
        _tfdense("train", *_SMALL.split())
        assert Path("runs/default/best.weights.h5").is_file()
        _tfdense("export", "tflite", "pdcnet-lite", "-o", "pdcnet.tflite")
        subprocess.run([sys.executable, "-I", "-c", _MATCH, "pdcnet.tflite"], check=True)
        os.chdir(_CHECKOUT)
    print(f"{wheel}: {size / 1e6:.1f} MB, works.")


def _tfdense(*words: str) -> None:
    subprocess.run([Path(sys.executable).with_name("tfdense"), *words], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
