"""Correlation and warping for networks of your own: tensors in, tensors out.

Any floating dtype, any size, known or not; in ``tf.function``, under XLA and with gradients. All
are made of operations that TFLite has. Flows are as everywhere (`tfdense.geometry`): in pixels,
from target to source. `tfdense.layers` has the same as Keras layers.
"""

from tfdense.ops.correlation import all_pairs as all_pairs_correlation
from tfdense.ops.correlation import local as local_correlation
from tfdense.ops.cycle import forward_backward_error
from tfdense.ops.warping import bilinear as warp

__all__ = ["all_pairs_correlation", "forward_backward_error", "local_correlation", "warp"]
