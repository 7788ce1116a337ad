"""The networks take the same training steps under JAX as under TensorFlow, pairs included."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfdense import bundle
from tfdense.config import load_config
from tfdense.exporting.bundled_pairs import bundled_pairs
from tfdense.exporting.training_bundle import export_bundle, new_trainer
from tfdense.models.presets import PRESETS

pytest.importorskip("jax")

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).resolve().parents[2]
_LITE = PRESETS["pdcnet-lite"]
_SMALL = [
    "data.photos=null",
    "data.validation_photos=null",
    "train.validation_pairs=1",
]


class Both:
    """The same training twice: a bundle in JAX, and a trainer in TensorFlow.

    Args:
        file: of the configuration, below the root of the project.
        settings: that differ from it.
        folder: of the bundle; it is new.
    """

    def __init__(self, file, settings, folder):
        self.config = load_config(_ROOT / file, [*_SMALL, *settings])
        self.pairs = bundled_pairs(self.config)
        export_bundle(self.config, folder, self.pairs)
        self.bundle = bundle.Bundle(folder)
        (name,) = (n for n in self.bundle.manifest["programs"] if n.startswith("train-"))
        self.start = self.bundle.initial_state()
        self.in_jax = bundle.Step(self.bundle, name, self.start, self.bundle.data())
        self.trainer = new_trainer(self.config)
        for key, variable in self.trainer.state.items():
            variable.assign(self.start[key])
        arrays = {key: tf.constant(value) for key, value in self.bundle.data().items()}
        make = tf.function(
            lambda step: self.pairs.make(arrays, step, self.config),
            jit_compile=True,
            autograph=False,
        )
        take = self.trainer.build_step()
        self.in_tensorflow = lambda number: take(make(tf.constant(number, tf.int64)))

    def changes(self):
        """Yields of each array of the state what JAX changed and what TensorFlow did."""
        state = self.in_jax.state
        for name, variable in self.trainer.state.items():
            if variable.dtype.is_floating:
                before = self.start[name]
                yield name, state[name] - before, variable.numpy() - before


def test_twenty_steps_of_what_ships(tmp_path):
    """Of the last stage of experiments/README.md, from the weights that ship, on small images."""
    options = [f"model.options.{name}={value}" for name, value in _LITE.trained_options.items()]
    weights = _ROOT / "tfdense" / "weights" / _LITE.weights
    settings = [
        *options,
        f"train.initial_weights={weights}",
        "loss.level_weights=[0.3,0.5,1.0,1.0]",
        "data.size=128",
        "train.batch_size=2",
    ]
    both = Both("experiments/pdcnet_lite/larger.yaml", settings, tmp_path / "bundle")
    for number in range(20):
        ours, theirs = both.in_jax(number), both.in_tensorflow(number)
        assert float(ours["loss"]) == pytest.approx(float(theirs[0]), rel=1e-4), number
    for name, ours, theirs in both.changes():
        if name.startswith(("model/", "average/")):
            # Adam takes steps of one size where a gradient is nothing but rounding, too.
            assert np.linalg.norm(ours - theirs) <= 0.1 * np.linalg.norm(theirs) + 1e-7, name


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("configs/pwc_unet_likelihood.yaml", ["data.size=64"]),
        ("configs/pwc_unet.yaml", ["data.size=64"]),
        ("configs/pdcnet_stage1.yaml", ["data.size=256", "model.options.backbone_weights=null"]),
    ],
)
def test_one_step_of_the_others(file, settings, tmp_path):
    both = Both(file, [*settings, "train.batch_size=1"], tmp_path / "bundle")
    ours, theirs = both.in_jax(0), both.in_tensorflow(0)
    assert float(ours["loss"]) == pytest.approx(float(theirs[0]), rel=1e-4)
    assert float(ours["gradient_norm"]) == pytest.approx(float(theirs[1]), rel=1e-2)
    moved = [name for name, ours, theirs in both.changes() if np.any(theirs)]
    assert len(moved) > 20
    for name, ours, theirs in both.changes():
        if name.startswith("model/"):
            assert np.linalg.norm(ours - theirs) <= 0.1 * np.linalg.norm(theirs) + 1e-7, name
