"""The pyramid against features that the PyTorch package's own model computed."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from tfdense.layers.efficientnet_lite import efficientnet_lite0_pyramid

_PARITY = Path(__file__).with_name("efficientnet_lite0_parity.npz")


@pytest.fixture(scope="module")
def pyramid():
    pyramid = efficientnet_lite0_pyramid()
    with resources.as_file(
        resources.files("tfdense.weights") / "efficientnet_lite0.weights.h5"
    ) as path:
        pyramid.load_weights(path)
    return pyramid


def test_the_shipped_weights_compute_what_pytorch_does(pyramid):
    """The file is made by tfdense.weights.convert_efficientnet_lite0, see there."""
    reference = np.load(_PARITY)
    features = pyramid(reference["images"].astype(np.float32))
    for name, ours in zip(("stride4", "stride8", "stride16"), features, strict=True):
        theirs = reference[name]
        assert theirs.std() > 0.1
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), err_msg=name)


@pytest.mark.parametrize("size", [(32, 32), (48, 80)])
def test_strides_and_channels(pyramid, size):
    height, width = size
    features = pyramid(np.zeros((2, *size, 3), np.float32))
    assert [tuple(x.shape) for x in features] == [
        (2, height // stride, width // stride, channels)
        for stride, channels in ((4, 24), (8, 40), (16, 112))
    ]
