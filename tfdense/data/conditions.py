"""Leaving out what no pair of a batch needs."""

from collections.abc import Callable

import tensorflow as tf


def where_any(chosen, compute: Callable, otherwise):
    """Computes something if it is asked for anywhere in a batch.

    A batch of one pair, which is what a CPU makes at a time, is spared most of what is rare. And a
    condition is a border that compilers respect: without it XLA would join all steps on an image
    into one loop, and compute the earlier ones anew for each neighbour that a later one reads.

    Args:
        chosen: bool [batch].
        compute: returns tensors of the structure and shapes of `otherwise`.
        otherwise: the result where nothing is chosen.
    """
    return tf.cond(tf.reduce_any(chosen), compute, lambda: otherwise)
