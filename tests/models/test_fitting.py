"""The networks as Keras trains, evaluates and applies them: compile, fit, evaluate, predict."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense.config import LossConfig, ModelConfig, load_config
from tfdense.evaluation import metrics
from tfdense.losses import MixtureNLL
from tfdense.metrics import AEPE
from tfdense.models import build
from tfdense.training.optimizer import build_optimizer
from tfdense.training.step import build_train_step

_SIZE = 32
_OPTIONS = {
    "projection_channels": (8, 8, 8),
    "decoder_channels": ((8, 8), (8, 8), (8, 8)),
    "radius": 0,
    "context_layers": 1,
}
_SMALL_FLOW = {
    "feature_channels": (4, 6, 8, 8, 8, 8),
    "decoder_channels": (8,),
    "context_channels": (8,),
    "confidence_channels": (4, 6, 8, 8),
    "radius": 0,
    "extent": 64.0,
}
_NAMES = ("aepe", "pck_1", "pck_3", "pck_5", "ause", "ece")


@pytest.fixture
def small():
    keras.utils.set_random_seed(3)
    return build(ModelConfig("pdcnet-lite", _OPTIONS), backbone_weights=False)


def _moved_pairs(texture, size):
    """Makes three batches of two pairs that are moved by a few px."""

    def pair(seed):
        image = texture(size + 8, size + 8, seed)
        x, y = np.random.default_rng(seed).integers(0, 8, 2)
        target, source = image[4:-4, 4:-4], image[y : y + size, x : x + size]
        mask = np.ones((size, size), np.float32)
        flow = np.stack([mask * (4 - x), mask * (4 - y)], axis=-1)
        truth = {"flow": flow, "mask": mask, "unmatched": 0 * mask}
        return {"source": source, "target": target}, truth

    parts = [pair(seed) for seed in range(6)]
    stacked = tf.nest.map_structure(lambda *arrays: np.stack(arrays), *parts)
    return tf.data.Dataset.from_tensor_slices(stacked).batch(2)


@pytest.fixture
def dataset(texture):
    return _moved_pairs(texture, _SIZE)


@pytest.fixture
def functions_run():
    """Runs functions eagerly if told so: tracing takes longer than ten steps without."""
    yield tf.config.run_functions_eagerly
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("eagerly", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_fit_and_train_py_take_the_same_step(texture, eagerly, functions_run):
    functions_run(eagerly)
    keras.utils.set_random_seed(3)
    small = build(ModelConfig("pwc-unet", _SMALL_FLOW))
    dataset = _moved_pairs(texture, small.minimum_size)
    loss = ["loss.level_weights=[0.1,0.2,0.3,0.5,1.0]", "train.warmup_steps=2"]
    config = load_config(None, loss)
    start = small.get_weights()
    optimizer = build_optimizer(config.train, small.trainable_variables)
    strategy = tf.distribute.get_strategy()
    step = build_train_step(small, optimizer, None, config.loss, strategy)
    batches = dataset.repeat(4).take(10)
    expected = [float(step({**images, **truth})[0]) for images, truth in batches]
    trained = small.get_weights()

    small.set_weights(start)
    small.compile(
        build_optimizer(config.train, small.trainable_variables), metrics=[], run_eagerly=eagerly
    )
    history = small.fit(batches, steps_per_epoch=1, epochs=10, verbose=0).history
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    assert len({*expected}) > 8  # the weights change
    for one, other in zip(trained, small.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_defaults_are_those_of_training(small):
    small.compile()
    config, loss = LossConfig(), small.loss.get_config()
    for name in ("level_weights", "resolution", "unmatched_weight", "extrapolation_weight"):
        assert loss[name] == getattr(config, name), name
    assert (loss["pixel_reduction"], loss["matching_weight"]) == (config.reduction, 1.0)
    assert small.loss.mixture == small.mixture
    assert [metric.name for metric in small.metrics] == ["loss", *_NAMES]
    with pytest.raises(ValueError, match=r"`metrics` must hold .* Received: \['mae'\]"):
        small.compile(metrics=["mae"])
    with pytest.raises(ValueError, match=r"Expected no `loss_weights`. Received: 2"):
        small.compile(loss_weights=2)
    for loss in ("mse", ["mse"]):
        with pytest.raises(ValueError, match=r"`loss` must take .* Received: .*mse"):
            small.compile(loss=loss)


@pytest.mark.parametrize(
    ("inputs", "received"),
    [([1, 2], "list"), ({"source": 1}, r"\['source'\]"), (np.zeros((1, 32, 32, 3)), "ndarray")],
    ids=["list", "one", "array"],
)
def test_what_are_no_two_images_is_refused(small, inputs, received):
    with pytest.raises(ValueError, match=rf"Expected the images as .* Received: {received}"):
        small(inputs)


@pytest.mark.parametrize("name", ["pdcnet", "pwc-unet"])
def test_every_network_has_a_loss_for_its_levels(name):
    network = build(ModelConfig(name), backbone_weights=False)
    network.compile()
    image = tf.zeros([1, network.minimum_size, network.minimum_size, 3])
    levels = network({"source": image, "target": image})["levels"]
    assert len(network.loss.level_weights) == len(levels)


def test_fit_evaluate_predict_and_what_is_saved_after_them(small, dataset, tmp_path):
    small.compile(run_eagerly=True)
    dataset = dataset.take(2)
    history = small.fit(dataset, epochs=2, validation_data=dataset, verbose=0).history
    assert {*history} == {f"{kind}{n}" for kind in ("", "val_") for n in ("loss", *_NAMES)}
    assert history["loss"][1] < history["loss"][0]

    values = small.evaluate(dataset, verbose=0, return_dict=True)
    answer = small.predict(dataset, verbose=0)
    assert {*answer} == {"flow", "log_variance", "logits", "confidence"}
    assert answer["confidence"].shape == (4, _SIZE, _SIZE)
    truth = np.concatenate([y["flow"] for _, y in dataset])
    errors = metrics.endpoint_error(answer["flow"], truth)
    assert values["aepe"] == pytest.approx(errors.mean(), rel=1e-4)
    assert values["loss"] == pytest.approx(history["val_loss"][1], rel=1e-5)

    small.save(tmp_path / "fitted.keras")
    loaded = keras.models.load_model(tmp_path / "fitted.keras")
    assert all(np.array_equal(a, b) for a, b in zip(loaded.weights, small.weights, strict=True))
    assert loaded.optimizer.iterations == small.optimizer.iterations == 4
    assert loaded.evaluate(dataset, verbose=0, return_dict=True) == values
    batch = dataset.take(1)
    again = [n.fit(batch, epochs=1, verbose=0).history["loss"] for n in (small, loaded)]
    assert again[0] == again[1]


def test_own_loss_and_metrics_are_saved(small, dataset, tmp_path):
    loss = MixtureNLL(small.mixture, matching_weight=0.0, name="own")
    small.compile("sgd", loss, [AEPE(name="error")], run_eagerly=True)
    values = small.evaluate(dataset.take(1), verbose=0, return_dict=True)
    assert {*values} == {"loss", "error"}
    small.save(tmp_path / "own.keras")
    loaded = keras.models.load_model(tmp_path / "own.keras")
    assert loaded.loss.get_config() == loss.get_config()
    assert loaded.evaluate(dataset.take(1), verbose=0, return_dict=True) == values


def test_the_usual_callbacks_work(small, dataset, tmp_path):
    small.compile(metrics=[AEPE()], run_eagerly=True)
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "val_aepe", mode="min"),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.weights.h5", "val_aepe", mode="min", save_weights_only=True
        ),
        keras.callbacks.EarlyStopping("val_aepe", min_delta=1e9, patience=1, mode="min"),
        keras.callbacks.TensorBoard(tmp_path / "tensorboard"),
        keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
    ]
    data = dataset.take(1)
    fitted = {"validation_data": data, "verbose": 0, "callbacks": callbacks}
    history = small.fit(data, epochs=9, **fitted)
    assert len(history.epoch) == 2  # the second was no better by far
    assert list((tmp_path / "tensorboard" / "train").iterdir())
    loaded = keras.models.load_model(tmp_path / "best.keras")
    assert all(np.array_equal(a, b) for a, b in zip(loaded.weights, small.weights, strict=True))
    loaded.load_weights(tmp_path / "best.weights.h5")

    # A run that was interrupted goes on where it was.
    other = build(ModelConfig("pdcnet-lite", _OPTIONS), backbone_weights=False)
    other.compile(metrics=[AEPE()], run_eagerly=True)
    other.fit(data, epochs=2, verbose=0, callbacks=callbacks[-1:])
    for one, same in zip(small.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_trains(precision, dataset):
    network = build(ModelConfig("pdcnet-lite", _OPTIONS), precision, backbone_weights=False)
    network.compile(run_eagerly=True)
    scaled = isinstance(network.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")
    before = network.get_weights()
    history = network.fit(dataset.take(1), epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert any((a != b).any() for a, b in zip(before, network.get_weights(), strict=True))
