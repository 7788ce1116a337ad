"""pdcnet-lite: the method of PDC-Net in a network for CPUs and devices.

    features   EfficientNet-Lite0 at strides 16, 8 and 4, projected to a common space; at stride 16
               also descriptors that have seen places
    stride 16  match over the whole image gives a first flow, which spreads from where it is certain
               to where it is not; a decoder corrects it
    stride 8   upsample, warp, correlate within 9x9 cells, decode a correction
    stride 4   the same; the result is resized to the image, or brought to it by a level at full
               resolution

Each decoder also opens or corrects the mixture that says how far the flow can be trusted.
"""

from importlib import resources
from typing import NamedTuple

import keras
import tensorflow as tf

from tfdense.geometry import resize_bilinear, spatial_size
from tfdense.layers.attention import ContextLayer, FlowPropagation
from tfdense.layers.channels_last import Conv2D
from tfdense.layers.efficientnet_lite import efficientnet_lite0_pyramid
from tfdense.layers.freezing import KeepsFrozenParts
from tfdense.layers.full_resolution import FullResolution
from tfdense.layers.matching import (
    GlobalMatching,
    JoinedDescriptors,
    UnitMeanSquare,
    WarpedCorrelation,
)
from tfdense.layers.place_descriptors import place_descriptors as build_place_descriptors
from tfdense.mixture import LaplaceMixture
from tfdense.models.network import Features, MatchingNetwork, check_sides, feature_shape

_STRIDES = (16, 8, 4)
# Of accurate matches at most and of all others at least, in px².
_BORDER_VARIANCE = 9.0
# How many measures of it the global matching gives.
_CERTAINTIES = 4


class Coarse(NamedTuple):
    """What the network finds at stride 4.

    Attributes:
        flow: [batch, height / 4, width / 4, 2], in px of the images.
        raw: variances and logits before their bounds, [batch, height / 4, width / 4, 4].
        state: of the decoder, [batch, height / 4, width / 4, channels].
        levels, matching: as the network answers them.
    """

    flow: tf.Tensor
    raw: tf.Tensor
    state: tf.Tensor
    levels: list[dict[str, tf.Tensor]]
    matching: tf.Tensor


