"""The head by which a network of your own answers as those of tfdense do."""

import keras

from tfdense.layers.channels_last import Conv2D
from tfdense.layers.freezing import KeepsFrozenParts
from tfdense.mixture import Mixture


@keras.saving.register_keras_serializable("tfdense")
class MixtureHead(KeepsFrozenParts, keras.layers.Layer):
    """Predicts a flow and the mixture around it from features, in float32 under any policy.

    One 3x3 convolution; its answer is near no flow and the middle of the mixture's bounds before
    training. `tfdense.losses.MixtureNLL` and `tfdense.metrics` take what it returns (PDC-Net,
    section 3.2, equations 4 to 7).

    Args:
        mixture: the distribution: two components of one mean.

    Call:
        features: [batch, height, width, channels].
        Returns {"flow": [batch, height, width, 2], in px of this grid, "log_variance" and "logits":
        [batch, height, width, 2]}, float32.

    For example:

    >>> from tfdense.mixture import LaplaceMixture
    >>> head = MixtureHead(LaplaceMixture(maximum_variance=256.0**2))
    >>> answer = head(keras.Input((64, 64, 32)))
    >>> {name: value.shape for name, value in answer.items()}["log_variance"]
    (None, 64, 64, 2)
    """

    def __init__(self, mixture: Mixture, **kwargs):
        super().__init__(**kwargs)
        self.mixture = mixture
        self.prediction = Conv2D(
            2 + mixture.free_variances + 2,
            3,
            padding="same",
            dtype="float32",
            kernel_initializer=keras.initializers.RandomNormal(stddev=1e-3),
            name="prediction",
        )

    def build(self, features_shape):
        self.prediction.build(features_shape)

    def call(self, features):
        raw = self.prediction(features)
        log_variance = self.mixture.constrain(raw[..., 2:-2])
        return {"flow": raw[..., :2], "log_variance": log_variance, "logits": raw[..., -2:]}

    def compute_output_shape(self, features_shape):
        return dict.fromkeys(("flow", "log_variance", "logits"), (*features_shape[:3], 2))

    def get_config(self):
        mixture = keras.saving.serialize_keras_object(self.mixture)
        return {**super().get_config(), "mixture": mixture}

    @classmethod
    def from_config(cls, config):
        mixture = keras.saving.deserialize_keras_object(config["mixture"])
        return cls(**{**config, "mixture": mixture})
