"""The operations of `tfdense.ops` as layers. They have no weights."""

import keras

from tfdense import ops


@keras.saving.register_keras_serializable("tfdense")
class LocalCorrelation(keras.layers.Layer):
    """Correlates each target position with a square window around it in the source.

    See `tfdense.ops.local_correlation` (PWC-Net, equation 1; PDC-Net, section 4.1).

    Args:
        radius: of the window, at least 0.

    Call:
        target, source: features of the same shape, [batch, height, width, channels].
        Returns [batch, height, width, (2 radius + 1)²].

    For example:

    >>> target, source = keras.Input((32, 32, 16)), keras.Input((32, 32, 16))
    >>> LocalCorrelation(radius=4)(target, source).shape
    (None, 32, 32, 81)
    """

    def __init__(self, radius: int = 4, **kwargs):
        if not isinstance(radius, int) or radius < 0:
            raise ValueError(f"`radius` must be an integer of at least 0. Received: {radius=}")
        super().__init__(**kwargs)
        self.radius = radius

    def call(self, target, source):
        return ops.local_correlation(target, source, self.radius)

    def compute_output_shape(self, target_shape, source_shape):
        return (*target_shape[:3], (2 * self.radius + 1) ** 2)

    def get_config(self):
        return {**super().get_config(), "radius": self.radius}


@keras.saving.register_keras_serializable("tfdense")
class AllPairsCorrelation(keras.layers.Layer):
    """Correlates each target position with every source position.

    See `tfdense.ops.all_pairs_correlation` (PDC-Net, section 4.1).

    Call:
        target: [batch, height, width, channels].
        source: [batch, source height, source width, channels].
        Returns [batch, height, width, source height * source width], row by row.

    For example:

    >>> target, source = keras.Input((16, 16, 64)), keras.Input((8, 12, 64))
    >>> AllPairsCorrelation()(target, source).shape
    (None, 16, 16, 96)
    """

    def call(self, target, source):
        return ops.all_pairs_correlation(target, source)

    def compute_output_shape(self, target_shape, source_shape):
        rows, columns = source_shape[1:3]
        return (*target_shape[:3], None if None in (rows, columns) else rows * columns)


@keras.saving.register_keras_serializable("tfdense")
class Warp(keras.layers.Layer):
    """Samples an image at the positions that a flow points to, bilinearly; zero outside.

    See `tfdense.ops.warp`. The flow keeps its precision under any policy.

    Call:
        image: [batch, height, width, channels].
        flow: [batch, rows, columns, 2], in px of the image.
        Returns [batch, rows, columns, channels], of the image's dtype.

    For example:

    >>> image, flow = keras.Input((None, None, 3)), keras.Input((None, None, 2))
    >>> Warp()(image, flow).shape
    (None, None, None, 3)
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, image, flow):
        return ops.warp(image, flow)

    def compute_output_shape(self, image_shape, flow_shape):
        return (*flow_shape[:3], image_shape[-1])


@keras.saving.register_keras_serializable("tfdense")
class ForwardBackwardError(keras.layers.Layer):
    """Tells how far from each pixel one arrives by going to the source and back.

    See `tfdense.ops.forward_backward_error`. The flows keep their precision under any policy.

    Call:
        forward: flow from target to source, [batch, height, width, 2], in px.
        backward: flow from source to target, [batch, source height, source width, 2], in px.
        Returns [batch, height, width], in px; infinite where the forward flow leaves the source.

    For example:

    >>> flow = tf.zeros([1, 4, 6, 2])
    >>> float(tf.reduce_max(ForwardBackwardError()(flow, flow)))
    0.0
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, forward, backward):
        return ops.forward_backward_error(forward, backward)

    def compute_output_shape(self, forward_shape, backward_shape):
        return forward_shape[:3]
