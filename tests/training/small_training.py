"""``tfdense train`` with the smallest network that can be trained, for tests that start it often.

python small_training.py ARGUMENTS OF TRAIN
"""

import os
import sys
import types

import keras
import tensorflow as tf

from tfdense.cli import main
from tfdense.mixture import LaplaceMixture
from tfdense.models import PRESETS
from tfdense.models.network import MatchingNetwork
from tfdense.networks import Preset

PRESET = "small"


@keras.saving.register_keras_serializable("tests")
class Small(MatchingNetwork):
    """A convolution of both images, normalised."""

    stride, minimum_size = 8, 32
    level_weights = (1.0,)
    mixture = LaplaceMixture(maximum_variance=1e3)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Conv2D(4, 8, strides=8, padding="same", name="first")
        self.last = keras.layers.Conv2D(5, 3, padding="same", name="last")
        self.first.build((None, None, None, 6))
        self.last.build((None, None, None, 4))
        self.built = True

    def call(self, inputs, training=False):
        images = tf.concat([inputs["source"], inputs["target"]], axis=-1)
        raw = self.last(tf.nn.relu(self.first(images / 255.0)))
        whole = self._level(tf.image.resize(raw, tf.shape(images)[1:3]))
        return {**whole, "levels": [self._level(raw)]}

    def _level(self, raw):
        flow, log_variance, logits = tf.split(raw, [2, 1, 2], axis=-1)
        log_variance = self.mixture.constrain(log_variance)
        return {"flow": flow, "log_variance": log_variance, "logits": logits}


def register() -> None:
    """Makes the network a preset."""
    module = types.ModuleType("tfdense.models.small_of_tests")
    module.Small = Small
    sys.modules[module.__name__] = module
    PRESETS[PRESET] = Preset("small_of_tests:Small", {})


def split_cpu(count: int) -> None:
    """Makes several devices of the CPU."""
    device = tf.config.LogicalDeviceConfiguration()
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [device] * count)


if __name__ == "__main__":
    register()
    split_cpu(int(os.environ.get("DEVICES", "1")))
    sys.exit(main(["train", *sys.argv[1:]]))
