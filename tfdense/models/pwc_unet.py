"""pwc-unet: a flow network after PWC-Net and a confidence network after U-Net, on one pyramid.

    features    two 3x3 convolutions a level at strides 2 to 64, shared by both networks
    flow        at strides 64 to 4: upsample, warp, correlate within 9x9 cells, decode a correction
                by densely connected convolutions; dilated convolutions at the end
    confidence  a U-Net compares the target with the source warped by the flow, images and
                features, and answers for each pixel how far the flow can be trusted

The distribution of the flow is a normal one around it, mixed with a uniform one: the weight of the
normal is the confidence of the plainer method, and needs no ground truth to be trained.
"""

import math

import keras
import tensorflow as tf

from tfdense.geometry import resize_bilinear, spatial_size
from tfdense.layers.matching import UnitMeanSquare, WarpedCorrelation
from tfdense.layers.pwc import ContextNetwork, DenseDecoder, FeaturePyramid
from tfdense.layers.unet import UNet
from tfdense.mixture import GaussianUniformMixture
from tfdense.models.network import Features, MatchingNetwork, check_sides, feature_shape
from tfdense.ops import warping

_STRIDES = (64, 32, 16, 8, 4)  # of the flow
_CONFIDENCE_STRIDES = (2, 4, 8)  # of the features that the confidence network sees


