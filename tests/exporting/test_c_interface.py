"""An exported SavedModel answers a program in C, without Python, as it answers here."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfdense.exporting.verification import read_pair
from tfdense.saved_models import SavedModel

_LIBRARIES = Path(tf.__file__).parent
_SIZE = (96, 128)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program, compiled against the libraries that TensorFlow's package holds."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc")
    path = tmp_path_factory.mktemp("program") / "match"
    command = [compiler, "-Wall", "-Werror", f"-I{_LIBRARIES / 'include'}"]
    command += [str(Path(__file__).with_name("match.c")), "-o", str(path)]
    command += [str(_LIBRARIES / f"libtensorflow_{part}.so.2") for part in ("cc", "framework")]
    subprocess.run([*command, f"-Wl,-rpath,{_LIBRARIES}"], check=True)
    return path


def test_match_in_c(program, exported_report, tmp_path):
    folder = exported_report.path
    model = SavedModel(folder)
    images = dict(zip(("source", "target"), read_pair(_SIZE), strict=True))
    expected = model.run("match", {name: image[None] for name, image in images.items()})["flow"]
    for name, image in images.items():
        (tmp_path / name).write_bytes(image.tobytes())
    definition = model.definitions["match"]
    command = [program, folder, *map(str, _SIZE), tmp_path / "source", tmp_path / "target"]
    command += [definition.inputs[name].name for name in images]
    command += [definition.outputs["flow"].name, tmp_path / "flow"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    flow = np.fromfile(tmp_path / "flow", np.float32).reshape(expected.shape)
    np.testing.assert_allclose(flow, expected, atol=1e-3)
    assert np.ptp(flow) > 1

    broken = subprocess.run([program, tmp_path, *command[2:]], capture_output=True, check=False)
    assert broken.returncode == 1 and b"SavedModel" in broken.stderr
