"""Two devices compute what one does."""

import subprocess
import sys
from pathlib import Path

import pytest

# The devices have to be split before TensorFlow starts, hence a process of its own.
_PROGRAM = """
import sys
from pathlib import Path
import tensorflow as tf
from tfdense.config import load_config
from tfdense.training.records import read_metrics
from tfdense.training.trainer import Trainer

half = tf.config.LogicalDeviceConfiguration()
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [half, half])
config = load_config(None, ["model.options.radius=1", "data.size=64", "train.batch_size=4",
    "train.steps=3", "train.warmup_steps=0", "train.log_every=1", "train.validation_pairs=2"])
curves = []
for name, strategy in [
    ("one", tf.distribute.OneDeviceStrategy("CPU:0")),
    ("two", tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])),
]:
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    Trainer(config, folder, strategy).train()
    rows = [row for row in read_metrics(folder / "metrics.csv") if row["loss"]]
    curves.append([(float(row["loss"]), float(row["gradient_norm"])) for row in rows])
print(curves)
# Adam amplifies rounding in its first steps, so the later ones agree less closely.
for one, two, bound in zip(*curves, [1e-4, 1e-2, 1e-2], strict=True):
    assert abs(one[0] - two[0]) < bound * one[0]
assert abs(curves[0][0][1] - curves[1][0][1]) < 1e-3 * curves[0][0][1]
"""


@pytest.mark.slow
def test_two_devices_train_as_one(tmp_path):
    program = [sys.executable, "-c", _PROGRAM, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(program, capture_output=True, text=True, cwd=root)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
