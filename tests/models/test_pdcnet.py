"""PDC-Net: its outputs, sizes, saving, and that it learns."""

import numpy as np
import pytest
import tensorflow as tf

from tfdense import models
from tfdense.config import Config, ModelConfig, save_config
from tfdense.errors import InputError
from tfdense.losses import pyramid_likelihood
from tfdense.models.pdcnet import PDCNet, working_size


def images(height, width, seed=0):
    """Smooth random images."""
    generator = np.random.default_rng(seed)
    small = generator.uniform(0, 255, (1, height // 8, width // 8, 3))
    return tf.image.resize(small, (height, width), method="bicubic")


@pytest.fixture(scope="module")
def network():
    return PDCNet(global_iterations=1, local_iterations=1)


def count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


@pytest.mark.parametrize(
    ("options", "total", "trained"),
    [
        ({"train_backbone": True}, 10_809_415, 10_809_405),
        ({"train_backbone": True, "separate_pyramids": True}, 18_444_679, 18_444_669),
        ({}, 10_809_415, 3_174_141),
    ],
)
def test_parameters_are_as_many_as_published(options, total, trained):
    network = PDCNet(**options)
    moving = [v for v in network.variables if v.name.startswith("moving")]
    assert count(network.variables) - count(moving) == total
    # The ten ideal scores of the global module stay as they are.
    assert count(network.trainable_variables) == trained


def test_outputs(network):
    inputs = {"source": images(256, 296), "target": images(256, 296, seed=1)}
    output = network(inputs)
    assert set(output) == {"flow", "log_variance", "logits", "levels"}
    sizes = [(16, 16), (32, 32), (32, 37), (64, 74)]
    for level, size in zip(output["levels"], sizes, strict=True):
        for name in ("flow", "log_variance", "logits"):
            assert level[name].shape == (1, *size, 2)
            assert level[name].dtype == tf.float32
    for name in ("flow", "log_variance", "logits"):
        assert output[name].shape == (1, 256, 296, 2)
        finest = output["levels"][3][name]
        np.testing.assert_allclose(
            output[name], tf.image.resize(finest, (256, 296)), rtol=1e-5, atol=1e-5
        )
    assert [list(level.get("image_size", ())) for level in output["levels"]] == [
        [256, 256],
        [256, 256],
        [],
        [],
    ]
    confidence = network.mixture.confidence(output["log_variance"], output["logits"])
    assert confidence.shape == (1, 256, 296)


def test_a_batch_is_matched_pair_by_pair(network):
    source, target = images(256, 256), images(256, 256, seed=1)
    both = network(
        {"source": tf.concat([source, target], 0), "target": tf.concat([target, source], 0)}
    )
    alone = network({"source": target, "target": source})
    np.testing.assert_allclose(both["flow"][1], alone["flow"][0], atol=0.02)


def test_other_sizes_are_brought_to_the_targets(network):
    source, target = images(240, 300), images(277, 303, seed=1)
    output = network({"source": source, "target": target})
    assert output["flow"].shape == (1, 277, 303, 2)
    finest = output["levels"][3]["flow"]
    assert finest.shape == (1, 68, 74, 2)
    expected = tf.image.resize(finest, (277, 303)) * np.array([303 / 296, 277 / 272])
    np.testing.assert_allclose(output["flow"], expected, rtol=1e-4, atol=1e-3)


def test_a_trace_for_any_size_gives_the_same(network):
    shape = tf.TensorSpec([None, None, None, 3], tf.float32)
    match = tf.function(
        lambda source, target: network({"source": source, "target": target})["flow"],
        input_signature=[shape, shape],
    )
    for size in ((256, 264), (250, 333)):
        pair = images(*size), images(*size, seed=1)
        expected = network(dict(zip(("source", "target"), pair, strict=True)))["flow"]
        np.testing.assert_allclose(match(*pair), expected, atol=0.02)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((520, 520), (520, 520)), ((250, 333), (256, 328)), ((1, 1023), (256, 1016))],
)
def test_working_size(size, expected):
    assert working_size(*size) == expected
    assert tuple(int(side) for side in working_size(*tf.constant(size))) == expected


def test_weights_and_configuration_round_trip(tmp_path):
    config = ModelConfig("pdcnet-plus", {"local_iterations": 3, "backbone_weights": None})
    first = models.build(config)
    save_config(tmp_path / "config.yaml", Config(model=config))
    first.save_weights(tmp_path / "best.weights.h5")
    second, read = models.load(tmp_path)
    assert read.model == config
    assert second.local_iterations == 3
    assert len(first.variables) == len(second.variables)
    for ours, theirs in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)
    assert PDCNet.from_config(second.get_config()).get_config() == second.get_config()


def test_the_backbone_starts_from_the_named_weights(tmp_path):
    config = ModelConfig("pdcnet", {"backbone_weights": str(tmp_path / "vgg.h5")})
    models.build(config, backbone_weights=False)
    with pytest.raises(InputError, match=r"no file .*vgg\.h5"):
        models.build(config)


def test_an_unknown_option_is_refused():
    with pytest.raises(InputError, match=r"Options of pdcnet: .*iterations"):
        models.build(ModelConfig("pdcnet", {"iterations": 3}))
    with pytest.raises(InputError, match=r"must not be negative\. Received: -1"):
        models.build(ModelConfig("pdcnet", {"local_iterations": -1}))


def test_half_precision_keeps_the_outputs_in_float32():
    config = ModelConfig("pdcnet", {"backbone_weights": None, "local_iterations": 1})
    network = models.build(config, "mixed_bfloat16")
    assert network.pyramid.compute_dtype == "bfloat16"
    image = images(256, 256)
    output = network({"source": image, "target": image}, training=True)
    assert {output[name].dtype for name in ("flow", "log_variance", "logits")} == {tf.float32}
    assert np.isfinite(output["flow"]).all()


def test_a_few_steps_lower_the_loss():
    network = PDCNet(global_iterations=1, local_iterations=1)
    image = images(256, 256)
    inputs = {"source": image, "target": tf.roll(image, [4, -6], axis=[1, 2])}
    flow = tf.fill([1, 256, 256, 2], 6.0) * tf.constant([1.0, -4.0 / 6.0])
    optimizer = tf.keras.optimizers.Adam(1e-3)
    frozen = network.pyramid.get_weights()[0]
    losses = []
    for _ in range(3):
        with tf.GradientTape() as tape:
            levels = network(inputs, training=True)["levels"]
            loss = pyramid_likelihood(
                network.mixture, levels, flow, tf.ones([1, 256, 256]), [0.25] * 4
            )
        variables = network.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        assert all(np.isfinite(gradient).all() for gradient in gradients)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        losses.append(float(tf.reduce_mean(loss)))
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(network.pyramid.get_weights()[0], frozen)
