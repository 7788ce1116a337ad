"""PDC-Net and PDC-Net+ (Truong, Danelljan, Van Gool, Timofte: arXiv 2101.01710 and 2109.13912).

    level  image       stride  compares                           then
    4      256 x 256   16      all pairs of positions             decode
    3      256 x 256   8       the warped source within 9x9       decode, refine
    2      full        8       the warped source within 9x9       decode
    1      full        4       the warped source within 9x9       decode, refine

Each level gives the flow, in pixels of the image that it sees, and the mixture of two Laplacians
around it, and hands both to the next.
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tfdense.geometry import map_to_flow, resize_area, resize_bilinear, spatial_size
from tfdense.layers.convolution import leaky_relu
from tfdense.layers.decoders import FlowDecoder, RefinementNetwork, Upsampling
from tfdense.layers.freezing import KeepsFrozenParts
from tfdense.layers.gocor import GlobalGOCor, LocalGOCor
from tfdense.layers.uncertainty import MixtureDecoder
from tfdense.layers.vgg import VGG16Pyramid, imagenet_weights, normalize
from tfdense.losses import MixtureNLL
from tfdense.mixture import LaplaceMixture
from tfdense.models.network import MatchingNetwork, feature_shape
from tfdense.ops import correlation, warping

_COARSE_SIZE = 256
_COARSEST_GRID = 16
_COARSE_MIXTURE = LaplaceMixture(maximum_variance=256.0**2)
_FINE_MIXTURE = LaplaceMixture(maximum_variance=520.0**2)


class Pyramids(NamedTuple):
    """What matching needs of an image.

    Attributes:
        coarse: features by stride, of the image at 256x256.
        fine: those at the size worked at.
    """

    coarse: dict[int, tf.Tensor]
    fine: dict[int, tf.Tensor]


@keras.saving.register_keras_serializable("tfdense")
class PDCNet(MatchingNetwork):
    """The network of the two papers.

    Args:
        global_iterations, local_iterations: steps of the two GOCor modules. The published networks
            were trained with 3 and 3 and evaluated with 3 and 7.
        separate_pyramids: whether the 256x256 images have a pyramid of their own (PDC-Net+).
        train_backbone: whether the pyramids are trained too.
        backbone_weights: what training starts from: ``imagenet``, a file of the VGG-16 of
            ``keras.applications`` (without top), or None for random weights.
    """

    mixture = _FINE_MIXTURE
    stride = 8
    minimum_size = _COARSE_SIZE
    level_weights = (0.32, 0.08, 0.02, 0.01)

    def __init__(
        self,
        global_iterations: int = 3,
        local_iterations: int = 7,
        separate_pyramids: bool = False,
        train_backbone: bool = False,
        backbone_weights: str | None = "imagenet",
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.global_iterations = global_iterations
        self.local_iterations = local_iterations
        self.separate_pyramids = separate_pyramids
        self.train_backbone = train_backbone
        self.backbone_weights = backbone_weights

        own = {"dtype": self.dtype_policy}
        self.pyramid = VGG16Pyramid(name="pyramid", **own)
        self.pyramid_256 = VGG16Pyramid(name="pyramid_256", **own) if separate_pyramids else None
        self.global_gocor = GlobalGOCor(global_iterations, name="global_gocor")
        self.local_gocor = LocalGOCor(local_iterations, name="local_gocor")
        self.level4 = GlobalLevel(_COARSE_MIXTURE, name="level4", **own)
        self.level3 = LocalLevel(_COARSE_MIXTURE, refine=True, name="level3", **own)
        self.level2 = LocalLevel(_FINE_MIXTURE, name="level2", **own)
        self.level1 = LocalLevel(_FINE_MIXTURE, refine=True, name="level1", **own)
        self.deconv4 = Upsampling(name="deconv4", dtype="float32")
        self.deconv2 = Upsampling(name="deconv2", dtype="float32")
        self.upfeat2 = Upsampling(name="upfeat2", **own)
        self.build()

    def build(self, input_shape=None):
        """Makes all weights, whose shapes do not depend on the images."""
        for pyramid in self._pyramids():
            pyramid.build(feature_shape(3))
            pyramid.trainable = self.train_backbone
        self.global_gocor.build((None, _COARSEST_GRID, _COARSEST_GRID, 512))
        self.local_gocor.build(feature_shape(None))
        global_scores = (None, _COARSEST_GRID, _COARSEST_GRID, _COARSEST_GRID**2)
        self.level4.build(global_scores, global_scores)
        for level, features in (
            (self.level3, ()),
            (self.level2, ()),
            (self.level1, [feature_shape(2)]),
        ):
            level.build(
                feature_shape(81), feature_shape(81), feature_shape(2), feature_shape(4), features
            )
        self.deconv4.build(feature_shape(2))
        self.deconv2.build(feature_shape(2))
        self.upfeat2.build(feature_shape(32))

    def call(self, inputs, training=False):
        """Matches two images.

        Args:
            inputs: {"source", "target"}, each [batch, height, width, 3], RGB in 0..255, sides
                divisible by 8 and at least 256. Other sizes, which may differ between the two, are
                brought to the target's size rounded so, by area, as the authors do.

        Returns:
            {"flow": [batch, height, width, 2] at the target's size, in its pixels, "log_variance"
            and "logits": [batch, height, width, 2], of variances in squared pixels of the size
            worked at; "levels": the same three for levels 4 to 1 on their grids}, float32. Levels 4
            and 3 count pixels of the images resized to 256x256, which their "image_size" says.
        """
        target_size = spatial_size(inputs["target"])
        size = working_size(*target_size)
        target = self.features(inputs["target"], size)
        # One after the other: at once they would take twice the memory.
        with tf.control_dependencies([target.coarse[16]]):
            source = self.features(inputs["source"], size)
        return self.match_features(source, target, training, target_size)

    def features(self, image, size=None) -> Pyramids:
        """Computes what matching needs of an image, whichever other it is matched with.

        Args:
            image: [batch, height, width, 3], RGB in 0..255.
            size: (height, width) to work at, multiples of 8 and at least 256; None takes the
                image's, which must be such.
        """
        image = tf.cast(image, tf.float32)
        resized = image if size is None else _resized(image, size)
        fine = self.pyramid(normalize(resized), stride=8)
        # The small one after the large one, which needs the memory alone.
        with tf.control_dependencies([fine[8]]):
            reduced = resize_area(image, (_COARSE_SIZE, _COARSE_SIZE))
        return Pyramids((self.pyramid_256 or self.pyramid)(normalize(reduced)), fine)

    def match_features(
        self, source: Pyramids, target: Pyramids, training=False, target_size=None
    ) -> dict:
        """Matches two images by their features.

        Args:
            source, target: of the images, worked at the same size.
            training: as of `call`.
            target_size: (height, width) of the answer; None takes the size worked at.

        Returns:
            As `call`.
        """
        coarse, fine = zip(target, source, strict=True)
        size = [8 * side for side in spatial_size(fine[0][8])]
        target_size = size if target_size is None else target_size

        target, source = (_unit_length(features[16]) for features in coarse)
        scores = self.global_gocor(target, source)
        plain = _unit_length(tf.nn.relu(correlation.all_pairs(target, source)))
        level4 = self.level4(scores, plain, training=training)

        flow = self.deconv4(level4["flow"])
        level3, _ = self._correct(self.level3, coarse, 8, flow, level4, training)

        flow = resize_bilinear(level3["flow"], spatial_size(fine[0][8]))
        flow *= tf.cast(tf.stack([size[1], size[0]]), tf.float32) / _COARSE_SIZE
        level2, features = self._correct(self.level2, fine, 8, flow, level3, training)

        flow, features = self.deconv2(level2["flow"]), self.upfeat2(features)
        features = [tf.cast(features, tf.float32)]
        level1, _ = self._correct(self.level1, fine, 4, flow, level2, training, features)

        final = {name: resize_bilinear(value, target_size) for name, value in level1.items()}
        scale = tf.stack([target_size[1] / size[1], target_size[0] / size[0]])
        final["flow"] *= tf.cast(scale, tf.float32)
        for level in (level4, level3):
            level["image_size"] = tf.constant([_COARSE_SIZE, _COARSE_SIZE])
        return {**final, "levels": [level4, level3, level2, level1]}

    def _correct(self, level, pyramids, stride, flow, coarser, training, features=()):
        """Compares the target with the source, warped by the flow so far, and corrects the flow."""
        target, source = (pyramid[stride] for pyramid in pyramids)
        warped = warping.bilinear(source, flow / stride)
        mixture = tf.concat([coarser["log_variance"], coarser["logits"]], axis=-1)
        # The optimisation needs no flow. Begun early, it would take memory beside other levels.
        with tf.control_dependencies([warped]):
            target = tf.identity(target)
        return level(
            *self.local_gocor(target, warped),
            flow,
            resize_bilinear(mixture, spatial_size(target)),
            features,
            training=training,
        )

    def default_loss(self):
        """Returns the loss of the paper's first stage: summed over the pixels of each level."""
        return MixtureNLL(
            self.mixture,
            self.level_weights,
            pixel_reduction="sum",
            unmatched_weight=0.0,
            extrapolation_weight=0.0,
        )

    def load_backbone_weights(self) -> None:
        """Loads what `backbone_weights` names into the pyramids.

        Raises:
            InputError: if the file does not fit, or the weights cannot be fetched.
        """
        if self.backbone_weights is not None:
            weights = imagenet_weights(self.backbone_weights)
            for pyramid in self._pyramids():
                pyramid.set_weights(weights)

    def _pyramids(self) -> list[VGG16Pyramid]:
        return [self.pyramid, self.pyramid_256] if self.separate_pyramids else [self.pyramid]

    def get_config(self):
        return {
            **super().get_config(),
            "global_iterations": self.global_iterations,
            "local_iterations": self.local_iterations,
            "separate_pyramids": self.separate_pyramids,
            "train_backbone": self.train_backbone,
            "backbone_weights": self.backbone_weights,
        }


