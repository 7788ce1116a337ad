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
        every device and TFLite have. The gradient is hand-written: plain differentiation would keep
        more in memory and take four times as long.

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
        gradient = functools.partial(_gradients, target, source, radius=radius)
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
    batch, channels = tf.shape(target)[0], _channels(target)
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


def _channels(features) -> int | tf.Tensor:
    return tf.shape(features)[-1] if features.shape[-1] is None else features.shape[-1]


class _Blocks:
    """Rows of features, cut into blocks that are correlated by products of matrices.

    A product is a block of the target's row with all that its windows reach in a row of the source.
    Of it the windows are a diagonal band, half of the product with blocks of this length.
    Multiplying all features for each displacement takes twice as long.

    Args:
        features: [batch, height, width, channels], of target or source.
        radius: of the windows.
    """

    def __init__(self, features, radius: int):
        self.batch, (self.height, self.width) = tf.shape(features)[0], spatial_size(features)
        self.channels = _channels(features)
        self.radius = radius
        self.size = 2 * radius + 1
        self.length = max(_BLOCK, 2 * radius)
        self.reached = self.length + 2 * radius
        self.count = -(-self.width // self.length)
        self.beyond = self.count * self.length - self.width

    def of_target(self, target) -> tf.Tensor:
        """Returns the means' share, [batch, height * count, length, channels]."""
        target = target / tf.cast(self.channels, target.dtype)
        target = tf.pad(target, [[0, 0], [0, 0], [0, self.beyond], [0, 0]])
        return tf.reshape(
            target, [self.batch, self.height * self.count, self.length, self.channels]
        )

    def of_source(self, source) -> tf.Tensor:
        """Returns [batch, (height + 2 radius) * count, reached, channels], zero outside."""
        margin = [self.radius, self.radius]
        after = self.radius + self.beyond + self.length
        padded = tf.pad(source, [[0, 0], margin, [self.radius, after], [0, 0]])
        shape = [self.batch, (self.height + 2 * self.radius) * self.count, self.length]
        end = self.count * self.length
        # What a block reaches is the block of the padded row and the beginning of the next.
        own = tf.reshape(padded[:, :, :end], [*shape, self.channels])
        following = tf.reshape(
            padded[:, :, self.length : end + self.length], [*shape, self.channels]
        )
        return tf.concat([own, following[:, :, : 2 * self.radius]], axis=2)

    def target_of(self, blocks) -> tf.Tensor:
        """The gradient of `of_target`."""
        shape = [self.batch, self.height, self.count * self.length, self.channels]
        features = tf.reshape(blocks, shape)[:, :, : self.width]
        return features / tf.cast(self.channels, features.dtype)

    def source_of(self, blocks) -> tf.Tensor:
        """The gradient of `of_source`: what several blocks reach gets what comes of each."""
        rows = self.height + 2 * self.radius
        shape = [self.batch, rows, self.count * self.length, self.channels]
        own = tf.reshape(blocks[:, :, : self.length], shape)
        missing = [0, self.length - 2 * self.radius]
        following = tf.pad(blocks[:, :, self.length :], [[0, 0], [0, 0], missing, [0, 0]])
        following = tf.reshape(following, shape)
        padded = tf.pad(own, [[0, 0], [0, 0], [0, self.length], [0, 0]])
        padded += tf.pad(following, [[0, 0], [0, 0], [self.length, 0], [0, 0]])
        first = self.radius
        return padded[:, first : first + self.height, first : first + self.width]

    def seen(self, source, y: int) -> tf.Tensor:
        """Returns the blocks of `of_source` that stand in the y-th row of the targets' windows."""
        return source[:, y * self.count : (y + self.height) * self.count]

    def upright(self, products) -> tf.Tensor:
        """Brings the bands of products [batch, height * count, length, reached] upright.

        Returns:
            [batch, height, width, size * size], of one product for each row of the windows.
        """
        shape = [self.batch, self.height * self.count, 1, self.length * self.reached]
        rows = tf.concat([tf.reshape(product, shape) for product in products], axis=2)
        # In rows that are one longer, the band stands upright.
        rows = tf.pad(rows, [[0, 0], [0, 0], [0, 0], [0, self.length]])
        number = self.batch * self.height * self.count
        rows = tf.reshape(rows, [number, self.size, self.length, self.reached + 1])
        scores = tf.transpose(rows[..., : self.size], [0, 2, 1, 3])
        shape = [self.batch, self.height, self.count * self.length, self.size**2]
        return tf.reshape(scores, shape)[:, :, : self.width]

    def bands(self, scores) -> list[tf.Tensor]:
        """Undoes `upright`; beside the bands there are zeros."""
        scores = tf.pad(scores, [[0, 0], [0, 0], [0, self.beyond], [0, 0]])
        number = self.batch * self.height * self.count
        rows = tf.reshape(scores, [number, self.length, self.size, self.size])
        rows = tf.transpose(rows, [0, 2, 1, 3])
        rows = tf.pad(rows, [[0, 0], [0, 0], [0, 0], [0, self.length]])
        rows = tf.reshape(rows, [number, self.size, self.length * (self.reached + 1)])
        rows = rows[..., : self.length * self.reached]
        shape = [self.batch, self.height * self.count, self.length, self.reached]
        return [tf.reshape(rows[:, y], shape) for y in range(self.size)]


def _correlate(target, source, radius: int) -> tf.Tensor:
    blocks = _Blocks(target, radius)
    target, source = blocks.of_target(target), blocks.of_source(source)
    return blocks.upright(
        [tf.matmul(target, blocks.seen(source, y), transpose_b=True) for y in range(blocks.size)]
    )


def _gradients(target, source, upstream, radius: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradients of `_correlate`: products of the same blocks with bands of its own."""
    blocks = _Blocks(target, radius)
    bands = blocks.bands(upstream)
    features = blocks.of_source(source)
    of_target = tf.add_n(
        [tf.matmul(band, blocks.seen(features, y)) for y, band in enumerate(bands)]
    )
    features = blocks.of_target(target)
    of_source = tf.add_n(
        [
            tf.pad(
                tf.matmul(band, features, transpose_a=True),
                [[0, 0], [y * blocks.count, (2 * radius - y) * blocks.count], [0, 0], [0, 0]],
            )
            for y, band in enumerate(bands)
        ]
    )
    return blocks.target_of(of_target), blocks.source_of(of_source)
