"""What a process has in memory, over many matchers and over many sizes of image."""

import os
import subprocess
import sys

import pytest

from tfdense.exporting import export_saved_model, export_tflite

pytestmark = pytest.mark.slow

_COMMON = """
import gc, random, sys
import numpy as np
import tfdense
from tfdense.data.photos import bundled_pair

def resident():  # in MiB
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
"""
_ROUNDS = """
for i in range(30):
    matcher = tfdense.load(sys.argv[1], setting="turbo")
    matcher.match(*bundled_pair())
    del matcher
    now = resident()
    if i in (2, 29):
        print(now)
"""
_SIZES = """
matcher = tfdense.load(sys.argv[1], setting="turbo")
draw = random.Random(0)
images = [np.random.default_rng(i).integers(0, 255, (640, 640, 3), np.uint8) for i in range(2)]
for i in range(500):
    height, width = (640, 640) if i < 3 else (draw.randrange(64, 641) for _ in range(2))
    matcher.match(*(image[:height, :width] for image in images))
    if i in (2, 499):
        print(resident())
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    export_saved_model("pdcnet-lite", folder / "served")
    export_tflite("pdcnet-lite", folder / "device.tflite", size=(128, 128))
    return {
        "Keras": "pdcnet-lite",
        "SavedModel": folder / "served",
        "LiteRT": folder / "device.tflite",
    }


@pytest.mark.parametrize("form", ["Keras", "SavedModel", "LiteRT"])
@pytest.mark.parametrize("what", [_ROUNDS, _SIZES], ids=["rounds", "sizes"])
def test_memory_does_not_grow(models, form, what):
    # oneDNN keeps code for each size, 100 to 230 MiB once it has met some hundred.
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0" if what == _SIZES else "1"}
    command = [sys.executable, "-c", _COMMON + what, str(models[form])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    print(f"{before:.0f} -> {after:.0f} MiB")
    assert after - before < 20