@keras.saving.register_keras_serializable("tfdense")
class PDCNetLite(MatchingNetwork):
    """A three-level matching network with a mixture head.

    Args:
        projection_channels: of the features that are matched, at strides 16, 8 and 4.
        decoder_channels: of each level's three convolutions, coarse to fine.
        radius: of the local correlation, in cells.
        maximum_variance: upper bound of the mixture's second variance, in px².
        least_first_variance: lower bound of its first variance, in px²; 9 px² is then that one's
            upper and the second's lower bound. None fixes the first at 1 px², as PDC-Net does.
        context_layers: how often the features at stride 16 attend to each other.
        train_backbone: whether the pyramid's own weights are trained too.
        refinement_passes: through the level at full resolution, see
            `tfdense.layers.full_resolution`. Its weights are the same for any number; with 0 there
            is no such level, and the answer is that of stride 4, resized.
        train_coarse: whether anything but that level is trained.
        place_descriptors: whether the match over the whole image also sees features as they come
            from the backbone and the descriptors of `tfdense.layers.place_descriptors`, which are
            never trained.
    """

    stride = 16
    minimum_size = 32

    def __init__(
        self,
        projection_channels: tuple[int, int, int] = (96, 64, 32),
        decoder_channels: tuple[tuple[int, ...], ...] = ((128, 96, 96), (96, 80, 64), (64, 48, 48)),
        radius: int = 4,
        maximum_variance: float = 256.0**2,
        least_first_variance: float | None = 0.01,
        context_layers: int = 2,
        train_backbone: bool = True,
        refinement_passes: int = 0,
        train_coarse: bool = True,
        place_descriptors: bool = False,
        **kwargs,
    ):
        if not isinstance(refinement_passes, int) or refinement_passes < 0:
            raise ValueError(
                "`refinement_passes` must be an integer of at least 0. "
                f"Received: {refinement_passes=}"
            )
        if not (train_coarse or refinement_passes):
            raise ValueError(
                "`train_coarse=False` trains the level at full resolution alone, which needs "
                f"`refinement_passes` of at least 1. Received: {refinement_passes=}"
            )
        super().__init__(**kwargs)
        self.projection_channels = tuple(projection_channels)
        self.decoder_channels = tuple(tuple(channels) for channels in decoder_channels)
        self.radius = radius
        self.maximum_variance = maximum_variance
        self.least_first_variance = least_first_variance
        self.context_layers = context_layers
        self.train_backbone = train_backbone
        self.refinement_passes = refinement_passes
        self.train_coarse = train_coarse
        self.place_descriptors = place_descriptors
        self.level_weights = (0.3, 0.5, 1.0) + (1.0,) * refinement_passes

        bounds = {}
        if least_first_variance is not None:
            bounds = {"first_variance": _BORDER_VARIANCE, "minimum_variance": _BORDER_VARIANCE}
        self.mixture = LaplaceMixture(
            maximum_variance=maximum_variance, least_first_variance=least_first_variance, **bounds
        )
        own = {"dtype": self.dtype_policy}
        self.pyramid = efficientnet_lite0_pyramid(**own)
        self.pyramid.trainable = train_backbone
        if place_descriptors:
            self.places = build_place_descriptors(**own)
            self.places.trainable = False
            self.join = JoinedDescriptors(name="join", **own)
        self.projections = [
            Conv2D(channels, 1, name=f"projection_{stride}", **own)
            for stride, channels in zip(_STRIDES, self.projection_channels, strict=True)
        ]
        self.context = [
            ContextLayer(self.projection_channels[0], name=f"context_{i}", **own)
            for i in range(context_layers)
        ]
        self.normalise = UnitMeanSquare(name="normalise", **own)
        self.global_matching = GlobalMatching(name="global_matching", **own)
        self.propagation = FlowPropagation(self.projection_channels[0], name="propagation", **own)
        self.correlation = WarpedCorrelation(radius, name="correlation", **own)
        self.decoders = [
            LevelDecoder(channels, self.mixture.free_variances, name=f"decoder_{stride}", **own)
            for stride, channels in zip(_STRIDES, self.decoder_channels, strict=True)
        ]
        if not train_coarse:
            for layer in self.layers:
                layer.trainable = False
        if refinement_passes:
            fields = self.mixture.free_variances + 2
            self.refinement = FullResolution(
                refinement_passes, fields=fields, name="refinement", **own
            )
        self.build()

    def build(self, input_shape=None):
        """Makes all weights, whose shapes do not depend on the images."""
        self.pyramid.build(feature_shape(3))
        coarsest, *others = (x.shape for x in reversed(self.pyramid.outputs))
        parts = [coarsest]
        if self.place_descriptors:
            self.places.build(feature_shape(3))
            parts.append(self.places.outputs[0].shape)
        found = [feature_shape(sum(shape[-1] for shape in parts)), *others]
        for projection, shape in zip(self.projections, found, strict=True):
            projection.build(shape)
        coarse, *finer = (feature_shape(channels) for channels in self.projection_channels)
        matched = coarse
        if self.place_descriptors:
            self.join.build([coarse, *parts])
            matched = self.join.compute_output_shape([coarse, *parts])
        for layer in self.context:
            layer.build(coarse, coarse)
        self.normalise.build(coarse)
        self.global_matching.build(matched, matched)
        self.propagation.build(coarse, feature_shape(2), feature_shape(_CERTAINTIES))
        self.correlation.build(coarse, coarse, feature_shape(2))
        known = feature_shape(_CERTAINTIES)
        raw = feature_shape(self.mixture.free_variances + 2)
        for target, decoder in zip((coarse, *finer), self.decoders, strict=True):
            volume = self.correlation.compute_output_shape(target)
            decoder.build([target, volume, raw, known])
            known = feature_shape(decoder.channels[-1])
        if self.refinement_passes:
            self.refinement.build(feature_shape(2), raw, known, feature_shape(3), feature_shape(3))

    def call(self, inputs, training=None, refine: bool = True):
        """Matches two images.

        Args:
            inputs: {"source", "target"}, each [batch, height, width, 3], RGB in 0..255, sides
                divisible by 16.
            training: whether to normalise by the batch's own statistics.
            refine: whether to go through the level at full resolution, if there is one.

        Returns:
            {"flow": [batch, height, width, 2], in px, "log_variance" and "logits":
            [batch, height, width, 2], "levels": the same three at strides 16, 8 and 4, and after
            each pass of the refinement, "matching": log-probability of each source cell at stride
            16, [batch, height / 16, width / 16, cells]}, float32.

        Raises:
            InputError: if the sides are known and do not fit.
        """
        check_sides(self, inputs["target"])
        source, target = (self.features(inputs[role]) for role in ("source", "target"))
        return self.match_features(source, target, training, refine)

    def features(self, image) -> Features:
        """Computes what matching needs of an image, whichever other it is matched with.

        Args:
            image: [batch, height, width, 3], RGB in 0..255, sides divisible by 16.

        Returns:
            The image, its projected features, at strides 16, 8 and 4, and what of it is matched
            as it is.
        """
        features, descriptors = list(reversed(self.pyramid(image))), []
        if self.place_descriptors:
            descriptors = [self.normalise(x) for x in (features[0], self.places(image))]
            features[0] = tf.concat(descriptors, axis=-1)
        pyramid = zip(self.projections, features, strict=True)
        return Features(image, [project(x) for project, x in pyramid], descriptors)

    def match_features(
        self, source: Features, target: Features, training=None, refine: bool = True
    ) -> dict:
        """Matches two images by their features; arguments and answer as of `call`."""
        # What is not trained keeps its statistics.
        coarse = self._coarse(source, target, training and self.train_coarse)
        if refine and self.refinement_passes:
            refined = self.refinement(
                *(x if self.train_coarse else tf.stop_gradient(x) for x in coarse[:3]),
                target.image,
                source.image,
            )
            levels = coarse.levels + [self._level(flow, raw) for flow, raw in refined]
            return {**levels[-1], "levels": levels, "matching": coarse.matching}
        size = spatial_size(target.image)
        final = self._level(resize_bilinear(coarse.flow, size), resize_bilinear(coarse.raw, size))
        return {**final, "levels": coarse.levels, "matching": coarse.matching}

    def _coarse(self, source: Features, target: Features, training=None) -> Coarse:
        """Matches two images down to stride 4."""
        targets, sources = self._in_context(target.pyramid, source.pyramid)
        matched, certainty, matching = self.global_matching(
            *(
                self.join([features[0], *image.descriptors]) if image.descriptors else features[0]
                for features, image in ((targets, target), (sources, source))
            )
        )
        # The matching has its own loss.
        matched = tf.stop_gradient(matched) * _STRIDES[0]
        flow, state = self.propagation(targets[0], matched, certainty), None
        raw = self._initial_raw(flow)
        levels = []
        for stride, target, source, decoder in zip(
            _STRIDES, targets, sources, self.decoders, strict=True
        ):
            if levels:
                size = spatial_size(target)
                flow, raw, state = (resize_bilinear(x, size) for x in (flow, raw, state))
                # Its own level corrects it, not the one before.
                flow = tf.stop_gradient(flow)
            correlation = self.correlation(target, source, tf.stop_gradient(flow) / stride)
            evidence = [target, correlation, raw, certainty if state is None else state]
            state, correction = decoder(evidence, training=training)
            flow += correction[..., :2] * stride
            raw += correction[..., 2:]
            levels.append(self._level(flow, raw))
        return Coarse(flow, raw, state, levels, matching)

    def load_backbone_weights(self) -> None:
        """Loads the weights of pyramid and descriptors that come with the package."""
        parts = {"efficientnet_lite0": self.pyramid}
        if self.place_descriptors:
            parts["xfeat"] = self.places
        for name, part in parts.items():
            weights = resources.files("tfdense.weights") / f"{name}.weights.h5"
            with resources.as_file(weights) as path:
                part.load_weights(path)

    def get_config(self):
        return {
            **super().get_config(),
            "projection_channels": self.projection_channels,
            "decoder_channels": self.decoder_channels,
            "radius": self.radius,
            "maximum_variance": self.maximum_variance,
            "least_first_variance": self.least_first_variance,
            "context_layers": self.context_layers,
            "train_backbone": self.train_backbone,
            "refinement_passes": self.refinement_passes,
            "train_coarse": self.train_coarse,
            "place_descriptors": self.place_descriptors,
        }

    def _in_context(self, *pyramids: list[tf.Tensor]) -> list[list[tf.Tensor]]:
        """Tells two images' features of each other; returns them, normalised, coarse to fine."""
        first, second = ([*pyramid] for pyramid in pyramids)
        for layer in self.context:
            first[0], second[0] = layer(first[0], second[0]), layer(second[0], first[0])
        return [[self.normalise(features) for features in pyramid] for pyramid in (first, second)]

    def _initial_raw(self, flow) -> tf.Tensor:
        """Returns raw variances and logits of a first guess that is 20 px off or more."""
        free = self.mixture.free_variances
        values = tf.constant([0.0] * (free - 1) + [6.0, 0.0, 0.0])
        return tf.zeros_like(flow[..., :1]) + values

    def _level(self, flow, raw) -> dict[str, tf.Tensor]:
        return {
            "flow": flow,
            "log_variance": self.mixture.constrain(raw[..., :-2]),
            "logits": raw[..., -2:],
        }