@keras.saving.register_keras_serializable("tfdense")
class PWCUNet(MatchingNetwork):
    """A coarse-to-fine flow network and a confidence network that share their features.

    Gradients: the confidence network sees the source warped by the flow, but its gradient ends
    there: the flow network never learns to please the confidence, only to be right. Both train
    the features. Within the flow network each level's flow learns from its own loss alone: the
    finer levels see no further than their window, and would lead a coarse one astray.

    Args:
        feature_channels: of the pyramid, at strides 2, 4, 8, 16, 32, 64.
        decoder_channels: of each flow decoder's convolutions.
        context_channels: of the dilated convolutions.
        confidence_channels: of the U-Net's encoder, at strides 2, 4, 8, 16.
        radius: of the local correlation, in cells.
        extent: side of the square that the uniform component covers, in px: that of the images it
            is trained on.
        initial_variance: of the normal component before training, in px². Likelihood needs one as
            large as the first errors, or these count as uniform and the flow has no gradient; the
            photometric objective, which does not train it, one like the errors of a good flow.
    """

    stride = 64
    minimum_size = 64
    level_weights = (0.1, 0.2, 0.3, 0.5, 1.0)

    def __init__(
        self,
        feature_channels: tuple[int, ...] = (16, 32, 48, 64, 80, 96),
        decoder_channels: tuple[int, ...] = (48, 40, 32, 24, 16),
        context_channels: tuple[int, ...] = (48, 48, 48, 32, 24, 16),
        confidence_channels: tuple[int, ...] = (16, 32, 48, 64),
        radius: int = 4,
        extent: float = 256.0,
        initial_variance: float = 400.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.feature_channels = _channels("feature_channels", feature_channels, 6)
        self.decoder_channels = _channels("decoder_channels", decoder_channels)
        self.context_channels = _channels("context_channels", context_channels)
        self.confidence_channels = _channels("confidence_channels", confidence_channels, 4)
        self.radius = radius
        self.extent = extent
        self.initial_variance = initial_variance

        self.mixture = GaussianUniformMixture(extent=extent)
        if not self.mixture.minimum_variance < initial_variance < extent**2:
            raise ValueError(
                f"`initial_variance` must lie between {self.mixture.minimum_variance} and "
                f"extent². Received: {initial_variance=}, {extent=}"
            )
        initial_mixture = (math.log(initial_variance), 0.0)
        own = {"dtype": self.dtype_policy}
        self.pyramid = FeaturePyramid(self.feature_channels, name="pyramid", **own)
        self.normalise = UnitMeanSquare(name="normalise", **own)
        self.correlation = WarpedCorrelation(radius, name="correlation", **own)
        # At stride 4 the confidence network has the say on the mixture.
        self.decoders = [
            DenseDecoder(
                self.decoder_channels,
                (0.0, 0.0) if stride == _STRIDES[-1] else (0.0, 0.0, *initial_mixture),
                name=f"decoder_{stride}",
                **own,
            )
            for stride in _STRIDES
        ]
        self.context = ContextNetwork(self.context_channels, name="context", **own)
        self.confidence = UNet(self.confidence_channels, initial_mixture, name="confidence", **own)
        self.build()

    def build(self, input_shape=None):
        """Makes all weights, whose shapes do not depend on the images."""
        self.pyramid.build(feature_shape(3))
        features = [feature_shape(channels) for channels in self.feature_channels]
        self.normalise.build(features[-1])
        self.correlation.build(features[-1], features[-1], feature_shape(2))
        hidden = []
        for target, decoder in zip(features[:0:-1], self.decoders, strict=True):
            volume = self.correlation.compute_output_shape(target)
            decoder.build([target, volume, feature_shape(2), *hidden])
            hidden = [feature_shape(self.decoder_channels[-1])]
        self.context.build(*hidden, feature_shape(2))
        evidence = [feature_shape(3), *features[: len(_CONFIDENCE_STRIDES)]]
        self.confidence.build([[shape, shape] for shape in evidence])

    def call(self, inputs):
        """Matches two images.

        Args:
            inputs: {"source", "target"}, each [batch, height, width, 3], RGB in 0..255, sides
                divisible by 64.

        Returns:
            {"flow": [batch, height, width, 2], in px, "log_variance" and "logits":
            [batch, height, width, 2], of the normal and the uniform component, "levels": the same
            three at strides 64, 32, 16, 8, and 1}, float32. The last level is the answer itself.

        Raises:
            InputError: if the sides are known and do not fit.
        """
        check_sides(self, inputs["target"])
        return self.match_features(*(self.features(inputs[name]) for name in ("source", "target")))

    def features(self, image) -> Features:
        """Computes what matching needs of an image, whichever other it is matched with.

        Args:
            image: [batch, height, width, 3], RGB in 0..255, sides divisible by 64.

        Returns:
            The image and its features, fine to coarse.
        """
        return Features(image, self.pyramid(_centred(image)))

    def match_features(self, source: Features, target: Features) -> dict:
        """Matches two images by their features; answers as `call` does."""
        flow, levels = self._match(target.pyramid, source.pyramid)
        log_variance, logits = self._trust(source, target, tf.stop_gradient(flow))
        answer = {
            "flow": resize_bilinear(flow, spatial_size(target.image)),
            "log_variance": log_variance,
            "logits": logits,
        }
        return {**answer, "levels": [*levels, answer]}

    def get_config(self):
        return {
            **super().get_config(),
            "feature_channels": self.feature_channels,
            "decoder_channels": self.decoder_channels,
            "context_channels": self.context_channels,
            "confidence_channels": self.confidence_channels,
            "radius": self.radius,
            "extent": self.extent,
            "initial_variance": self.initial_variance,
        }

    def _match(self, targets, sources) -> tuple[tf.Tensor, list[dict[str, tf.Tensor]]]:
        """Returns the flow at stride 4, in px, and the levels before it.

        Args:
            targets, sources: pyramids, fine to coarse.
        """
        state, levels = None, []
        pyramids = zip(_STRIDES, self.decoders, targets[:0:-1], sources[:0:-1], strict=True)
        for stride, decoder, target, source in pyramids:
            size = spatial_size(target)
            target, source = (self.normalise(_without_mean(x)) for x in (target, source))
            if state is None:
                flow, hidden = tf.zeros_like(target[..., :2], tf.float32), []
            else:
                # Its own level corrects it, not the finer ones, which see no further than a window.
                flow = tf.stop_gradient(resize_bilinear(flow, size))
                hidden = [resize_bilinear(state, size)]
            cells = flow / stride
            correlation = self.correlation(target, source, cells)
            state, answer = decoder([target, correlation, cells, *hidden])
            flow += self._within_window(answer[..., :2]) * stride
            if decoder is not self.decoders[-1]:
                log_variance, logits = self._mixture_parameters(answer[..., 2:])
                levels.append({"flow": flow, "log_variance": log_variance, "logits": logits})
        flow += self._within_window(self.context(state, flow / stride)) * stride
        return flow, levels

    def _within_window(self, correction) -> tf.Tensor:
        """Bounds a correction in cells by what the correlation sees.

        Beyond, it would be a guess, and one that stays: far off, a match counts as uniform, and the
        likelihood has no gradient that would bring the flow back.
        """
        reach = self.radius + 0.5
        return reach * tf.tanh(correction / reach)

    def _trust(self, source: Features, target: Features, flow) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns log-variance and logits of each pixel.

        Args:
            source, target: of the images.
            flow: at stride 4, in px.
        """
        image_flow = resize_bilinear(flow, spatial_size(target.image))
        warped = warping.bilinear(source.image, image_flow)
        evidence = [[_centred(target.image), _centred(warped)]]
        for stride, seen, other in zip(
            _CONFIDENCE_STRIDES, target.pyramid, source.pyramid, strict=False
        ):
            cells = resize_bilinear(flow, spatial_size(seen)) / stride
            evidence.append([seen, warping.bilinear(other, cells)])
        return self._mixture_parameters(self.confidence(evidence))

    def _mixture_parameters(self, raw) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps raw variance and confidence [..., 2] to log-variance and logits.

        Only the difference of the two logits counts: that of the uniform component is 0, so that
        the normal's weight is the sigmoid of the other.
        """
        logit = raw[..., 1:]
        return self.mixture.constrain(raw[..., :1]), tf.concat([logit, tf.zeros_like(logit)], -1)


def _centred(image) -> tf.Tensor:
    """Brings 0..255 to about -1..1."""
    return image / 127.5 - 1.0


def _without_mean(features) -> tf.Tensor:
    """Takes from each channel its mean over the image, by which any two places would correlate."""
    return features - tf.reduce_mean(features, axis=(1, 2), keepdims=True)


def _channels(name: str, channels, count: int | None = None) -> tuple[int, ...]:
    channels = tuple(channels)
    if not channels or count not in (None, len(channels)):
        expected = "at least one number" if count is None else f"{count} numbers"
        raise ValueError(f"`{name}` must hold {expected}. Received: {channels}")
    return channels
