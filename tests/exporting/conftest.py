"""Networks to export: a small pdcnet-lite as a run, one with a mixture of its own, a tiny one."""

import dataclasses

import keras
import pytest
import tensorflow as tf

from tfdense.config import Config, ModelConfig, save_config
from tfdense.exporting import saved_model, tflite
from tfdense.geometry import resize_bilinear, spatial_size
from tfdense.mixture import GaussianUniformMixture, LaplaceMixture, Mixture
from tfdense.models import build, load

SMALL = ModelConfig(
    options={
        "projection_channels": [16, 16, 8],
        "decoder_channels": [[16, 16], [16, 8], [8, 8]],
        "radius": 1,
    }
)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """The folder of a run with an untrained network, trained in mixed precision as it says."""
    keras.utils.set_random_seed(5)
    folder = tmp_path_factory.mktemp("run")
    train = dataclasses.replace(Config().train, precision="mixed_float16")
    save_config(folder / "config.yaml", Config(model=SMALL, train=train))
    build(SMALL).save_weights(folder / "best.weights.h5")
    return folder


@pytest.fixture(scope="session")
def exported_report(run_folder, tmp_path_factory):
    """What exporting that run reports; done as in the training that the run says."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return saved_model.export_saved_model(
            run_folder, tmp_path_factory.mktemp("models") / "pdcnet"
        )
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.fixture
def network(run_folder, _loaded):
    """What `load` gives for that run, with its own weights whatever the tests before did."""
    _loaded.load_weights(run_folder / "best.weights.h5")
    return _loaded


@pytest.fixture(scope="session")
def _loaded(run_folder):
    return load(run_folder)[0]


@dataclasses.dataclass(frozen=True)
class ThreeComponents(Mixture):
    """A mixture that no network of the project has."""

    steepness: float = 0.5

    def constrain(self, raw):
        return raw

    def log_density(self, error, log_variance):
        return log_variance

    def confidence(self, log_variance, logits, radius=1.0):
        x, y = tf.unstack(tf.broadcast_to(tf.cast(radius, tf.float32), [2]))
        decay = self.steepness * tf.exp(-0.5 * log_variance)
        within = tf.tanh(x * decay) * tf.tanh(y * decay)
        return tf.reduce_sum(tf.nn.softmax(logits) * within, axis=-1)


class OtherNetwork(keras.Model):
    """A few convolutions: what an export may assume of a network, and nothing else."""

    stride = 8
    minimum_size = 24

    def __init__(self, mixture, components, **kwargs):
        super().__init__(**kwargs)
        self.mixture = mixture
        self.components = components
        self.features = keras.layers.Conv2D(8, 5, 4, padding="same", activation="tanh")
        self.answer = keras.layers.Conv2D(2 + 2 * components, 3, padding="same")

    def call(self, inputs):
        images = tf.concat([inputs["source"], inputs["target"]], axis=-1)
        answer = self.answer(self.features(images / 255.0))
        answer = resize_bilinear(answer, spatial_size(inputs["target"]))
        flow, log_variance, logits = tf.split(answer, [2, self.components, self.components], -1)
        return {"flow": 9.0 * flow, "log_variance": log_variance, "logits": logits, "levels": []}


@pytest.fixture(params=["three components", "gaussian and uniform"])
def other_network(request, monkeypatch):
    """A network that `load` gives for any name."""
    keras.utils.set_random_seed(6)
    if request.param == "three components":
        model = OtherNetwork(ThreeComponents(), 3)
    else:
        model = OtherNetwork(GaussianUniformMixture(extent=300.0), 2)
    image = tf.zeros([1, 24, 24, 3])
    model({"source": image, "target": image})
    for module in (saved_model, tflite):
        monkeypatch.setattr(module, "load", lambda name: (model, Config()))
    return model


class Tiny(keras.Model):
    """One level of a network with all kinds of variables: kernels, scales and statistics."""

    stride, minimum_size = 8, 32

    def __init__(self):
        super().__init__()
        self.mixture = LaplaceMixture(maximum_variance=1e3)
        self.first = keras.layers.Conv2D(8, 5, strides=8, padding="same", use_bias=False)
        self.normalise = keras.layers.BatchNormalization(momentum=0.9)
        self.last = keras.layers.Conv2D(5, 3, padding="same", dtype="float32")
        self.build()

    def build(self, input_shape=None):
        self.first.build((None, None, None, 6))
        self.normalise.build((None, None, None, 8))
        self.last.build((None, None, None, 8))

    def call(self, inputs, training=None):
        images = tf.concat([inputs["source"], inputs["target"]], axis=-1) / 100.0
        raw = self.last(tf.nn.relu(self.normalise(self.first(images), training=training)))
        level = self._level(raw)
        return {**self._level(tf.image.resize(raw, images.shape[1:3])), "levels": [level]}

    def _level(self, raw):
        return {
            "flow": 8.0 * raw[..., :2],
            "log_variance": self.mixture.constrain(raw[..., 2:3]),
            "logits": raw[..., 3:],
        }


@pytest.fixture(scope="module")
def tiny(own_preset):
    """Makes the small network a preset of this name."""
    with own_preset("tiny", Tiny):
        yield
