"""Random numbers: their distribution, their independence, and that they are the same everywhere."""

import numpy as np
import tensorflow as tf
from scipy import stats

from tfdense.data import draws

_SEEDS = tf.constant([[0, i] for i in range(64)] + [[i, 0] for i in range(1, 65)])


def test_uniform_numbers_are_uniform():
    drawn = draws.uniform(_SEEDS, [1000], -1.0, 3.0).numpy()
    assert drawn.min() >= -1 and drawn.max() < 3
    assert stats.kstest(drawn.ravel()[:20000], stats.uniform(-1, 4).cdf).pvalue > 1e-3
    for axis in (0, 1):  # of the numbers of a seed, and of one number of many seeds
        error = drawn.mean(axis=axis) - 1
        assert np.abs(error).max() < 6 * (4 / 12**0.5) / drawn.shape[axis] ** 0.5


def test_normal_numbers_are_normal():
    drawn = draws.normal(_SEEDS, [20, 30]).numpy()
    assert drawn.shape == (128, 20, 30) and np.isfinite(drawn).all()
    assert stats.kstest(drawn.ravel()[:20000], stats.norm.cdf).pvalue > 1e-3


def test_seeds_and_their_parts_are_independent():
    parts = [_SEEDS, draws.fold(_SEEDS, 1), draws.fold(_SEEDS, 2), *draws.split(_SEEDS, 3)]
    drawn = np.concatenate([draws.uniform(part, [500]).numpy() for part in parts])
    correlation = np.corrcoef(drawn) - np.eye(len(drawn))
    # The largest of 300,000 correlations of independent numbers: 4.6 deviations of 500^-0.5.
    assert np.abs(correlation).max() < 0.25
    # Not the same numbers at other places either.
    assert len(np.unique(drawn)) > 0.97 * drawn.size


def test_numbers_are_the_same_compiled_and_in_any_batch():
    expected = draws.bits(_SEEDS, 50).numpy()
    compiled = tf.function(draws.bits, jit_compile=True)
    np.testing.assert_array_equal(compiled(_SEEDS, 50), expected)
    np.testing.assert_array_equal(draws.bits(_SEEDS[5], 50), expected[5])
    np.testing.assert_array_equal(draws.bits(_SEEDS[3:9], 20), expected[3:9, :20])


def test_counts_are_within_their_bounds():
    count = draws.count(tf.constant([[7, i] for i in range(2000)]), 0.6, (2, 4)).numpy()
    assert set(count) == {0, 2, 3, 4}
    assert abs(np.mean(count > 0) - 0.6) < 0.05
    assert abs(np.mean(count[count > 0]) - 3) < 0.1
