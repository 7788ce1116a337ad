"""The objectives as training uses them: with ground truth, and on frames that have none."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.config import LossConfig, load_config
from tfdense.errors import InputError
from tfdense.images import write_image
from tfdense.mixture import LaplaceMixture
from tfdense.models import build
from tfdense.training.records import read_metrics
from tfdense.training.step import objective
from tfdense.training.trainer import Trainer

_CONFIGS = Path(__file__).parents[2] / "configs"
_SIDE = 16


class _Answer(tf.Module):
    """Answers with its variables, whatever the images."""

    def __init__(self):
        super().__init__()
        self.mixture = LaplaceMixture(maximum_variance=100.0)
        draw = np.random.default_rng(0).normal(0, 1, [1, _SIDE, _SIDE, 5]).astype(np.float32)
        self.values = tf.Variable(draw)

    def __call__(self, images, training):
        flow, raw, logits = tf.split(self.values, [2, 1, 2], axis=-1)
        level = {"flow": flow, "log_variance": self.mixture.constrain(raw), "logits": logits}
        probability = tf.math.log_softmax(tf.zeros([1, 2, 2, 4]))
        return {**level, "levels": [level], "matching": probability}


def _batch(mask):
    source, target = np.random.default_rng(1).uniform(0, 255, [2, 1, _SIDE, _SIDE, 3])
    return {
        "source": tf.constant(source, tf.float32),
        "target": tf.constant(target, tf.float32),
        "flow": tf.zeros([1, _SIDE, _SIDE, 2]),
        "mask": tf.fill([1, _SIDE, _SIDE], mask),
        "unmatched": tf.zeros([1, _SIDE, _SIDE]),
    }


def _loss_and_gradient(config, mask):
    model = _Answer()
    with tf.GradientTape() as tape:
        batch = _batch(mask)
        loss = objective(model(batch, training=True), batch, model.mixture, config)
    return float(loss), tape.gradient(loss, model.values).numpy()


def test_likelihood_learns_nothing_without_ground_truth():
    config = LossConfig(level_weights=(1.0,), unmatched_weight=0.5)
    loss, gradient = _loss_and_gradient(config, 0.0)
    assert loss == 0
    assert not gradient.any()
    loss, gradient = _loss_and_gradient(config, 1.0)
    assert loss > 1
    assert gradient.any()


def test_the_photometric_objective_needs_none():
    config = LossConfig(objective="photometric", level_weights=(1.0,))
    without, with_truth = (_loss_and_gradient(config, mask) for mask in (0.0, 1.0))
    assert without[0] == with_truth[0] > 0
    np.testing.assert_array_equal(without[1], with_truth[1])
    flow, variance, logits = np.split(without[1], [2, 3], axis=-1)
    assert flow.any() and logits.any()
    assert not variance.any()


def test_sequences_alone_do_not_go_with_the_likelihood():
    overrides = ["data.sequences.folder=videos", "data.sequences.share=1.0"]
    with pytest.raises(InputError, match=r"line: data\.sequences\.share should be below 1 or"):
        load_config(None, overrides)
    load_config(None, [*overrides, "loss.objective=photometric"])
    load_config(None, ["data.sequences.share=1.0"])


@pytest.mark.parametrize(
    ("name", "objective"),
    [("pwc_unet", "photometric"), ("pwc_unet_likelihood", "likelihood")],
)
def test_configurations_of_pwc_unet_fit_the_network(name, objective):
    config = load_config(_CONFIGS / f"{name}.yaml")
    assert config.name == name and config.loss.objective == objective
    model = build(config.model)
    image = tf.zeros([1, model.minimum_size, model.minimum_size, 3])
    levels = model({"source": image, "target": image})["levels"]
    assert len(config.loss.level_weights) == len(levels)
    assert config.data.size % model.stride == 0


def test_training_on_a_folder_of_sequences(eager, tmp_path):
    noise = np.random.default_rng(0).uniform(0, 255, [80, 120, 3]).astype(np.float32)
    wide = cv2.GaussianBlur(noise, (0, 0), 2).astype(np.uint8)
    for number in range(3):
        folder = tmp_path / "videos" / "a"
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / f"{number}.png", wide[:, 4 * number : 4 * number + 100])
    config = load_config(
        None,
        [
            f"data.sequences.folder={tmp_path / 'videos'}",
            "data.sequences.share=1.0",
            "loss.objective=photometric",
            "model.options.radius=1",
            "data.size=64",
            "train.batch_size=2",
            "train.steps=2",
            "train.log_every=1",
            "train.validation_pairs=2",
        ],
    )
    trainer = Trainer(config, tmp_path / "run")
    before = [variable.numpy() for variable in trainer.model.trainable_variables]
    assert trainer.train()
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert len(losses) == 2 and np.isfinite(losses).all()
    changed = [
        (variable.numpy() != former).any()
        for variable, former in zip(trainer.model.trainable_variables, before, strict=True)
    ]
    assert np.mean(changed) > 0.8
