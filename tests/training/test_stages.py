"""The two stages of PDC-Net and of PDC-Net+ as their configurations say, on small images."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense.config import load_config
from tfdense.data import training_pairs
from tfdense.models import build
from tfdense.training.optimizer import build_optimizer
from tfdense.training.records import read_metrics
from tfdense.training.step import build_train_step
from tfdense.training.trainer import Trainer

_CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# The smallest images of the network, which needs no files but those of the test.
_SMALL = [
    "model.options.backbone_weights=null",
    "data.size=256",
    "train.batch_size=1",
    "train.validation_pairs=1",
    "train.initial_weights=null",
]


def stage(name, *overrides):
    return load_config(_CONFIGS / f"{name}.yaml", [*_SMALL, *overrides])


def in_backbone(path):
    return "/pyramid" in path


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("pdcnet_stage1", marks=pytest.mark.slow),
        pytest.param("pdcnet_stage2", marks=pytest.mark.slow),
        pytest.param("pdcnet_plus_stage1", marks=pytest.mark.slow),
        "pdcnet_plus_stage2",
    ],
)
def test_one_step(name, eager):
    config = stage(name)
    keras.utils.set_random_seed(0)
    model = build(config.model)
    optimizer = build_optimizer(config.train, model.trainable_variables)
    step = build_train_step(model, optimizer, None, config.loss, tf.distribute.get_strategy())
    before = {variable.path: variable.numpy() for variable in model.weights}
    batch = next(iter(training_pairs(config.data, 1, seed=0)))
    loss, norm = step(batch)

    assert np.isfinite(loss) and norm > 0
    change = {
        variable.path: np.abs(variable.numpy() - before[variable.path]).max()
        for variable in model.weights
    }
    # The first step of Adam moves a weight by the learning rate, but where its gradient vanishes.
    rate = config.train.learning_rate
    decoders = [change[v.path] for v in model.trainable_variables if not in_backbone(v.path)]
    assert np.mean(np.isclose(decoders, rate, rtol=0.01)) > 0.8
    backbones = [value for path, value in change.items() if in_backbone(path)]
    if name.endswith("stage1"):
        assert max(backbones) == 0
    else:
        rate = {"pdcnet_stage2": 1e-5, "pdcnet_plus_stage2": 5e-5}[name]
        assert np.mean(np.isclose(backbones, rate, rtol=0.01)) > 0.8


@pytest.mark.slow
def test_first_stage_lowers_the_loss(tmp_path):
    trainer = Trainer(stage("pdcnet_stage1", "train.steps=200", "train.log_every=20"), tmp_path)
    assert trainer.train()
    losses = [float(r["loss"]) for r in read_metrics(tmp_path / "metrics.csv") if r["loss"]]
    assert np.mean(losses[-3:]) < 0.9 * losses[0]
