"""The descriptors against those that the PyTorch package's own model computed."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from tfdense.layers.place_descriptors import place_descriptors

_PARITY = Path(__file__).with_name("xfeat_parity.npz")


@pytest.fixture(scope="module")
def network():
    network = place_descriptors()
    with resources.as_file(resources.files("tfdense.weights") / "xfeat.weights.h5") as path:
        network.load_weights(path)
    return network


def test_the_shipped_weights_compute_what_pytorch_does(network):
    """The file is made by tfdense.weights.convert_xfeat, see there."""
    reference = np.load(_PARITY)
    theirs = reference["descriptors"]
    assert theirs.std() > 0.1
    ours = network(reference["images"].astype(np.float32))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("size", [(32, 48), (112, 80)])
def test_shape(network, size):
    height, width = size
    image = np.zeros((2, *size, 3), np.float32)
    assert network(image).shape == (2, height // 16, width // 16, 64)


def test_light_is_of_no_matter(network, texture):
    image = texture(64, 96)[None]
    np.testing.assert_allclose(network(image), network(0.3 * image + 40), atol=2e-2)
