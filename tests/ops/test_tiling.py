"""Local correlation by tiles against brute force."""

import numpy as np
import pytest
import tensorflow as tf

from tfdense.ops import tiling

_SIZES = [(8, 8), (7, 9), (3, 20), (17, 16)]


def brute_force(filters, features):
    """Means over channels of each position's filter and the features up to 4 positions away."""
    batch, height, width, _ = filters.shape
    scores = np.zeros((batch, height, width, 81))
    for b, y, x, k in np.ndindex(scores.shape):
        row, column = y + k // 9 - 4, x + k % 9 - 4
        if 0 <= row < height and 0 <= column < width:
            scores[b, y, x, k] = np.mean(filters[b, y, x] * features[b, row, column])
    return scores


@pytest.mark.parametrize("size", _SIZES)
def test_untile_undoes_tiles(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3))
    tiles = tiling.tiles(tf.constant(x))
    assert tiles.shape == (2 * -(-size[0] // 8) * -(-size[1] // 8), 64, 3)
    np.testing.assert_array_equal(tiling.untile(tiles, *size), x)


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("known", [True, False], ids=["static", "dynamic"])
def test_local_scores_equal_brute_force(size, known):
    generator = np.random.default_rng(1)
    filters, features = (generator.normal(size=(2, *size, 3)) for _ in range(2))
    shape = filters.shape if known else (None, None, None, 3)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float64)] * 2)
    def score(filters, features):
        size = tf.shape(filters)[1:3]
        windows = tiling.windows(features)
        return tiling.local_scores(tiling.tiles(filters), windows, (size[0], size[1]))

    expected = brute_force(filters, features)
    np.testing.assert_allclose(score(filters, features), expected, atol=1e-12)


def test_displacements_lead_from_the_tile_to_its_window():
    indices = tiling.displacement_indices()
    # The tile's position (1, 2) lies at (5, 6) of its window.
    position = 1 * 8 + 2
    assert indices[position, 5 * 16 + 6] == 40
    assert indices[position, 3 * 16 + 9] == (3 - 5 + 4) * 9 + (9 - 6 + 4)
    assert indices[position, 5 * 16 + 11] == 81
    for row in indices:
        assert sorted(row[row < 81]) == list(range(81))
