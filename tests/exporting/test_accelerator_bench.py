"""`bench/accelerator.py` on this CPU with a small network: what a GPU does with large ones."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfdense import bundle

pytest.importorskip("jax")

pytestmark = pytest.mark.slow

BENCH = Path(__file__).resolve().parents[2] / "bench"
SETTINGS = [
    "model.preset=tiny",
    "loss.level_weights=[1.0]",
    "train.steps=40",
    "train.validation_pairs=2",
    "data.objects.probability=0",
    "data.perturbation.probability=0",
    "data.photometry.probability=0",
]
TRAINS = "train-32x2-float32"
LOCAL, GLOBAL = "local-2x4x4x64", "global-2x2x2x96"


@pytest.fixture(scope="module")
def script():
    """The script as a module, as it is imported beside the other benches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        yield importlib.import_module("accelerator")


@pytest.fixture(scope="module")
def folder(tiny, script, tmp_path_factory):
    """A bundle as the script writes it."""
    folder = tmp_path_factory.mktemp("bench") / "bundle"
    options = (
        "--programs 32x2 --precisions float32 --match 32x40 --networks tiny --radius 1 --rates 64"
    )
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    assert script.main([str(folder), *options.split(), *settings]) == 0
    return folder


def test_it_measures_and_trains_with_numpy_and_jax_alone(folder, tmp_path):
    for name in ("tensorflow", "keras", "tfdense", "cv2", "flatbuffers", "PIL"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is not here')")
    command = [sys.executable, "bundle/measure.py", "--minutes", "30"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder.parent, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = {line.partition(":")[0]: line for line in done.stdout.splitlines()}
    assert "pairs/s, making the pairs " in lines[TRAINS]
    for name in (LOCAL, GLOBAL):
        for way in ("forward", "backward"):
            line = lines[f"{name}-{way}"]
            assert "GB/s (" in line and "GFLOP/s (" in line and "plainly " in line
    assert " ms;" in lines["match-tiny-32x40"]
    assert "step 40 is in " in done.stdout
    assert f"--from-bundle {folder} " in done.stdout.splitlines()[-2]

    opened = bundle.Bundle(folder)
    programs = json.loads((folder / "measured.json").read_bytes())["programs"]
    assert programs.keys() == opened.manifest["programs"].keys()
    assert all(entry["seconds"] > 0 for entry in programs.values())
    assert opened.checkpoint(folder / "checkpoints")[0]["step"] == 40


def test_both_forms_of_a_correlation_are_the_same_and_counted(folder):
    opened = bundle.Bundle(folder)
    draw = np.random.default_rng(0)
    for name, counts in ((LOCAL, 9), (GLOBAL, 4)):
        shape = [int(side) for side in name.split("-")[1].split("x")]
        arrays = {key: draw.normal(size=shape).astype(np.float32) for key in ("target", "source")}
        arrays["upstream"] = draw.normal(size=[*shape[:3], counts]).astype(np.float32)
        features, scores = arrays["target"].size, arrays["upstream"].size
        for way, moved, factor in (("forward", 2, 1), ("backward", 4, 2)):
            entry = opened.manifest["programs"][f"{name}-{way}"]
            assert entry["bytes"] == 4 * (moved * features + scores)
            assert entry["operations"] == 2 * factor * shape[3] * scores
            ours = opened.program(f"{name}-{way}")(arrays)
            plain = opened.program(f"{name}-{way}-plain")(arrays)
            for key, value in plain.items():
                assert np.abs(value).max() > 0.1
                np.testing.assert_allclose(ours[key], value, atol=1e-4)


def test_what_is_not_compiled_in_time_is_left_out(folder, script):
    train = script._import_train(folder)
    measured = script.measure(train, train.Bundle(folder), ["pairs-32x2"], 0.0)
    assert measured["programs"]["pairs-32x2"] == {"problem": "not compiled after 0 s"}
    assert script.report(measured)[1] == "pairs-32x2: not compiled after 0 s"


def test_a_damaged_bundle_is_refused_in_one_line(folder, script, capsys):
    path = folder / "programs" / "rate-copy.stablehlo.gz"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert script.run(folder, 0.1, ["rate"]) == 2
    path.write_bytes(content)
    (line,) = capsys.readouterr().err.splitlines()
    assert "rate-copy.stablehlo.gz is cut or changed" in line
