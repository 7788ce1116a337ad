"""Photos of a bundle: as large as they are, and pairs as from larger canvases."""

import cv2
import numpy as np
import tensorflow as tf

from tfdense.config import load_config
from tfdense.exporting.bundled_pairs import bundled_pairs
from tfdense.images import write_image

_SETTINGS = [
    "data.size=64",
    "data.unrelated=0",
    "data.objects.probability=0",
    "data.photometry.probability=0",
    "train.batch_size=4",
]


def _pairs(folder, texture, *sizes):
    for i, size in enumerate(sizes):
        write_image(folder / f"{i}.png", texture(*size, seed=i).astype(np.uint8))
    names = [f"data.photos={folder}", f"data.validation_photos={folder}"]
    config = load_config(None, [*_SETTINGS, *names])
    return config, bundled_pairs(config)


def test_photos_are_kept_as_large_as_they_are_and_no_larger_than_needed(tmp_path, texture):
    _, pairs = _pairs(tmp_path, texture, (58, 70), (90, 41))
    assert pairs.arrays["data/photos"].shape == (2, 60, 60, 3)
    _, pairs = _pairs(tmp_path, texture, (58, 70), (200, 141))
    assert pairs.arrays["data/photos"].shape == (2, 96, 96, 3)


def test_pairs_are_those_of_canvases_enlarged_before(tmp_path, texture):
    config, pairs = _pairs(tmp_path, texture, (64, 64), (64, 64))
    arrays = pairs.arrays
    larger = np.stack([cv2.resize(photo, (96, 96)) for photo in arrays["data/photos"]])
    made, expected = (
        pairs.make({"data/photos": tf.constant(photos)}, tf.constant(3, tf.int64), config)
        for photos in (arrays["data/photos"], larger)
    )
    np.testing.assert_allclose(made["flow"], expected["flow"], atol=1e-3)
    assert np.mean(made["mask"] != expected["mask"]) < 0.02
    for name in ("source", "target"):
        difference = np.abs(made[name] - expected[name])
        assert difference.mean() < 4 and made[name].numpy().std() > 20
