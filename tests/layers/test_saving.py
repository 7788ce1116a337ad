"""Each layer alone, as a part of somebody's own network: saved, loaded, trained, described."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense.keras_objects import OBJECTS
from tfdense.layers import (
    attention,
    convolution,
    decoders,
    efficientnet_lite,
    full_resolution,
    gocor,
    heads,
    matching,
    operations,
    place_descriptors,
    pwc,
    uncertainty,
    unet,
    variational,
    vgg,
)
from tfdense.mixture import GaussianUniformMixture, LaplaceMixture
from tfdense.models.pdcnet import GlobalLevel, LocalLevel
from tfdense.models.pdcnet_lite import LevelDecoder

_MIXTURE = LaplaceMixture(maximum_variance=64.0)


def _map(channels, height=4, width=6):
    return (height, width, channels)


# What each layer is called with, without the batch; a list is one argument.
_LAYERS = {
    "AllPairsCorrelation": (operations.AllPairsCorrelation, _map(8), _map(8, 3, 5)),
    "ForwardBackwardError": (operations.ForwardBackwardError, _map(2), _map(2, 3, 5)),
    "LocalCorrelation": (lambda: operations.LocalCorrelation(2), _map(8), _map(8)),
    "Warp": (operations.Warp, _map(8), _map(2, 3, 5)),
    "MixtureHead": (lambda: heads.MixtureHead(_MIXTURE), _map(5)),
    "ContextLayer": (lambda: attention.ContextLayer(8), _map(8), _map(8, 3, 5)),
    "FlowPropagation": (lambda: attention.FlowPropagation(8), _map(8), _map(2), _map(4)),
    "ConvolutionBlock": (lambda: convolution.ConvolutionBlock(3, padding="valid"), _map(4)),
    "FlowDecoder": (decoders.FlowDecoder, _map(5)),
    "RefinementNetwork": (decoders.RefinementNetwork, _map(32), _map(2)),
    "Upsampling": (decoders.Upsampling, _map(2)),
    "FullResolution": (
        lambda: full_resolution.FullResolution(2, channels=8),
        *(_map(2), _map(4), _map(5), _map(3, 16, 24), _map(3, 16, 24)),
    ),
    "_Head": (lambda: full_resolution._Head(8, 5), _map(3)),
    "GlobalGOCor": (lambda: gocor.GlobalGOCor(2), _map(8), _map(8)),
    "LocalGOCor": (lambda: gocor.LocalGOCor(2), _map(8), _map(8)),
    "GlobalMatching": (lambda: matching.GlobalMatching(2.0), _map(8), _map(8, 3, 5)),
    "JoinedDescriptors": (matching.JoinedDescriptors, [_map(8), _map(4)]),
    "NormalisedGrey": (place_descriptors.NormalisedGrey, _map(3, 8, 12)),
    "EnlargeTo": (place_descriptors.EnlargeTo, _map(5), _map(3, 8, 12)),
    "UnitMeanSquare": (matching.UnitMeanSquare, _map(8)),
    "WarpedCorrelation": (lambda: matching.WarpedCorrelation(1), _map(8), _map(8), _map(2)),
    "ContextNetwork": (lambda: pwc.ContextNetwork((6, 4)), _map(5), _map(2)),
    "DenseDecoder": (lambda: pwc.DenseDecoder((6, 4), (0.0, 1.0)), [_map(3), _map(5)]),
    "FeaturePyramid": (lambda: pwc.FeaturePyramid((4, 6)), _map(3, 8, 12)),
    "CorrelationUncertainty": (uncertainty.CorrelationUncertainty, _map(81)),
    "MixtureDecoder": (
        lambda: uncertainty.MixtureDecoder(_MIXTURE, 9),
        *(_map(81), [_map(5), _map(2)]),
    ),
    "UncertaintyDecoder": (uncertainty.UncertaintyDecoder, _map(7)),
    "UNet": (
        lambda: unet.UNet((4, 6, 8, 8), (0.0, 1.0)),
        [[_map(3, 16, 16)], [_map(4, 8, 8)], [_map(5, 4, 4)], [_map(2, 2, 2), _map(2, 2, 2)]],
    ),
    "VariationalStage": (
        lambda: variational.VariationalStage(1, 2),
        *((2, 8, 9), (2, 8, 9), (1, 8, 9), (1, 8, 9), (3, 8, 9)),
    ),
    "VGG16Pyramid": (vgg.VGG16Pyramid, _map(3, 32, 48)),
    "GlobalLevel": (lambda: GlobalLevel(_MIXTURE), _map(256, 16, 16), _map(256, 16, 16)),
    "LocalLevel": (
        lambda: LocalLevel(_MIXTURE, refine=True),
        *(_map(81), _map(81), _map(2), _map(4), [_map(3)]),
    ),
    "LevelDecoder": (lambda: LevelDecoder((6, 4), 2), [_map(3), _map(5)]),
}


def _nested(shapes, function):
    return [_nested(s, function) if isinstance(s, list) else function(s) for s in shapes]


def _network(name):
    """Returns a Keras network of the layer alone, and inputs and targets to train it."""
    make, *shapes = _LAYERS[name]
    layer = make()
    inputs = _nested(shapes, keras.Input)
    outputs = keras.tree.flatten(layer(*inputs))
    generator = np.random.default_rng(0)
    values = _nested(shapes, lambda s: generator.normal(size=(2, *s)).astype(np.float32))
    return keras.Model(inputs, outputs), values, layer


def _same(first, second, values):
    flat = keras.tree.flatten(first(values)), keras.tree.flatten(second(values))
    return all(np.array_equal(a, b) for a, b in zip(*flat, strict=True))


def test_every_layer_is_tried():
    networks = {"PDCNet", "PDCNetLite", "PWCUNet"}
    homes = [m for m in OBJECTS if m.startswith(("tfdense.layers", "tfdense.models"))]
    assert {*_LAYERS} == {name for home in homes for name in OBJECTS[home]} - networks


@pytest.mark.parametrize("name", _LAYERS)
def test_a_layer_is_saved_with_all_that_it_holds(name, tmp_path):
    network, values, layer = _network(name)
    assert layer.built
    network.save(tmp_path / "before.keras")
    loaded = keras.models.load_model(tmp_path / "before.keras")
    assert len(loaded.weights) == len(network.weights)
    assert _same(network, loaded, values)
    if not network.trainable_weights:
        return
    before = [weight.numpy() for weight in network.trainable_weights]
    targets = [np.zeros(output.shape, np.float32) for output in keras.tree.flatten(network(values))]
    network.compile(keras.optimizers.SGD(1e-3, clipnorm=1.0), loss="mse", run_eagerly=True)
    network.fit(values, targets, batch_size=2, verbose=0)
    assert any(
        not np.array_equal(a, b.numpy())
        for a, b in zip(before, network.trainable_weights, strict=True)
    )
    network.save(tmp_path / "after.keras")
    assert _same(network, keras.models.load_model(tmp_path / "after.keras"), values)


@pytest.mark.parametrize("name", _LAYERS)
def test_shapes_are_told_without_running_the_layer(name):
    make, *shapes = _LAYERS[name]
    layer = make()
    values = _nested(shapes, lambda shape: tf.ones((2, *shape)))
    layer(*values)
    told = keras.tree.flatten(
        keras.tree.map_shape_structure(
            lambda shape: tf.TensorShape(shape),
            layer.compute_output_shape(*_nested(shapes, lambda shape: (2, *shape))),
        )
    )
    outputs = keras.tree.flatten(layer(*values))
    assert [shape.as_list() for shape in told] == [list(output.shape) for output in outputs]


@pytest.mark.parametrize("name", _LAYERS)
def test_a_layer_keeps_its_precision(name):
    make, *shapes = _LAYERS[name]
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = make()
    finally:
        keras.config.set_dtype_policy(former)
    rebuilt = type(layer).from_config(layer.get_config())
    assert rebuilt.get_config() == layer.get_config()
    of_parts = [[part.dtype_policy.name for part in x._flatten_layers()] for x in (layer, rebuilt)]
    assert of_parts[0] == of_parts[1]
    values = _nested(shapes, lambda shape: tf.ones((1, *shape), tf.bfloat16))
    assert all(
        not np.isnan(tf.cast(x, tf.float32)).any() for x in keras.tree.flatten(layer(*values))
    )


@pytest.mark.parametrize("name", _LAYERS)
def test_frozen_parts_stay_frozen(name, tmp_path):
    network, values, layer = _network(name)

    def flags(model):
        return [part.trainable for part in model._flatten_layers(include_self=False)]

    parts = layer._flatten_layers(include_self=False)
    for frozen in (parts[::2], [layer]):
        for part in frozen:
            part.trainable = False
        network.save(tmp_path / "frozen.keras")
        again = keras.models.load_model(tmp_path / "frozen.keras")
        for other in (again, keras.models.clone_model(network)):
            assert flags(other) == flags(network)
            trained, theirs = other.trainable_weights, network.trainable_weights
            assert [w.path for w in trained] == [w.path for w in theirs]
    assert not network.trainable_weights
    targets = [np.zeros(output.shape, np.float32) for output in keras.tree.flatten(again(values))]
    again.compile("sgd", "mse", run_eagerly=True)
    again.fit(values, targets, batch_size=2, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(again.weights, network.weights, strict=True))


def _trained(layer):
    image = keras.Input((32, 32, 3))
    return len(keras.Model(image, layer(image)[-1]).trainable_variables)


def test_what_is_frozen_before_it_is_built_stays_frozen():
    assert _trained(pwc.FeaturePyramid((8, 16), trainable=False)) == 0
    built = pwc.FeaturePyramid((8, 16))
    assert _trained(built) == 8
    whole, part = (pwc.FeaturePyramid.from_config(built.get_config()) for _ in range(2))
    whole.trainable = False
    assert _trained(whole) == 0
    part._flatten_layers(include_self=False)[0].trainable = False
    assert _trained(part) == 6


@pytest.mark.parametrize(
    "places", [[99], [-1], ["0"], "01", [1.5], [None], {"a": 1}, [True], 5, [[0]]]
)
def test_frozen_parts_that_are_none_are_refused(places):
    with pytest.raises(ValueError, match="`frozen_parts` must be"):
        _trained(pwc.FeaturePyramid((8, 16), frozen_parts=places))


@pytest.fixture
def channels_first():
    former = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(former)


@pytest.mark.parametrize("name", _LAYERS)
def test_channels_are_last_whatever_keras_says(name, channels_first, tmp_path):
    network, values, _ = _network(name)
    network.save(tmp_path / "first.keras")
    keras.config.set_image_data_format("channels_last")
    last, _, _ = _network(name)
    last.set_weights(network.get_weights())
    assert _same(network, last, values)
    keras.config.set_image_data_format("channels_first")
    assert _same(network, keras.models.load_model(tmp_path / "first.keras"), values)


@pytest.mark.parametrize(
    "build", [efficientnet_lite.efficientnet_lite0_pyramid, place_descriptors.place_descriptors]
)
def test_channels_of_whole_networks_are_last(build, channels_first, tmp_path):
    network = build()
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 48, 3)).astype(np.float32)
    assert {output.shape[-1] for output in network.outputs} <= {24, 40, 64, 112}
    network.save(tmp_path / "network.keras")
    keras.config.set_image_data_format("channels_last")
    assert _same(network, keras.models.load_model(tmp_path / "network.keras"), image)


@pytest.mark.parametrize(
    "mixture", [_MIXTURE, LaplaceMixture(64.0, 9.0, 9.0, 0.01), GaussianUniformMixture(32.0)]
)
def test_a_mixture_is_rebuilt(mixture):
    config = keras.saving.serialize_keras_object(mixture)
    assert keras.saving.deserialize_keras_object(config) == mixture


def test_the_summary_shows_shapes_and_parameters():
    network, _, _ = _network("DenseDecoder")
    text = io.StringIO()
    network.summary(print_fn=lambda line: text.write(line + "\n"))
    assert "(None, 4, 6, 4)" in text.getvalue()
