"""Training on ground truth of one's own: from the shipped weights, with frozen parts; it learns."""

import numpy as np
import pytest

import tfdense
from tfdense import cli
from tfdense.config import ModelConfig, load_config
from tfdense.data import pairs
from tfdense.data.truth import split_truth
from tfdense.errors import InputError
from tfdense.evaluation.layouts import find_truth
from tfdense.images import write_image
from tfdense.models import build, load
from tfdense.training import command
from tfdense.training.trainer import Trainer, freeze

_SIZE = 128


def _write_pairs(folder, count, size):
    """Warps of bundled photos, as anyone's own pairs with a true flow."""
    batch, truth = next(iter(pairs(batch_size=count, size=size, count=count)))
    for number in range(count):
        pair = folder / f"pair{number}"
        for name, images in batch.items():
            write_image(pair / f"{name}.png", np.uint8(np.round(images[number])))
        flow = np.where(truth["mask"][number][..., None] > 0, truth["flow"][number], np.nan)
        np.save(pair / "flow.npy", flow.astype(np.float32))


def _error(matcher, pairs):
    errors = []
    for pair in (unread.read() for unread in pairs):
        flow = matcher.match(pair.source, pair.target).flow
        x, y = pair.points.astype(int).T
        errors.append(np.linalg.norm(flow[y, x] - pair.true_flow, axis=-1).mean())
    return np.mean(errors)


@pytest.mark.slow
def test_it_starts_from_the_shipped_weights_and_keeps_frozen_parts(eager, tmp_path):
    _write_pairs(tmp_path / "own", 2, 64)
    options = [
        *("data.size=64", "train.batch_size=1", "train.validation_pairs=1", "train.ema_momentum=0"),
        *("train.warmup_steps=0", "data.objects.probability=0", "data.photometry.probability=0"),
        "train.frozen=[efficientnet_lite0, context]",
    ]
    words = ["train", "--config", "configs/finetune.yaml", "--data", str(tmp_path / "own")]
    sets = [word for option in options for word in ("--set", option)]
    assert cli.main([*words, *sets, "--steps", "1", "-o", str(tmp_path / "run")]) == 0
    config = load_config(tmp_path / "run" / "config.yaml")
    assert config.data.flow.folder == str(tmp_path / "own") and config.data.photos is None
    assert config.model.options == {"refinement_passes": 1}
    trained, shipped = load(tmp_path / "run" / "last.weights.h5")[0], load("pdcnet-lite")[0]
    changed = {
        ours.path.split("/")[1]
        for ours, theirs in zip(trained.variables, shipped.variables, strict=True)
        if not np.array_equal(ours, theirs)
    }
    # Statistics of normalisations are kept too.
    assert {"decoder_4", "refinement", "projection_4"} <= changed
    assert not [name for name in changed if name.startswith(("efficientnet_lite0", "context"))]


def test_frozen_parts_keep_their_statistics():
    network = build(ModelConfig("pwc-unet"))
    everything = len(network.trainable_variables)
    freeze(network, ["pyramid", "decoder"])
    kept = [v for v in network.variables if "pyramid" in v.path or "decoder" in v.path]
    assert kept and not {id(v) for v in kept} & {id(v) for v in network.trainable_variables}
    assert 0 < len(network.trainable_variables) < everything


@pytest.mark.parametrize("given", ["photos", "truth"])
def test_data_are_photos_or_ground_truth_as_the_configuration_says(given, tmp_path, monkeypatch):
    (tmp_path / "own" / "pair").mkdir(parents=True)
    (tmp_path / "own" / "pair" / "points.txt").write_text("1 2 3 4\n")
    configs = []
    monkeypatch.setattr(command, "_train", lambda config, *_: configs.append(config) or 0)
    path = "configs/finetune.yaml" if given == "truth" else "configs/default.yaml"
    words = ["train", "--config", path, "--data", str(tmp_path / "own"), "-o", str(tmp_path / "r")]
    assert cli.main(words) == 0
    (config,) = configs
    folders = {"photos": config.data.photos, "truth": config.data.matches.folder}
    assert folders.pop(given) == str(tmp_path / "own")
    assert [*folders.values()] == [None]


def test_what_cannot_be_frozen_or_started_from():
    network = build(ModelConfig("pdcnet-lite", {"radius": 1}), backbone_weights=False)
    with pytest.raises(
        InputError, match=r"names 'piramid'. Expected one of efficientnet_lite0.*decoder_4"
    ):
        freeze(network, ["piramid"])
    with pytest.raises(InputError, match="nothing is left"):
        freeze(network, [layer.name for layer in network.layers])
    config = load_config(None, ["model.preset=pwc-unet", "train.initial_weights=shipped"])
    with pytest.raises(InputError, match="No trained weights of pwc-unet ship"):
        Trainer(config, None)


def test_data_of_no_known_layout_are_refused(tmp_path, capsys):
    write_image(tmp_path / "photo.png", np.zeros((64, 64, 3), np.uint8))
    words = ["train", "--config", "configs/finetune.yaml", "--data", str(tmp_path)]
    assert cli.main(words) == 2
    assert "Expected one of flow-list, flow, flying-chairs" in (message := capsys.readouterr().err)
    assert message.rstrip().endswith("Received: photo.png.")


@pytest.mark.slow
def test_four_pairs_are_learnt_by_heart(tmp_path):
    _write_pairs(tmp_path / "own", 5, _SIZE)
    own, _ = split_truth(find_truth("flow", tmp_path / "own"), 0.05)
    assert len(own) == 4
    before = _error(tfdense.load("pdcnet-lite"), own)
    options = [
        f"data.size={_SIZE}",
        *("data.flow.share=1", "data.flow.view=[1, 1]", "data.flow.mirror=0"),
        *("data.photometry.probability=0", "data.unrelated=0", "train.frozen=[]"),
        *("train.learning_rate=5.0e-4", "train.warmup_steps=10", "train.ema_momentum=0"),
        *("train.validation_pairs=1", "train.validate_every=150"),
    ]
    words = ["train", "--config", "configs/finetune.yaml", "--data", str(tmp_path / "own")]
    sets = [word for option in options for word in ("--set", option)]
    assert cli.main([*words, *sets, "--steps", "150", "-o", str(tmp_path / "run")]) == 0
    after = _error(tfdense.load(tmp_path / "run" / "last.weights.h5"), own)
    print(f"AEPE {before:.3f} px before, {after:.3f} px after")
    assert after < 0.5
