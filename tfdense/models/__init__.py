"""The networks, by name.

A network is a ``keras.Model``, built once it is constructed, called with ``{"source", "target"}``,
two batches of images [batch, height, width, 3] of one size, RGB in 0..255. It returns

- ``flow`` [batch, height, width, 2], in px, from target to source,
- ``log_variance`` and ``logits`` [batch, height, width, components], of the mixture,
- ``levels``, the same three for each level, coarse to fine, on the level's own grid,
- where the network matches whole images first: ``matching``, the log-probability of each source
  cell at each target cell, [batch, rows, columns, rows * columns],

and has the attributes ``mixture`` (a `tfdense.mixture.Mixture`), ``stride`` (the sides of the
images must be divisible by it) and ``minimum_size`` (of a side).
"""

from tfdense.startup import check_keras

check_keras()

from tfdense.models.presets import PRESETS, build, load  # noqa: E402

__all__ = ["PRESETS", "build", "load"]
