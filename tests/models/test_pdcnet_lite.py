"""The network pdcnet-lite as a whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense.config import ModelConfig
from tfdense.errors import InputError
from tfdense.models import build
from tfdense.models.pdcnet_lite import PDCNetLite


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return build(ModelConfig(preset="pdcnet-lite"))


def likelihood(model, outputs):
    """The sum over the levels of the negative log-likelihood of a flow of 3 px."""
    return sum(
        tf.reduce_mean(
            model.mixture.negative_log_likelihood(
                level["flow"] - 3.0, level["log_variance"], level["logits"]
            )
        )
        for level in outputs["levels"]
    )


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (80, 48)])
def test_names_shapes_and_dtypes(model, size):
    image = tf.random.stateless_uniform([2, *size, 3], [0, 0], 0, 255)
    outputs = model({"source": image, "target": image})
    assert set(outputs) == {"flow", "log_variance", "logits", "levels", "matching"}
    grids = [size] + [(size[0] // stride, size[1] // stride) for stride in (16, 8, 4)]
    for grid, level in zip(grids, [outputs, *outputs["levels"]], strict=True):
        for name in ("flow", "log_variance", "logits"):
            assert level[name].shape == (2, *grid, 2), name
            assert level[name].dtype == tf.float32
            assert np.isfinite(level[name]).all()
    confidence = model.mixture.confidence(outputs["log_variance"], outputs["logits"])
    assert confidence.shape == (2, *size)


@pytest.mark.parametrize("size", [(40, 64), (64, 33), (16, 64)])
def test_sides_that_do_not_fit_are_refused(model, size):
    image = tf.zeros([1, *size, 3])
    with pytest.raises(InputError, match=rf"divisible by 16.*\(1, {size[0]}, {size[1]}, 3\)"):
        model({"source": image, "target": image})


def test_fewer_than_a_million_and_a_half_parameters(model):
    assert 1_000_000 < model.count_params() < 1_500_000


def test_the_backbone_trains_unless_it_is_frozen(model):
    frozen = build(ModelConfig(preset="pdcnet-lite", options={"train_backbone": False}))
    assert not any("efficientnet" in variable.path for variable in frozen.trainable_variables)
    assert len(model.trainable_variables) == len(frozen.trainable_variables) + len(
        model.pyramid.variables
    )


def test_place_descriptors_are_matched_and_never_trained(texture):
    model = build(ModelConfig(preset="pdcnet-lite", options={"place_descriptors": True}))
    assert not any("place_descriptors" in variable.path for variable in model.trainable_variables)
    assert any("join" in variable.path for variable in model.trainable_variables)
    image = texture(64, 96)[None]
    matching = model({"source": image, "target": image})["matching"].numpy().reshape(24, 24)
    assert (matching.argmax(-1) == np.arange(24)).all(), "each cell matches itself"
    before = model.join.scales.numpy()
    model.join.scales.assign(before * [1, 1, 0])
    without = model({"source": image, "target": image})["matching"].numpy().reshape(24, 24)
    assert np.abs(matching - without).max() > 0.01


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_finite_and_answers_in_float32(precision, texture):
    model = build(ModelConfig(preset="pdcnet-lite", options={"radius": 1}), precision)
    assert keras.config.dtype_policy().name == "float32", "the global policy is restored"
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    image = tf.constant(texture(32, 48))[None]
    with tf.GradientTape() as tape:
        outputs = model({"source": image, "target": image[:, ::-1]})
        loss = likelihood(model, outputs)
    for level in [outputs, *outputs["levels"]]:
        for name in ("flow", "log_variance", "logits"):
            assert level[name].dtype == tf.float32
            assert np.isfinite(level[name]).all()
    for gradient in tape.gradient(loss, model.trainable_variables):
        assert np.isfinite(gradient).all()


def test_every_trainable_variable_gets_a_gradient(texture):
    keras.utils.set_random_seed(0)
    options = {"radius": 1}
    model = build(ModelConfig(preset="pdcnet-lite", options=options))
    source, target = (tf.constant(texture(64, 64, seed))[None] for seed in (0, 1))

    @tf.function
    def gradients():
        outputs = model({"source": source, "target": target}, training=True)
        return tf.gradients(
            likelihood(model, outputs), [v.value for v in model.trainable_variables]
        )

    for variable, gradient in zip(model.trainable_variables, gradients(), strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        # A softmax takes away what is added to all keys alike; all that is left is rounding.
        assert np.any(gradient != 0) or variable.path.endswith("trust/bias"), variable.path


@pytest.mark.parametrize("shift", [(32, 0), (-16, 48)])
def test_the_untrained_network_finds_a_shift(model, shift, texture):
    """ImageNet features alone match a texture: the flow points from the target to the source."""
    dx, dy = shift
    large = texture(320, 320)
    target = large[64:256, 64:256]
    source = large[64 - dy : 256 - dy, 64 - dx : 256 - dx]  # target(x) = source(x + dx)
    flow = model({"source": source[None], "target": target[None]})["flow"][0].numpy()
    y, x = np.mgrid[:192, :192]
    visible = (x + dx >= 16) & (x + dx < 176) & (y + dy >= 16) & (y + dy < 176)
    error = np.linalg.norm(flow - [dx, dy], axis=-1)[visible]
    assert np.median(error) < 4, np.median(error)


def test_the_configuration_rebuilds_the_network(model):
    options = {
        "projection_channels": (16, 8, 8),
        "decoder_channels": ((8, 8), (8, 8), (8, 8)),
        "radius": 2,
        "maximum_variance": 128.0**2,
        "train_backbone": False,
    }
    config = PDCNetLite(**options).get_config()
    assert {key: config[key] for key in options} == options
    assert PDCNetLite.from_config(config).get_config() == config


def test_saving_and_loading_weights_changes_nothing(model, tmp_path, texture):
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    other = build(ModelConfig(preset="pdcnet-lite"))
    inputs = {"source": texture(64, 48)[None], "target": texture(64, 48, 1)[None]}
    expected = model(inputs)["flow"]
    assert np.abs(other(inputs)["flow"] - expected).max() > 1e-3
    other.load_weights(path)
    np.testing.assert_array_equal(other(inputs)["flow"], expected)
