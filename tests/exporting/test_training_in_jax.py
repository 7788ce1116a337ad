"""The networks take the same training steps under JAX as under TensorFlow, pairs included."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfdense import bundle
from tfdense.config import load_config
from tfdense.exporting.bundled_pairs import bundled_pairs
from tfdense.exporting.training_bundle import export_bundle, new_trainer
from tfdense.layers.convolution import ConvolutionBlock
from tfdense.networks import PRESETS

jax = pytest.importorskip("jax")

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
        pairs, name = sorted(self.bundle.manifest["programs"])
        self._make_in_jax = jax.jit(self.bundle.program(pairs))
        self.start = self.bundle.initial_state()
        self.in_jax = bundle.Step(self.bundle, name, self.start, self.bundle.data())
        self.trainer = new_trainer(self.config)
        self.give(self.start)
        arrays = {key: tf.constant(value) for key, value in self.bundle.data().items()}
        self._make = tf.function(
            lambda step: self.pairs.make(arrays, step, self.config),
            jit_compile=True,
            autograph=False,
        )
        self._take = self.trainer.build_step()

    def in_tensorflow(self, number):
        """Takes a step of pairs that TensorFlow makes; returns its loss."""
        return float(self._take(self._make(tf.constant(number, tf.int64)))[0])

    def give(self, state):
        """Lets TensorFlow go on from a state."""
        for name, variable in self.trainer.state.items():
            variable.assign(state[name])

    def take_each(self, number):
        """Takes a step in each, in TensorFlow both of the pairs that it makes and of JAX's.

        Returns:
            JAX's loss; how far TensorFlow's is, relatively, of its own pairs and of the same.
        """
        pairs = {key: np.asarray(x) for key, x in self._pairs_of_jax(number).items()}
        start = self.in_jax.state
        own = self.in_tensorflow(number)
        self.give(start)
        ours, theirs = self.in_jax(number), self._take(pairs)
        assert float(ours["gradient_norm"]) == pytest.approx(float(theirs[1]), rel=1e-2), number
        loss = float(ours["loss"])
        return loss, *(abs(float(x) - loss) / abs(loss) for x in (own, theirs[0]))

    def _pairs_of_jax(self, number):
        return self._make_in_jax({**self.bundle.data(), "step": np.int64(number)})

    def deviations(self, group, atol=0.0):
        """Returns how far each array of JAX is from that of TensorFlow, relative to the latter.

        Args:
            group: beginning of the arrays' names.
            atol: norm of a difference that is none.
        """
        state = self.in_jax.state
        expected = {
            name: variable.numpy()
            for name, variable in self.trainer.state.items()
            if name.startswith(group) and not self._only_rounding(variable)
        }
        return [
            max(np.linalg.norm(state[name] - array) - atol, 0) / max(np.linalg.norm(array), 1e-12)
            for name, array in expected.items()
            if array.dtype.kind == "f"
        ]

    def _only_rounding(self, variable):
        """Whether it is a bias before a normalisation, or a moment of one.

        Its gradient is nothing but rounding, of which Adam's first step makes a whole one.
        """
        layers = self.trainer.model._flatten_layers()
        blocks = [layer for layer in layers if isinstance(layer, ConvolutionBlock)]
        biases = [block.bias for block in blocks if block.bias is not None]
        return any(
            variable is bias.value or f"{bias.path.replace('/', '_')}_" in variable.name
            for bias in biases
        )


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
    losses, apart = [], []
    for number in range(20):
        both.give(both.in_jax.state)
        loss, difference, of_same_pairs = both.take_each(number)
        losses.append(loss)
        apart.append(difference)
        assert of_same_pairs < 1e-5, number
        assert max(both.deviations("model/")) < 2e-3, number
        assert max(both.deviations("average/")) < 2e-3, number
    # Where rounding decides between two steps of JPEG's quantisation, a block of a pair differs.
    assert np.median(apart) < 1e-5 and max(apart) < 1e-3, apart
    both.give(both.start)
    for number, loss in enumerate(losses):
        # Left alone, rounding grows from step to step.
        assert both.in_tensorflow(number) == pytest.approx(loss, rel=0.02), number


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("configs/pwc_unet_likelihood.yaml", ["data.size=64"]),
        ("configs/pwc_unet.yaml", ["data.size=64"]),
        ("configs/pdcnet_stage1.yaml", ["data.size=256", "model.options.backbone_weights=null"]),
    ],
)
def test_one_step_of_the_others(file, settings, tmp_path):
    settings = [*settings, "train.batch_size=1", "train.warmup_steps=0"]
    both = Both(file, settings, tmp_path / "bundle")
    assert max(both.take_each(0)[1:]) < 1e-4
    # The moments of Adam are the gradient and its square.
    assert np.percentile(both.deviations("optimizer/"), 95) < 1e-2
    # In PDC-Net, the skipped convolutions see features of mean 0, so that their running means are
    # rounding; and there is a number whose gradient is, which Adam moves by a whole step.
    arrays = 99 if "pdcnet" in file else 100
    atol = 1e-6 if "pdcnet" in file else 0.0
    assert np.percentile(both.deviations("model/", atol), arrays) < 1e-2
    state = both.in_jax.state
    kernels = [name for name in state if name.startswith("model/") and state[name].ndim == 4]
    moved = [(state[name] != both.start[name]).any() for name in kernels]
    assert len(kernels) > 20 and np.mean(moved) > 0.5
