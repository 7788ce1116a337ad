"""GOCor: correlation volumes from filters that are optimised for the images at hand.

A plain correlation compares each target feature with the source features. GOCor (Truong, Danelljan,
Van Gool, Timofte, NeurIPS 2020, arXiv 2009.07823) replaces each target feature by a filter that
answers to it and to nothing else nearby: a few steps of steepest descent minimise, over the
filters, ½ Σ (v (ρ(s) - y))² + ½ κ |w|², where s are the filters' scores on the target itself, y the
ideal scores, v their importance and ρ passes positive scores and scales negative ones by m. All of
y, v and m are learned functions of the distance to the filter's own position. The global module
adds ½ |R(w · q)|², a learned 4-D convolution over the scores on the source features q.
"""

import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfdense.geometry import spatial_size
from tfdense.ops import tiling
from tfdense.ops.checks import check_same_shape

_BINS = 10
_BIN_WIDTH = 0.5
_MINIMUM_REGULARIZATION = 1e-10
_MINIMUM_DENOMINATOR = 1e-8
_STEP_REGULARIZATION = 0.1


class _GOCor(keras.layers.Layer):
    """What the two modules share: the learned functions of distance and the step length."""

    def __init__(self, iterations: int, label_width: float, label_trainable: bool, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if iterations < 0:
            raise ValueError(f"`iterations` must not be negative. Received: {iterations}")
        self.iterations = iterations
        self._label_width = label_width
        self._label_trainable = label_trainable

    def build(self, input_shape):
        distance = np.arange(_BINS) * _BIN_WIDTH
        label = np.exp(-0.5 * (distance / self._label_width) ** 2)
        self.label_map = self._vector("label_map", label - label.min(), self._label_trainable)
        self.spatial_weight = self._vector("spatial_weight", np.ones(_BINS))
        self.target_mask = self._vector("target_mask", 4.0 * np.tanh(2.0 - distance))
        self.log_step_length = self._vector("log_step_length", [0.0])
        self.filter_regularization = self._vector("filter_regularization", [0.01])
        super().build(input_shape)

    def _vector(self, name, value, trainable=True):
        value = np.asarray(value, np.float32)
        return self.add_weight(
            name=name,
            shape=value.shape,
            initializer=lambda shape, dtype: tf.constant(value, dtype),
            trainable=trainable,
        )

    def radial(self, distance):
        """Evaluates the three learned functions: ideal score, importance, slope below zero."""
        basis = radial_basis(distance)
        label = tf.tensordot(basis, tf.convert_to_tensor(self.label_map), 1)
        weight = tf.tensordot(basis, tf.convert_to_tensor(self.spatial_weight), 1)
        slope = tf.sigmoid(tf.tensordot(basis, tf.convert_to_tensor(self.target_mask), 1))
        return label, weight, slope

    def descent(self):
        """Returns the step length and κ, the weight of the filters' norm."""
        regularization = tf.maximum(tf.square(self.filter_regularization), _MINIMUM_REGULARIZATION)
        return tf.exp(self.log_step_length[0]), regularization[0]

    def get_config(self):
        return super().get_config() | {"iterations": self.iterations}


@keras.saving.register_keras_serializable("tfdense")
class GlobalGOCor(_GOCor):
    """GOCor between all pairs of positions.

    Args:
        iterations: steps of steepest descent.

    Call:
        target, source: [batch, height, width, channels], normalised features of the same shape.
        Returns scores [batch, height, width, height * width], source positions in row-major order.

    For example:

    >>> target, source = (keras.Input((16, 16, 64)) for _ in range(2))
    >>> GlobalGOCor(iterations=3)(target, source).shape
    (None, 16, 16, 256)
    """

    def __init__(self, iterations: int = 3, **kwargs):
        super().__init__(iterations, label_width=0.5, label_trainable=False, **kwargs)

    def build(self, target_shape, source_shape=None):
        channels = target_shape[-1]
        self.foreground = self.add_weight(name="foreground", shape=(channels,), initializer="ones")
        self.background = self.add_weight(name="background", shape=(channels,), initializer="zeros")
        normal = keras.initializers.RandomNormal(stddev=1e-3)
        self.source_kernel = self.add_weight(
            name="source_kernel", shape=(3, 3, 1, 16), initializer=normal
        )
        self.target_kernel = self.add_weight(
            name="target_kernel", shape=(3, 3, 16, 16), initializer=normal
        )
        super().build(target_shape)

    def call(self, target, source):
        check_same_shape(target, source)
        grid = target.shape[1:3]
        count, channels = grid[0] * grid[1], target.shape[-1]
        target = tf.reshape(target, [-1, count, channels])
        source = tf.reshape(source, [-1, count, channels])
        filters = self.optimize(self.initialize(target), target, source, grid)
        return tf.reshape(tf.matmul(filters, source, transpose_b=True), [-1, *grid, count])

    def compute_output_shape(self, target_shape, source_shape=None):
        return (*target_shape[:3], target_shape[1] * target_shape[2])

    def initialize(self, target):
        """Filters that answer to the own position's feature and not to the mean of all.

        Args:
            target: [batch, positions, channels].

        Returns:
            [batch, positions, channels].
        """
        mean = tf.reduce_mean(target, axis=1, keepdims=True)
        own_norm = tf.reduce_sum(tf.square(target), axis=-1, keepdims=True)
        mean_norm = tf.reduce_sum(tf.square(mean), axis=-1, keepdims=True)
        product = tf.reduce_sum(target * mean, axis=-1, keepdims=True)
        own = (self.foreground * mean_norm - self.background * product) * target
        others = (self.foreground * product - self.background * own_norm) * mean
        return (own - others) / tf.maximum(own_norm * mean_norm - tf.square(product), 1e-6)

    def optimize(self, filters, target, source, grid):
        """Descends from `filters`; all [batch, positions, channels], on a grid (height, width)."""
        distances, indices = _grid_distances(*grid)
        label, weight, slope_below = (
            tf.gather(values, indices) for values in self.radial(distances)
        )
        slope = _slope(slope_below, weight)
        label *= weight
        step, regularization = self.descent()
        regularize = functools.partial(self._regularize, grid=grid)
        scores = tf.matmul(filters, target, transpose_b=True)
        source_term = regularize(tf.matmul(filters, source, transpose_b=True))
        for _ in range(self.iterations):
            slopes = slope(scores)
            residual = slopes * (slopes * scores - label)
            gradient = tf.matmul(residual, target) + regularization * filters
            gradient += tf.matmul(self._regularize_adjoint(source_term, grid), source)
            score_change = tf.matmul(gradient, target, transpose_b=True)
            source_change = regularize(tf.matmul(gradient, source, transpose_b=True))
            norm = _square_sum(gradient, 1)
            curvature = _square_sum(slopes * score_change, 1) + regularization * norm
            curvature += tf.reshape(_square_sum(source_change, 1), [-1, 1, 1])
            denominator = tf.maximum(curvature, _MINIMUM_DENOMINATOR)
            length = step * norm / (denominator + _STEP_REGULARIZATION * norm)
            filters -= length * gradient
            # Both are linear in the filters, so the change is known without scoring again.
            scores -= length * score_change
            source_term -= tf.reshape(length, [-1, 1, 1, 1, 1]) * source_change
        return filters

    def _regularize(self, scores, grid):
        """Convolves scores [batch, target positions, source positions] over both grids.

        Returns:
            [batch, source positions, height, width, 16], the last grid being the target's.
        """
        height, width = grid
        count = height * width
        x = tf.reshape(scores, [-1, height, width, 1])
        x = tf.nn.conv2d(x, self.source_kernel, 1, "SAME")
        x = tf.transpose(tf.reshape(x, [-1, count, count, 16]), [0, 2, 1, 3])
        x = tf.nn.conv2d(tf.reshape(x, [-1, height, width, 16]), self.target_kernel, 1, "SAME")
        return tf.reshape(x, [-1, count, height, width, 16])

    def _regularize_adjoint(self, x, grid):
        height, width = grid
        count = height * width
        x = tf.reshape(x, [-1, height, width, 16])
        x = tf.nn.conv2d_transpose(x, self.target_kernel, tf.shape(x), 1, "SAME")
        x = tf.transpose(tf.reshape(x, [-1, count, count, 16]), [0, 2, 1, 3])
        x = tf.reshape(x, [-1, height, width, 16])
        shape = [tf.shape(x)[0], height, width, 1]
        x = tf.nn.conv2d_transpose(x, self.source_kernel, shape, 1, "SAME")
        return tf.reshape(x, [-1, count, count])


@keras.saving.register_keras_serializable("tfdense")
class LocalGOCor(_GOCor):
    """GOCor within 4 positions.

    Args:
        iterations: steps of steepest descent (3 in the published training, 7 in its evaluation).

    Call:
        target, source: [batch, height, width, channels], of the same shape, the source warped
            towards the target.
        Returns the scores of the optimised filters and those of the target's own features, the
        plain correlation: [batch, height, width, 81] each, dx fast, means over channels.

    For example:

    >>> target, source = (keras.Input((32, 48, 64)) for _ in range(2))
    >>> [scores.shape for scores in LocalGOCor(iterations=3)(target, source)]
    [(None, 32, 48, 81), (None, 32, 48, 81)]
    """

    def __init__(self, iterations: int = 7, **kwargs):
        super().__init__(iterations, label_width=1.0, label_trainable=True, **kwargs)

    def build(self, target_shape, source_shape=None):
        self.scaling = self._vector("scaling", [1.0])
        super().build(target_shape)

    def call(self, target, source):
        check_same_shape(target, source)
        filters = tiling.tiles(initialize_local(target, self.scaling[0]))
        windows = tiling.windows(target)
        filters = optimize_local(filters, windows, self.parameters(), self.iterations)
        # Begun early, the comparison with the source would take memory beside the optimisation.
        with tf.control_dependencies([filters]):
            windows = tiling.windows(tf.identity(source))
        return tuple(
            tiling.local_scores(tiles, windows, spatial_size(target))
            for tiles in (filters, tiling.tiles(target))
        )

    def parameters(self) -> tuple:
        """Returns what `optimize_local` takes."""
        steps = np.arange(-tiling.RADIUS, tiling.RADIUS + 1)
        functions = self.radial(np.hypot(steps[:, None], steps).ravel())
        # Beyond the radius all three are zero, the importance above all.
        functions = [tf.pad(values, [[0, 1]]) for values in functions]
        indices = tiling.displacement_indices()
        return (*self.descent(), *(tf.gather(values, indices) for values in functions))

    def compute_output_shape(self, target_shape, source_shape=None):
        scores = (*target_shape[:3], (2 * tiling.RADIUS + 1) ** 2)
        return scores, scores


def initialize_local(target, scaling):
    """Filters that score `scaling` on their own position; [batch, height, width, channels]."""
    return scaling * target / (tf.reduce_mean(tf.square(target), axis=-1, keepdims=True) + 1e-6)


def optimize_local(filters, windows, parameters, iterations: int):
    """Steepest descent on the filters of tiles.

    Args:
        filters: [tiles, 64, channels].
        windows: of the target's features, [tiles, 256, channels].
        parameters: step length, λ², and ideal score, importance (zero beyond the radius) and
            slope below zero, [64, 256] each.
        iterations: how many steps.

    Returns:
        The filters, [tiles, 64, channels].
    """
    step, regularization, label, weight, slope_below = parameters
    # Scores are means over channels. Sums make the objective channels² times as large, which leaves
    # the steps as they are, and need no divisions.
    channels = filters.shape[-1]
    slope = _slope(slope_below, weight)
    label *= channels * weight
    minimum_denominator = _MINIMUM_DENOMINATOR * channels**6
    for _ in range(iterations):
        # Updating the scores by `score_change` would save this product, but rounding would then
        # turn the sign of scores next to zero, and with it their slope.
        scores = tf.matmul(filters, windows, transpose_b=True)
        slopes = slope(scores)
        residual = slopes * (slopes * scores - label)
        gradient = regularization * filters + tf.matmul(residual, windows)
        score_change = slopes * tf.matmul(gradient, windows, transpose_b=True)
        norm = _square_sum(gradient, 2)
        curvature = _square_sum(score_change, 2) + regularization * norm
        length = step * norm / tf.maximum(curvature, minimum_denominator)
        filters -= length * gradient
    return filters


def radial_basis(distance) -> np.ndarray:
    """Linear interpolation between bins half a position apart, constant beyond the last.

    Args:
        distance: array of any shape, in positions.

    Returns:
        float32 [..., 10].
    """
    position = np.asarray(distance, np.float64)[..., None] / _BIN_WIDTH
    bins = np.arange(_BINS)
    inner = np.maximum(0.0, 1.0 - np.abs(position - bins))
    last = np.clip(1.0 + position - (_BINS - 1), 0.0, 1.0)
    return np.where(bins == _BINS - 1, last, inner).astype(np.float32)


def _grid_distances(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distances that occur on a grid, and which is that of each two positions.

    Returns:
        Euclidean distances [height * width], and indices into them [positions, positions],
        positions in row-major order.
    """
    rows, columns = np.divmod(np.arange(height * width), width)
    indices = np.abs(rows[:, None] - rows) * width + np.abs(columns[:, None] - columns)
    return np.hypot(rows, columns), indices.astype(np.int32)


def _slope(slope_below, weight) -> Callable:
    """Returns the derivative of the weighted activation as a function of the scores.

    It is `weight` above zero, `weight * slope_below` below, and their mean at zero.
    """
    mean = 0.5 * weight * (1.0 + slope_below)
    half_step = 0.5 * weight * (1.0 - slope_below)
    return lambda scores: mean + half_step * tf.sign(scores)


def _square_sum(x, first_axis: int):
    """Sums squares over `first_axis` and all later ones, which keep length 1."""
    return tf.reduce_sum(tf.square(x), axis=list(range(first_axis, x.shape.rank)), keepdims=True)
