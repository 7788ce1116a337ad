"""Correlation of two feature maps: within a window, and between all pairs of positions."""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfdense.geometry import spatial_size
from tfdense.ops.checks import check_floating, check_same_shape, check_shape

# Pixels of a row that are correlated at once.
_BLOCK = 16

_own_gradient = contextvars.ContextVar("own_gradient", default=True)


@contextlib.contextmanager
def forward_only() -> Iterator[None]:
    """Traces without hand-written gradients, for functions that only run forward.

    TensorFlow registers the gradient of each trace for ever, and with it the function's graph: a
    network that is deleted would leave some 40 MB behind.
    """
    token = _own_gradient.set(False)
    try:
        yield
    finally:
        _own_gradient.reset(token)


def is_differentiated() -> bool:
    """Says whether hand-written gradients are wanted, as everywhere but in `forward_only`."""
    return _own_gradient.get()


def local(target, source, radius: int) -> tf.Tensor:
    """Correlates each target position with a square window around it in the source.

    ``output[b, y, x, k] = mean_c target[b, y, x, c] * source[b, y + dy, x + dx, c]`` with
    ``k = (2 radius + 1) (dy + radius) + (dx + radius)``: dy varies slowly, dx fast. The source
    counts as zero outside (PWC-Net, equation 1; PDC-Net, section 4.1).

    Args:
        target, source: [batch, height, width, channels], same shape and floating dtype.
        radius: of the window, at least 0.

    Returns:
        [batch, height, width, (2 radius + 1)²], of the inputs' dtype. Made of operations that
        every device and TFLite have. The gradient is hand-written, since plain differentiation
        would keep a copy of the features for each displacement, and compiled by XLA.

    Raises:
        ValueError: if the radius is no integer of at least 0, a dtype is not floating or the shapes
            cannot be equal.

    For example:

    >>> target = tf.random.normal([1, 8, 10, 16])
    >>> source = tf.roll(target, shift=2, axis=2)  # what was at x is now at x + 2
    >>> scores = local(target, source, radius=3)
    >>> scores.shape
    TensorShape([1, 8, 10, 49])
    >>> divmod(int(tf.argmax(scores[0, 4, 4])), 7)  # dy + 3, dx + 3
    (3, 5)
    """
    if not isinstance(radius, (int, np.integer)) or radius < 0:
        raise ValueError(f"`radius` must be an integer of at least 0. Received: {radius=}")
    target, source = tf.convert_to_tensor(target), tf.convert_to_tensor(source)
    check_floating(target=target, source=source)
    check_same_shape(target, source)

    @tf.custom_gradient
    def differentiable(target, source):
        gradient = functools.partial(_gradient_function(radius), target, source)
        return _correlate(target, source, radius), gradient

    if _own_gradient.get():
        return differentiable(target, source)
    return _correlate(target, source, radius)


def all_pairs(target, source) -> tf.Tensor:
    """Correlates each target position with every source position.

    ``output[b, y, x, j] = sum_c target[b, y, x, c] * source[b, j // width, j % width, c]``:
    channels are source positions in row-major order (PDC-Net, section 4.1).

    Args:
        target: [batch, height, width, channels], any floating dtype.
        source: [batch, source height, source width, channels], of the same dtype.

    Returns:
        [batch, height, width, source height * source width], of the inputs' dtype.

    Raises:
        ValueError: if a dtype is not floating, or batch or channels cannot be equal.

    For example:

    >>> target = tf.eye(6)[None, :, None]  # six different features in a column
    >>> scores = all_pairs(target, target[:, ::-1])
    >>> tf.argmax(scores[0, :, 0], axis=-1).numpy()
    array([5, 4, 3, 2, 1, 0])
    """
    target, source = tf.convert_to_tensor(target), tf.convert_to_tensor(source)
    check_floating(target=target, source=source)
    check_shape("`source`", source, [target.shape[0], None, None, target.shape[-1]])
    batch, channels = tf.shape(target)[0], target.shape[-1]
    height, width = spatial_size(target)
    rows, columns = spatial_size(source)
    # Without the second axis TFLite's converter would have the source broadcast to the target's
    # rows, which GPUs of devices accept but compute wrongly.
    scores = tf.matmul(
        tf.reshape(target, [batch, 1, height * width, channels]),
        tf.reshape(source, [batch, 1, rows * columns, channels]),
        transpose_b=True,
    )
    return tf.reshape(scores, [batch, height, width, rows * columns])


