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
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [half, half])
config = load_config(None, ["model.options.radius=1", "data.size=64", "train.batch_size=2", "train.steps=3",
    "train.warmup_steps=0", "train.log_every=1", "train.validation_pairs=2"])
losses = []
for name, strategy in [
    ("one", tf.distribute.OneDeviceStrategy("CPU:0")),
    ("two", tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])),
]:
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    Trainer(config, folder, strategy).train()
    losses.append([float(r["loss"]) for r in read_metrics(folder / "metrics.csv") if r["loss"]])
print(losses)
for one, two in zip(*losses, strict=True):
    assert abs(one - two) < 1e-3 * one
"""


@pytest.mark.slow
def test_two_devices_train_as_one(tmp_path):
    program = [sys.executable, "-c", _PROGRAM, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(program, capture_output=True, text=True, cwd=root)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
