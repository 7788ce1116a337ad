"""PDC-Net and PDC-Net+ (Truong, Danelljan, Van Gool, Timofte: arXiv 2101.01710 and 2109.13912).

Four levels. Levels 4 and 3 see both images reduced to 256x256, at strides 16 and 8; levels 2 and 1
see them at their own size, at strides 8 and 4. Level 4 compares all pairs of positions, the others
the source, warped by the flow found so far, within 4 positions. Each level predicts the flow, in
pixels of the image that it sees, and the mixture of two Laplacians around it.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from tfdense.geometry import (
    map_to_flow,
    resize_area,
    resize_bilinear,
    spatial_size,
)
from tfdense.layers.convolution import leaky_relu
from tfdense.layers.decoders import FlowDecoder, RefinementNetwork, Upsampling
from tfdense.layers.gocor import GlobalGOCor, LocalGOCor
from tfdense.layers.uncertainty import CorrelationUncertainty, UncertaintyDecoder
from tfdense.layers.vgg import VGG16Pyramid, normalize
from tfdense.mixture import LaplaceMixture
from tfdense.ops import correlation, warp

_COARSE_SIZE = 256
_COARSEST_GRID = 16
_COARSE_MIXTURE = LaplaceMixture(maximum_variance=256.0**2)
_FINE_MIXTURE = LaplaceMixture(maximum_variance=520.0**2)


class PDCNet(keras.Model):
    """The network, from two images to the flow and its uncertainty.

    Inputs, as a dict:
        source, target: float32 [batch, height, width, 3], RGB 0..255, of any size, also different
            ones. Both are brought to the target's size, reduced to multiples of 8 and at least 256.

    Outputs, as a dict:
        flow: [batch, height, width, 2] at the target's size. Its values count pixels of the source
            resized to the target's size.
        log_variance, logits: [batch, height, width, 2], of the two Laplacians, variances in squared
            pixels of the size that the network worked at.
        levels: list from coarse to fine of dicts of the same three at the level's grid, in pixels
            of the level's image: `level_image_sizes`, where None is the size worked at.

    Args:
        global_iterations, local_iterations: steps of the two GOCor modules. The published networks
            were trained with 3 and 3 and evaluated with 3 and 7.
        separate_pyramids: whether the 256x256 images have a pyramid of their own (PDC-Net+).
    """

    mixture = _FINE_MIXTURE
    stride = 1
    minimum_size = 1
    level_image_sizes = ((_COARSE_SIZE, _COARSE_SIZE), (_COARSE_SIZE, _COARSE_SIZE), None, None)

    def __init__(
        self,
        global_iterations: int = 3,
        local_iterations: int = 7,
        separate_pyramids: bool = False,
        **kwargs,
    ):
        inputs = {
            name: keras.Input((None, None, 3), name=name, dtype="float32")
            for name in ("source", "target")
        }
        super().__init__(
            inputs=inputs,
            outputs=_network(
                inputs["source"],
                inputs["target"],
                GlobalGOCor(global_iterations, name="global_gocor"),
                LocalGOCor(local_iterations, name="local_gocor"),
                separate_pyramids,
            ),
            **kwargs,
        )
        self.global_iterations = global_iterations
        self.local_iterations = local_iterations
        self.separate_pyramids = separate_pyramids

    def get_config(self):
        return {
            "global_iterations": self.global_iterations,
            "local_iterations": self.local_iterations,
            "separate_pyramids": self.separate_pyramids,
            "name": self.name,
        }


class Operation(keras.layers.Layer):
    """A function of tensors as a node of the network, in float32."""

    def __init__(self, function: Callable, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.function = function

    def call(self, *tensors):
        return self.function(*tensors)


def working_size(height, width) -> tuple:
    """Returns the size at which the network works: multiples of 8, at least 256."""
    if isinstance(height, int) and isinstance(width, int):
        return max(256, height // 8 * 8), max(256, width // 8 * 8)
    return tf.maximum(256, height // 8 * 8), tf.maximum(256, width // 8 * 8)


def _network(source, target, global_gocor, local_gocor, separate_pyramids):
    fine_source = Operation(_prepare, name="fine_source")(source, target)
    fine_target = Operation(_prepare, name="fine_target")(target, target)
    coarse_source = Operation(_prepare_coarse, name="coarse_source")(source)
    coarse_target = Operation(_prepare_coarse, name="coarse_target")(target)

    pyramid = VGG16Pyramid(name="pyramid")
    coarse_pyramid = VGG16Pyramid(name="pyramid_256") if separate_pyramids else pyramid
    coarse = (coarse_pyramid(coarse_target), coarse_pyramid(coarse_source))
    fine = (pyramid(fine_target, stride=8), pyramid(fine_source, stride=8))

    level4 = _global_level(coarse[0][16], coarse[1][16], global_gocor)

    flow = Upsampling(name="deconv4", dtype="float32")(level4["flow"])
    level3, _ = _local_level(
        3, coarse, 8, local_gocor, flow, _upsampled_mixture(level4, coarse[0][8], 3), refine=True
    )

    flow = Operation(_to_fine_images, name="upsampled_flow3")(
        level3["flow"], fine[0][8], fine_target
    )
    level2, features = _local_level(
        2, fine, 8, local_gocor, flow, _upsampled_mixture(level3, fine[0][8], 2)
    )

    flow = Upsampling(name="deconv2", dtype="float32")(level2["flow"])
    features = Upsampling(name="upfeat2")(features)
    level1, _ = _local_level(
        1,
        fine,
        4,
        local_gocor,
        flow,
        _upsampled_mixture(level2, fine[0][4], 1),
        features=[features],
        refine=True,
    )

    at_target = Operation(_resize_like, name="log_variance")
    return {
        "flow": Operation(_final_flow, name="flow")(level1["flow"], fine_target, target),
        "log_variance": at_target(level1["log_variance"], target),
        "logits": Operation(_resize_like, name="logits")(level1["logits"], target),
        "levels": [level4, level3, level2, level1],
    }


def _global_level(target, source, gocor):
    """Level 4: finds the flow by comparing all pairs of positions."""
    target = Operation(_normalize_features, name="normalized_target")(target)
    source = Operation(_normalize_features, name="normalized_source")(source)
    scores = Operation(leaky_relu, name="correlation4")(gocor(target, source))
    x = Operation(_append_zeros, name="decoder4_input")(scores)
    features, mapping = FlowDecoder(name="decoder4")(x)
    flow = Operation(_normalized_map_to_flow, name="flow4")(mapping)
    plain = Operation(_plain_global_correlation, name="plain_correlation4")(target, source)
    uncertainty = CorrelationUncertainty(16, name="correlation_uncertainty4")(plain)
    return {"flow": flow} | _mixture(4, [uncertainty, features], _COARSE_MIXTURE)


def _local_level(level, pyramids, stride, gocor, flow, mixture, features=(), refine=False):
    """Levels 3 to 1: correct the flow by comparing with the warped source nearby.

    Args:
        level: its number.
        pyramids: of target and source.
        stride: of the features to compare.
        gocor: the local module, the same for all levels.
        flow, mixture: from the level above, at this level's grid.
        features: further inputs of the flow decoder.
        refine: whether a refinement network follows the flow decoder.

    Returns:
        The level's dict of outputs, and the flow decoder's features.
    """
    target, source = pyramids[0][stride], pyramids[1][stride]
    warped = Operation(
        lambda image, flow: warp.bilinear(image, flow / stride), name=f"warped_source{level}"
    )(source, flow)
    scores = Operation(leaky_relu, name=f"correlation{level}")(gocor(target, warped))
    x = _concatenate([scores, flow, *features, mixture], f"decoder{level}_input")
    decoded, correction = FlowDecoder(name=f"decoder{level}")(x)
    corrected = _add(flow, correction, f"decoded_flow{level}")
    judged = decoded
    if refine:
        refined, correction = RefinementNetwork(name=f"refinement{level}")(decoded, corrected)
        corrected = _add(corrected, correction, f"refined_flow{level}")
        judged = keras.layers.Add(name=f"refined_features{level}")([decoded, refined])
    plain = Operation(_plain_local_correlation, name=f"plain_correlation{level}")(target, warped)
    uncertainty = CorrelationUncertainty(9, name=f"correlation_uncertainty{level}")(plain)
    bounds = _COARSE_MIXTURE if level == 3 else _FINE_MIXTURE
    mixture = _mixture(level, [uncertainty, judged, mixture, flow], bounds)
    return {"flow": corrected} | mixture, decoded


def _mixture(level, inputs, bounds):
    x = _concatenate(inputs, f"uncertainty_decoder{level}_input")
    raw = UncertaintyDecoder(name=f"uncertainty_decoder{level}")(x)
    log_variance = Operation(lambda raw: bounds.constrain(raw[..., :1]), name=f"variance{level}")
    return {
        "log_variance": log_variance(raw),
        "logits": Operation(lambda raw: raw[..., 1:], name=f"logits{level}")(raw),
    }


def _upsampled_mixture(level_output, features, level):
    """Brings the level's log-variances and logits to the grid of the next level's features."""
    x = _concatenate([level_output["log_variance"], level_output["logits"]], None, "float32")
    return Operation(_resize_like, name=f"mixture_input{level}")(x, features)


def _concatenate(tensors, name, dtype=None):
    return keras.layers.Concatenate(name=name, dtype=dtype)(tensors)


def _add(flow, correction, name):
    return keras.layers.Add(name=name, dtype="float32")([flow, correction])


def _prepare(image, target):
    """Brings an image to the size worked at and normalises it."""
    size = working_size(*spatial_size(target))
    current = spatial_size(image)
    if all(isinstance(side, int) for side in (*size, *current)):
        image = image if size == current else resize_area(image, size)
    else:
        same = tf.reduce_all(tf.equal(size, current))
        image = tf.cond(same, lambda: image, lambda: resize_area(image, size))
    return normalize(image)


def _prepare_coarse(image):
    """Reduces an image to 256x256 and normalises it."""
    return normalize(resize_area(image, (_COARSE_SIZE, _COARSE_SIZE)))


def _normalize_features(x):
    return x * tf.math.rsqrt(tf.reduce_sum(tf.square(x), axis=-1, keepdims=True) + 1e-6)


def _append_zeros(scores):
    """Appends the two channels that later levels fill with the flow found so far."""
    return tf.pad(scores, [[0, 0], [0, 0], [0, 0], [0, 2]])


def _normalized_map_to_flow(mapping):
    """Turns the coarsest level's map, in [-1, 1] between the outermost pixel centres, to a flow."""
    flow = map_to_flow((mapping + 1.0) * (_COARSEST_GRID - 1) / 2.0)
    return flow * (_COARSE_SIZE / _COARSEST_GRID)


def _plain_global_correlation(target, source):
    return _normalize_features(tf.nn.relu(correlation.all_pairs(target, source)))


def _plain_local_correlation(target, source):
    return leaky_relu(correlation.local(target, source, radius=4))


def _to_fine_images(flow, features, image):
    """Turns a flow in pixels of 256x256 into one in pixels of the fine images, at their grid."""
    height, width = spatial_size(image)
    scale = tf.cast(tf.stack([width, height]), tf.float32) / _COARSE_SIZE
    return _resize_like(flow, features) * scale


def _resize_like(x, other):
    return resize_bilinear(x, spatial_size(other))


def _final_flow(flow, fine_target, target):
    """Brings the finest flow to the target's own size, in pixels of that size."""
    worked = tf.cast(tf.stack(spatial_size(fine_target)), tf.float32)
    wanted = tf.cast(tf.stack(spatial_size(target)), tf.float32)
    return _resize_like(flow, target) * tf.reverse(wanted / worked, [0])