def _correlate(target, source, radius: int) -> tf.Tensor:
    """Correlates by products of matrices.

    A row is cut into blocks; a product is a block of the target's with all of the source's row that
    its windows reach. Of that the windows are a diagonal band, half of the product with blocks of
    this length. Multiplying all features for each displacement takes twice as long.
    """
    batch, (height, width) = tf.shape(target)[0], spatial_size(target)
    channels, size = _channels(target), 2 * radius + 1
    block = max(_BLOCK, 2 * radius)
    reached = block + 2 * radius
    blocks = -(-width // block)
    beyond = blocks * block - width

    target = tf.pad(target / tf.cast(channels, target.dtype), [[0, 0], [0, 0], [0, beyond], [0, 0]])
    target = tf.reshape(target, [batch, height * blocks, block, channels])
    # What a block reaches is the block of the padded row and the beginning of the next.
    rows = [batch, (height + 2 * radius) * blocks, block, channels]
    padded = tf.pad(source, [[0, 0], [radius, radius], [radius, radius + beyond + block], [0, 0]])
    own = tf.reshape(padded[:, :, : blocks * block], rows)
    following = tf.reshape(padded[:, :, block : (blocks + 1) * block], rows)[:, :, : 2 * radius]
    source = tf.concat([own, following], axis=2)

    products = []
    for y in range(size):
        row = source[:, y * blocks : (y + height) * blocks]
        product = tf.matmul(target, row, transpose_b=True)
        products.append(tf.reshape(product, [batch, height * blocks, 1, block * reached]))
    # Rows that are one longer bring the band upright.
    band = tf.pad(tf.concat(products, axis=2), [[0, 0], [0, 0], [0, 0], [0, block]])
    band = tf.reshape(band, [batch * height * blocks, size, block, reached + 1])[..., :size]
    scores = tf.transpose(band, [0, 2, 1, 3])
    return tf.reshape(scores, [batch, height, blocks * block, size**2])[:, :, :width]


def _channels(features) -> int | tf.Tensor:
    return tf.shape(features)[-1] if features.shape[-1] is None else features.shape[-1]


@functools.cache
def _gradient_function(radius: int):
    """Compiles this one op: XLA fuses its windows, but would slow down a step's convolutions."""
    return tf.function(functools.partial(_gradients, radius=radius), jit_compile=True)


def _windows(features, radius: int) -> Iterator[tuple[int, int, tf.Tensor]]:
    """Yields dy, dx and the features seen there, zero outside; dy varies slowly, dx fast."""
    height, width = spatial_size(features)
    margin = [radius, radius]
    padded = tf.pad(features, [[0, 0], margin, margin, [0, 0]])
    for y in range(2 * radius + 1):
        for x in range(2 * radius + 1):
            yield y - radius, x - radius, padded[:, y : y + height, x : x + width]


def _gradients(target, source, upstream, radius: int) -> tuple[tf.Tensor, tf.Tensor]:
    upstream = upstream / tf.cast(_channels(target), upstream.dtype)
    size = 2 * radius + 1
    target_gradient = tf.add_n(
        [
            upstream[..., k, None] * window
            for k, (_, _, window) in enumerate(_windows(source, radius))
        ]
    )
    # The source position p was seen from the target position p - d through displacement d: the
    # windows of target and upstream at -d, of which upstream is needed in channel d only.
    height, width = spatial_size(upstream)
    margin = [radius, radius]
    padded = tf.pad(upstream, [[0, 0], margin, margin, [0, 0]])
    source_gradient = tf.add_n(
        [
            padded[
                :,
                radius + y : radius + y + height,
                radius + x : radius + x + width,
                size * (radius - y) + radius - x,
                None,
            ]
            * window
            for y, x, window in _windows(target, radius)
        ]
    )
    return target_gradient, source_gradient
