"""What a version in memory says of requests that TensorFlow refuses."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
from known_server import KnownModel, image, png

from tfdense.serving import model as models
from tfdense.serving.refusal import Refusal


def encoded(suffix, quality=()):
    return cv2.imencode(suffix, np.tile(np.arange(48, dtype=np.uint8), (32, 1)), quality)[1]


class Refusing(KnownModel):
    """Refuses all as TensorFlow does what it cannot decode."""

    def __init__(self, folder, threads):
        super().__init__()

    def run(self, signature, inputs):
        raise tf.errors.InvalidArgumentError(None, None, "Graph execution error:\nDetected at ...")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
@pytest.mark.parametrize("name", ["source", "target", "target_mask"])
def test_which_file_cannot_be_decoded(suffix, name, monkeypatch, tmp_path):
    monkeypatch.setattr(models, "SavedModel", Refusing)
    served = models.ServedModel(tmp_path)
    good = {"source": png(image()), "target": encoded(".jpg").tobytes(), "source_mask": b""}
    content = encoded(suffix).tobytes()
    cut = content if suffix == ".tiff" else content[: len(content) // 2]
    files = {key: np.array([value, value], object) for key, value in good.items()}
    files[name] = np.array([good["source"], cut], object)
    for inputs in (files, {**files, "target_points": np.zeros((2, 1, 2), np.float32)}):
        with pytest.raises(Refusal, match=f"^{name} cannot be decoded. Expected a whole JPEG"):
            served.run("match_encoded", inputs)


def test_another_reason_is_tensorflows(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "SavedModel", Refusing)
    files = {name: np.array([png(image())], object) for name in ("source", "target")}
    with pytest.raises(Refusal, match=r"^Graph execution error"):
        models.ServedModel(tmp_path).run("match_encoded", files)
