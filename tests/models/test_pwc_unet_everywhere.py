"""What the project does with any network, done with a small pwc-unet."""

import json

import cv2
import numpy as np
import pytest
import tensorflow as tf

import tfdense
from tfdense import cli
from tfdense.config import load_config
from tfdense.data import bundled_pair
from tfdense.exporting import export_saved_model, export_tflite
from tfdense.exporting.verification import read_pair
from tfdense.inference.backends import KerasBackend
from tfdense.lite import LiteMatcher
from tfdense.matcher import Matcher
from tfdense.training.records import read_metrics
from tfdense.training.trainer import Trainer

SIZE = (64, 128)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """Two steps with the likelihood; the network's answers, still near zero, were then made large.

    Its weights are the run's.
    """
    config = load_config(
        None,
        [
            "model.preset=pwc-unet",
            "model.options.feature_channels=[4, 4, 4, 8, 8, 8]",
            "model.options.decoder_channels=[8]",
            "model.options.context_channels=[4, 4]",
            "model.options.confidence_channels=[4, 4, 8, 8]",
            "model.options.radius=1",
            "model.options.extent=64",
            "loss.level_weights=[0.1, 0.2, 0.3, 0.5, 1.0]",
            "data.size=64",
            "train.batch_size=2",
            "train.steps=2",
            "train.warmup_steps=1",
            "train.log_every=1",
            "train.validation_pairs=2",
        ],
    )
    trainer = Trainer(config, tmp_path_factory.mktemp("run"))
    assert trainer.train()
    model = trainer.model
    for layer in (*model.decoders, model.context, model.confidence):
        kernel = layer.prediction.kernel
        kernel.assign(tf.random.stateless_normal(kernel.shape, [1, 2], stddev=0.05))
    model.save_weights(trainer.folder / "best.weights.h5")
    return trainer


@pytest.fixture(scope="module")
def expected(trainer):
    """What the network answers to the bundled pair."""
    source, target = read_pair(SIZE)
    model = trainer.model
    outputs = model({"source": np.float32(source[None]), "target": np.float32(target[None])})
    outputs["confidence"] = model.mixture.confidence(outputs["log_variance"], outputs["logits"])
    assert np.abs(outputs["flow"]).max() > 1
    return {name: outputs[name][0].numpy() for name in outputs if name != "levels"}


def test_training(trainer):
    rows = read_metrics(trainer.folder / "metrics.csv")
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert len(losses) == 2 and np.isfinite(losses).all()
    assert np.isfinite([float(row["aepe"]) for row in rows if row["aepe"]]).all()


def test_saved_model_and_serving(trainer, expected, tmp_path):
    report = export_saved_model(trainer.folder, tmp_path / "served")
    assert report.passed
    match = tf.saved_model.load(str(report.path)).signatures["serving_default"]
    source, target = read_pair(SIZE)
    answer = match(source=tf.constant(source[None]), target=tf.constant(target[None]))
    for name, values in answer.items():
        np.testing.assert_allclose(values[0], expected[name], atol=1e-3, err_msg=name)
    metadata = json.loads((report.path / "assets.extra" / "tfdense.json").read_text())
    assert metadata["mixture"] == {
        "name": "GaussianUniformMixture",
        "extent": 64.0,
        "minimum_variance": 0.01,
    }
    assert (metadata["stride"], metadata["minimum_size"]) == (64, 64)

    # Of any size; the client reads the mixture from the file.
    source, target = (cv2.resize(image, (90, 150)) for image in (source, target))
    ours = tfdense.load(report.path).match(source, target)
    theirs = Matcher(KerasBackend(trainer.model, max_side=640)).match(source, target)
    np.testing.assert_allclose(ours.flow, theirs.flow, atol=1e-3)
    np.testing.assert_allclose(ours.confidence, theirs.confidence, atol=1e-4)


def test_tflite_and_evaluation(trainer, expected, tmp_path):
    report = export_tflite(trainer.folder, tmp_path / "pwc.tflite", SIZE)
    assert report.passed
    answer = LiteMatcher(report.path).run(*read_pair(SIZE))
    for name, values in answer.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-3, err_msg=name)

    folder = tmp_path / "data" / "pair"
    folder.mkdir(parents=True)
    for name, image in zip(("source", "target"), read_pair((80, 120)), strict=True):
        cv2.imwrite(str(folder / f"{name}.png"), image)
    (folder / "H_target_to_source.txt").write_text("1 0 3\n0 1 0\n0 0 1\n")
    output = tmp_path / "out"
    arguments = ["evaluate", "homography", "--data", str(folder.parent), "--max-side", "120"]
    assert cli.main([*arguments, "--model", str(report.path), "-o", str(output)]) == 0
    results = json.loads((output / "results.json").read_text())
    figures = results["methods"]["network"]["mean_over_pairs"]
    assert np.isfinite([figures["aepe"], figures["nll"]]).all()


def test_tflite_in_float16(trainer, tmp_path):
    assert export_tflite(trainer.folder, tmp_path / "pwc.tflite", SIZE, "float16").passed


def test_match_command(trainer, tmp_path):
    source, target = (str(path) for path in bundled_pair())
    output = tmp_path / "out"
    arguments = ["match", source, target, "--model", str(trainer.folder), "-o", str(output)]
    assert cli.main([*arguments, "--max-side", "128"]) == 0
    with np.load(output / "match.npz") as match:
        assert np.isfinite(match["flow"]).all() and np.ptp(match["flow"]) > 1
        assert 0 <= match["confidence"].min() < match["confidence"].max() <= 1
