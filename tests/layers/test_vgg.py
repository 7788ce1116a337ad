"""The VGG-16 pyramid against the network of keras.applications."""

import keras
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.layers.vgg import VGG16Pyramid, imagenet_weights, normalize


@pytest.fixture(scope="module")
def original():
    """Keras's VGG-16 with random weights."""
    keras.utils.set_random_seed(0)
    model = keras.applications.VGG16(include_top=False, weights=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.bias.assign(np.random.default_rng(0).normal(size=layer.bias.shape))
    return model


@pytest.fixture(scope="module")
def weights_file(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg16.weights.h5"
    original.save_weights(path)
    return path


def test_features_are_those_of_keras(original, weights_file):
    pyramid = VGG16Pyramid()
    pyramid.build((None, None, None, 3))
    pyramid.set_weights(imagenet_weights(str(weights_file)))
    images = np.random.default_rng(1).uniform(0, 255, (1, 96, 64, 3)).astype(np.float32)
    features = pyramid(normalize(images))

    names = {4: "block2_pool", 8: "block3_pool", 16: "block4_pool"}
    theirs = keras.Model(original.input, [original.get_layer(n).output for n in names.values()])
    expected = theirs(keras.applications.vgg16.preprocess_input(images.copy()))
    assert list(features) == list(names)
    for stride, tensor in zip(names, expected, strict=True):
        assert features[stride].shape == tensor.shape
        # Outside the image both see their own zero, which differs by half a grey level.
        inner = (slice(None), slice(2, -2), slice(2, -2))
        scale = np.abs(tensor).max()
        border = 0.05 * scale
        np.testing.assert_allclose(features[stride], tensor, rtol=0, atol=border)
        if stride < 16:
            difference = np.abs(features[stride] - tensor)[inner]
            assert np.median(difference) < 1e-5 * scale


def test_only_the_wanted_strides_are_computed():
    pyramid = VGG16Pyramid()
    features = pyramid(np.zeros((1, 32, 32, 3), np.float32), stride=8)
    assert list(features) == [4, 8]


def test_a_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*vgg\.h5"):
        imagenet_weights(str(tmp_path / "vgg.h5"))


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_a_file_of_another_network_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    path = tmp_path / "dense.weights.h5"
    model.save_weights(path)
    with pytest.raises(InputError, match=r"dense\.weights\.h5 does not hold weights of VGG-16"):
        imagenet_weights(str(path))


def test_without_network_the_way_out_is_named(monkeypatch):
    def fail(*args, **kwargs):
        raise Exception("URL fetch failure on https://example.org/vgg16.h5: None -- unreachable")

    monkeypatch.setattr(keras.applications, "VGG16", fail)
    with pytest.raises(InputError, match=r"(?s)backbone_weights.*URL fetch failure"):
        imagenet_weights()
