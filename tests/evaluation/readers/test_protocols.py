"""What protocols do to images, by hand and against another implementation of the filter."""

import numpy as np
import pytest
import tensorflow as tf

from tfdense.evaluation.readers import protocols


@pytest.mark.parametrize(
    ("shape", "multiple", "size"),
    [
        ((960, 1300, 3), 16, (480, 640)),
        ((1300, 960), 8, (648, 480)),
        ((240, 321), 1, (480, 642)),
        ((481, 481), 16, (480, 480)),
    ],
)
def test_short_side_size(shape, multiple, size):
    assert protocols.short_side_size(shape, 480, multiple) == size


def test_pad_alike():
    wide, tall = np.full((2, 3, 3), 9, np.uint8), np.full((4, 1, 3), 7, np.uint8)
    source, target = protocols.pad_alike(wide, tall)
    assert source[..., 0].tolist() == [[9, 9, 9], [9, 9, 9], [0, 0, 0], [0, 0, 0]]
    assert target[..., 1].tolist() == [[7, 0, 0]] * 4
    assert protocols.pad_alike(wide, wide)[0].tolist() == wide.tolist()


@pytest.mark.parametrize("size", [(17, 20), (40, 50), (40, 11), (61, 90)])
def test_lanczos_as_tensorflow(size):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    expected = tf.image.resize(image, size, method="lanczos3", antialias=True)
    expected = np.clip(expected, 0, 255)
    resized = protocols.resize_lanczos(image, size)
    assert resized.dtype == np.uint8
    np.testing.assert_allclose(resized, expected, atol=0.51)