@keras.saving.register_keras_serializable("tfdense")
class GlobalLevel(KeepsFrozenParts, keras.layers.Layer):
    """Level 4: decodes the flow from the comparison of all pairs of positions.

    Args:
        mixture: the distribution around the flow.

    Call:
        scores: of the optimised filters, [batch, 16, 16, 256].
        plain: correlation of the features themselves, of the same shape.
        Returns {"flow", "log_variance", "logits"}, [batch, 16, 16, 2] each.
    """

    def __init__(self, mixture: LaplaceMixture, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.decoder = FlowDecoder(name="decoder", dtype=self.dtype_policy)
        self.mixture = MixtureDecoder(
            mixture, side=_COARSEST_GRID, name="mixture", dtype=self.dtype_policy
        )

    def build(self, scores_shape, plain_shape):
        self.decoder.build(feature_shape(scores_shape[-1] + 2))
        self.mixture.build(plain_shape, [feature_shape(32)])

    def call(self, scores, plain, training=False):
        # The decoders of later levels see the flow so far in the place of these two zeros.
        x = tf.pad(leaky_relu(scores), [[0, 0], [0, 0], [0, 0], [0, 2]])
        features, mapping = self.decoder(x, training=training)
        # The map is in [-1, 1] between the centres of the outermost positions.
        flow = map_to_flow((mapping + 1.0) * (_COARSEST_GRID - 1) / 2.0)
        flow *= _COARSE_SIZE / _COARSEST_GRID
        return {"flow": flow, **self.mixture(plain, [features], training=training)}

    def compute_output_shape(self, scores_shape, plain_shape):
        return _fields(scores_shape)

    def get_config(self):
        return {**super().get_config(), "mixture": self.mixture.get_config()["mixture"]}

    @classmethod
    def from_config(cls, config):
        mixture = keras.saving.deserialize_keras_object(config["mixture"])
        return cls(**{**config, "mixture": mixture})


@keras.saving.register_keras_serializable("tfdense")
class LocalLevel(KeepsFrozenParts, keras.layers.Layer):
    """Levels 3 to 1: corrects the flow by the comparison with the warped source nearby.

    Args:
        mixture: the distribution around the flow.
        refine: whether a refinement network follows the flow decoder.

    Call:
        scores: of the optimised filters, [batch, height, width, 81].
        plain: correlation of the features themselves, of the same shape.
        flow: found so far, [batch, height, width, 2].
        mixture: of the level above, log-variances and logits, [batch, height, width, 4].
        features: a list of further inputs of the flow decoder, [batch, height, width, ...].
        Returns {"flow", "log_variance", "logits"}, [batch, height, width, 2] each, and the flow
        decoder's features [batch, height, width, 32].
    """

    def __init__(self, mixture: LaplaceMixture, refine: bool = False, **kwargs):
        super().__init__(autocast=False, **kwargs)
        own = {"dtype": self.dtype_policy}
        self.refine = refine
        self.decoder = FlowDecoder(name="decoder", **own)
        self.refinement = RefinementNetwork(name="refinement", **own) if refine else None
        self.mixture = MixtureDecoder(mixture, side=9, name="mixture", **own)

    def build(self, scores_shape, plain_shape, flow_shape, mixture_shape, features_shape=()):
        shapes = (scores_shape, flow_shape, *features_shape, mixture_shape)
        self.decoder.build((*scores_shape[:3], sum(shape[-1] for shape in shapes)))
        if self.refinement is not None:
            self.refinement.build(feature_shape(32), flow_shape)
        self.mixture.build(plain_shape, [feature_shape(32), mixture_shape, flow_shape])

    def call(self, scores, plain, flow, mixture, features: Sequence = (), training=False):
        flow, mixture = tf.cast(flow, tf.float32), tf.cast(mixture, tf.float32)
        known = [tf.cast(x, tf.float32) for x in (leaky_relu(scores), flow, *features, mixture)]
        x = tf.concat(known, axis=-1)
        decoded, correction = self.decoder(x, training=training)
        corrected = flow + correction
        judged = decoded
        if self.refinement is not None:
            refined, correction = self.refinement(decoded, corrected, training=training)
            corrected += correction
            judged += refined
        evidence = [judged, mixture, flow]
        outputs = self.mixture(leaky_relu(plain), evidence, training=training)
        return {"flow": corrected, **outputs}, decoded

    def compute_output_shape(
        self, scores_shape, plain_shape, flow_shape, mixture_shape, features_shape=()
    ):
        return _fields(scores_shape), (*scores_shape[:3], 32)

    def get_config(self):
        mixture = self.mixture.get_config()["mixture"]
        return {**super().get_config(), "mixture": mixture, "refine": self.refine}

    @classmethod
    def from_config(cls, config):
        mixture = keras.saving.deserialize_keras_object(config["mixture"])
        return cls(**{**config, "mixture": mixture})


def working_size(height, width) -> tuple:
    """Returns the size at which the authors' network works: multiples of 8, at least 256."""
    if isinstance(height, int) and isinstance(width, int):
        return max(_COARSE_SIZE, height // 8 * 8), max(_COARSE_SIZE, width // 8 * 8)
    return tf.maximum(_COARSE_SIZE, height // 8 * 8), tf.maximum(_COARSE_SIZE, width // 8 * 8)


def _resized(image, size) -> tf.Tensor:
    """Resizes an image by area; one that has the size already costs nothing."""
    current = spatial_size(image)
    if all(isinstance(side, int) for side in (*size, *current)):
        return image if tuple(size) == current else resize_area(image, size)
    same = tf.reduce_all(tf.equal(size, current))
    return tf.cond(same, lambda: image, lambda: resize_area(image, size))


def _fields(shape) -> dict:
    """Returns the shapes of a level's answer from that of its scores."""
    return dict.fromkeys(("flow", "log_variance", "logits"), (*shape[:3], 2))


def _unit_length(x) -> tf.Tensor:
    return x * tf.math.rsqrt(tf.reduce_sum(tf.square(x), axis=-1, keepdims=True) + 1e-6)
