"""The network pwc-unet as a whole, in small."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense.config import LossConfig, ModelConfig
from tfdense.errors import InputError
from tfdense.geometry import resize_bilinear
from tfdense.models import build
from tfdense.models.pwc_unet import PWCUNet
from tfdense.ops import correlation, warping
from tfdense.training.step import objective

OPTIONS = {
    "feature_channels": (4, 6, 8, 8, 8, 8),
    "decoder_channels": (8, 6),
    "context_channels": (8, 8),
    "confidence_channels": (4, 6, 8, 8),
    "radius": 2,
    "extent": 64.0,
    "initial_variance": 100.0,
}
TINY = ModelConfig(preset="pwc-unet", options=OPTIONS)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = build(TINY)
    # Predictions start near zero; these matter.
    for layer in (*model.decoders, model.context, model.confidence):
        kernel = layer.prediction.kernel
        kernel.assign(tf.random.stateless_normal(kernel.shape, [1, 2], stddev=0.1))
    return model


@pytest.fixture
def images(texture):
    def make(height=64, width=64, batch=1):
        return {
            name: tf.constant([texture(height, width, seed + 2 * i) for i in range(batch)])
            for seed, name in enumerate(("source", "target"))
        }

    return make


@pytest.mark.parametrize("size", [(64, 64), (64, 128)])
def test_names_shapes_and_dtypes(model, size, images):
    outputs = model(images(*size, batch=2))
    assert set(outputs) == {"flow", "log_variance", "logits", "levels"}
    grids = [(size[0] // stride, size[1] // stride) for stride in (64, 32, 16, 8, 1)]
    for grid, level in zip([size, *grids], [outputs, *outputs["levels"]], strict=True):
        for name in ("flow", "log_variance", "logits"):
            assert level[name].shape == (2, *grid, 2), name
            assert level[name].dtype == tf.float32
            assert np.isfinite(level[name]).all()
        assert (level["logits"][..., 1] == 0).numpy().all()
    for name in ("flow", "log_variance", "logits"):
        assert outputs["levels"][-1][name] is outputs[name]


@pytest.mark.parametrize("size", [(96, 64), (64, 33), (32, 64)])
def test_sides_that_do_not_fit_are_refused(model, size):
    image = tf.zeros([1, *size, 3])
    with pytest.raises(InputError, match=rf"divisible by 64.*\(1, {size[0]}, {size[1]}, 3\)"):
        model({"source": image, "target": image})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_channels": (8, 8)}, r"`feature_channels` must hold 6 numbers.*\(8, 8\)"),
        ({"confidence_channels": (8,)}, "`confidence_channels` must hold 4 numbers"),
        ({"decoder_channels": ()}, "`decoder_channels` must hold at least one number"),
        ({"radius": -1}, "radius=-1"),
        ({"extent": 0.0}, "extent"),
        ({"initial_variance": 0.001}, "initial_variance=0.001"),
        ({"initial_variance": 70.0**2}, "initial_variance=4900.0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=f"Options of pwc-unet: .*{message}"):
        build(ModelConfig(preset="pwc-unet", options={**OPTIONS, **options}))


def test_size_and_first_answer_of_the_default(images):
    model = build(ModelConfig(preset="pwc-unet"))
    assert 1_000_000 < model.count_params() < 2_500_000
    assert model.mixture.extent == 256
    outputs = model(images())
    for level in outputs["levels"]:
        # No flow, a normal component as wide as the first errors, and the benefit of the doubt.
        assert np.abs(level["flow"]).max() < 3
        np.testing.assert_allclose(np.exp(level["log_variance"][..., 0]), 400, rtol=0.1)
        np.testing.assert_allclose(tf.nn.softmax(level["logits"])[..., 0], 0.5, atol=0.05)


def recorded(monkeypatch, layer):
    """Returns a list to which each call of a layer adds its arguments."""
    calls, call = [], layer.call
    monkeypatch.setattr(layer, "call", lambda *inputs: calls.append(inputs) or call(*inputs))
    return calls


def test_each_decoder_sees_the_source_warped_by_the_flow_so_far(model, monkeypatch, images):
    calls = [recorded(monkeypatch, decoder) for decoder in model.decoders]
    pair = images(128, 64)
    outputs = model(pair)
    pyramids = {name: model.pyramid(image / 127.5 - 1) for name, image in pair.items()}
    flow = tf.zeros([1, 2, 1, 2])
    for i, stride in enumerate((64, 32, 16, 8, 4)):
        (evidence,) = calls[i][0]
        features = (pyramids[name][5 - i].numpy() for name in ("target", "source"))
        target, source = (model.normalise(x - x.mean(axis=(1, 2))) for x in features)
        flow = tf.image.resize(flow, target.shape[1:3]) / stride
        cost = correlation.local(target, warping.bilinear(source, flow), 2)
        np.testing.assert_allclose(evidence[0], target, atol=1e-5)
        np.testing.assert_allclose(evidence[1], cost, atol=1e-4)
        np.testing.assert_allclose(evidence[2], flow, atol=1e-4)
        if stride > 4:
            flow = outputs["levels"][i]["flow"]
            assert np.abs(flow).max() > 0.1 * stride
    assert len(calls[0][0][0]) == 3 and calls[1][0][0][3].shape == (1, 4, 2, 6)


def test_the_confidence_network_compares_the_target_with_the_warped_source(
    model, monkeypatch, images
):
    calls = recorded(monkeypatch, model.confidence)
    pair = images()
    flow = model(pair)["flow"]
    ((evidence,),) = calls
    assert np.abs(flow).max() > 1
    np.testing.assert_allclose(evidence[0][0], pair["target"] / 127.5 - 1, atol=1e-5)
    warped = warping.bilinear(pair["source"], flow)
    np.testing.assert_allclose(evidence[0][1], warped / 127.5 - 1, atol=1e-4)
    assert np.abs(warped - pair["source"]).mean() > 1
    source = model.pyramid(pair["source"] / 127.5 - 1)
    target = model.pyramid(pair["target"] / 127.5 - 1)
    for i, (given, warped) in enumerate(evidence[1:]):
        np.testing.assert_allclose(given, target[i], atol=1e-5)
        # The flow was resized from stride 4, not from here: near, not equal.
        cells = resize_bilinear(flow, given.shape[1:3]) / 2 ** (i + 1)
        difference = np.abs(warped - warping.bilinear(source[i], cells)).mean()
        assert difference < 0.5 * np.abs(warped - source[i]).mean()


def trained_parts(model, pair, loss):
    """Tells of each part of the network how many of its variables a function of the output moves.

    Returns:
        {part: (moved, all)}.
    """
    with tf.GradientTape() as tape:
        value = loss(model(pair, training=True))
    gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
    parts = {}
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        part = variable.path.split("/")[1]
        moved, count = parts.get(part, (0, 0))
        if gradient is not None:
            assert np.isfinite(gradient).all(), variable.path
            moved += bool(np.any(gradient))
        parts[part] = moved, count + 1
    return parts


def test_the_confidence_trains_its_own_network_and_the_features_but_not_the_flow(model, images):
    parts = trained_parts(model, images(), lambda outputs: tf.reduce_sum(outputs["logits"][..., 0]))
    assert parts["confidence"] == (18, 18)
    assert parts["pyramid"] == (12, 24)  # up to stride 8, which is what it sees
    assert all(parts[f"decoder_{stride}"] == (0, 6) for stride in (64, 32, 16, 8, 4))
    assert parts["context"] == (0, 6)


def test_the_flow_trains_its_level_and_the_features_but_not_the_confidence(model, images):
    parts = trained_parts(
        model, images(128, 64), lambda outputs: tf.reduce_sum(tf.square(outputs["flow"] - 3))
    )
    # Coarser levels give hidden states, but the prediction of their flow is not this loss's matter.
    assert [parts[f"decoder_{stride}"] for stride in (64, 32, 16, 8)] == [(4, 6)] * 4
    assert parts["decoder_4"] == parts["context"] == (6, 6)
    assert parts["pyramid"] == (24, 24)
    assert parts["confidence"] == (0, 18)


@pytest.mark.parametrize("level", range(4))
def test_a_level_trains_its_own_flow(model, images, level):
    parts = trained_parts(
        model,
        images(128, 64),
        lambda outputs: tf.reduce_sum(tf.square(outputs["levels"][level]["flow"] - 3)),
    )
    trained = [parts[f"decoder_{stride}"][0] for stride in (64, 32, 16, 8)]
    assert trained == [4] * level + [6] + [0] * (3 - level)


def test_the_likelihood_of_synthetic_pairs_is_learnt(texture):
    """From scratch to a shift of 6 px within some steps, with what `train.py` minimises."""
    keras.utils.set_random_seed(0)
    model = build(TINY)
    optimizer = keras.optimizers.Adam(4e-3)
    optimizer.build(model.trainable_variables)
    config = LossConfig(level_weights=(0.2, 0.2, 0.3, 0.5, 1.0))
    large = np.stack([texture(96, 96, seed) for seed in range(2)])
    batch = {
        "target": large[:, 16:80, 16:80],
        "source": large[:, 16:80, 10:74],  # target(x) = source(x + 6)
        "flow": np.broadcast_to(np.float32([6, 0]), (2, 64, 64, 2)),
        "mask": np.ones((2, 64, 64), np.float32),
    }
    batch = {name: tf.constant(value) for name, value in batch.items()}

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = objective(model(batch), batch, model.mixture, config)
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        assert None not in gradients
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    losses = [float(step()) for _ in range(50)]
    assert min(losses[-5:]) < losses[0] - 3
    outputs = model(batch)
    assert np.linalg.norm(outputs["flow"] - batch["flow"], axis=-1).mean() < 3
    # The likelihood opened what started at a weight of one half and 100 px².
    assert tf.nn.softmax(outputs["logits"])[..., 0].numpy().mean() > 0.8
    assert np.exp(outputs["log_variance"][..., 0]).mean() < 10


def test_mixed_precision_is_finite_and_answers_in_float32(images):
    model = build(TINY, "mixed_bfloat16")
    with tf.GradientTape() as tape:
        outputs = model(images())
        loss = sum(tf.reduce_sum(x) for level in outputs["levels"] for x in level.values())
    for level in outputs["levels"]:
        for name, value in level.items():
            assert value.dtype == tf.float32, name
            assert np.isfinite(value).all()
    for gradient in tape.gradient(loss, [v.value for v in model.trainable_variables]):
        assert np.isfinite(gradient).all()


def test_the_configuration_rebuilds_the_network(model):
    config = model.get_config()
    assert {key: config[key] for key in OPTIONS} == OPTIONS
    assert PWCUNet.from_config(config).get_config() == config