@keras.saving.register_keras_serializable("tfdense")
class LevelDecoder(KeepsFrozenParts, keras.layers.Layer):
    """Decodes the evidence of one level into a correction of flow and mixture.

    Attributes:
        channels: of its convolutions, one 1x1, then 3x3 ones, each normalised over the batch.
        free_variances: of the mixture.
    """

    def __init__(self, channels: tuple[int, ...], free_variances: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        self.free_variances = free_variances
        own = {"dtype": self.dtype_policy}
        self.convolutions = [
            Conv2D(n, 3 if i else 1, padding="same", use_bias=False, name=f"convolution_{i}", **own)
            for i, n in enumerate(self.channels)
        ]
        self.normalisations = [
            keras.layers.BatchNormalization(
                momentum=0.95,  # at which the statistics settle within some hundred steps
                synchronized=tf.distribute.get_strategy().num_replicas_in_sync > 1,
                name=f"normalisation_{i}",
                **own,
            )
            for i in range(len(self.channels))
        ]
        # Near zero: the untrained network answers with the global match.
        self.correction = Conv2D(
            4 + free_variances,
            3,
            padding="same",
            dtype="float32",
            kernel_initializer=keras.initializers.RandomNormal(stddev=1e-3),
            name="correction",
        )

    def build(self, evidence_shape):
        shape = (*evidence_shape[0][:3], sum(shape[-1] for shape in evidence_shape))
        for convolution, normalise in zip(self.convolutions, self.normalisations, strict=True):
            convolution.build(shape)
            shape = (*shape[:3], convolution.filters)
            normalise.build(shape)
        self.correction.build(shape)

    def call(self, evidence, training=None):
        """Decodes.

        Args:
            evidence: a list of [batch, height, width, ...] tensors.
            training: whether to normalise by the batch's own statistics.

        Returns:
            The hidden state [batch, height, width, channels[-1]], and the correction, float32
            [batch, height, width, 4 + free_variances]: flow in cells, raw log-variances, logits.
        """
        x = tf.concat([tf.cast(part, self.compute_dtype) for part in evidence], axis=-1)
        for convolution, normalise in zip(self.convolutions, self.normalisations, strict=True):
            x = tf.nn.relu(normalise(convolution(x), training=training))
        return x, self.correction(x)

    def compute_output_shape(self, evidence_shape):
        size = evidence_shape[0][:3]
        return (*size, self.channels[-1]), (*size, 4 + self.free_variances)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "free_variances": self.free_variances,
        }
