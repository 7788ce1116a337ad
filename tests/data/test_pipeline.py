"""The stream of batches: repeatable, resumable, whatever the parallelism and the files."""

import dataclasses

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.data import pairs, training_pairs, validation_pairs
from tfdense.data.pipeline import Part, _shuffled
from tfdense.data_config import DataConfig, ObjectConfig, PerturbationConfig, WarpConfig
from tfdense.errors import InputError
from tfdense.images import write_image

_SMALL = DataConfig(size=32)


def _take(dataset, count):
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


def _assert_same(first, second):
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        for name in ("source", "target", "flow", "mask", "unmatched"):
            np.testing.assert_array_equal(one[name], other[name])


def _photo(seed, height=40, width=50):
    noise = np.random.default_rng(seed).uniform(0, 255, [height, width, 3]).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2).astype(np.uint8)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Five photos and a broken file, for training and validation."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(5):
        write_image(folder / f"{i}.png", _photo(i))
    (folder / "3_broken.jpg").write_text("not a picture")
    return DataConfig(
        photos=str(folder),
        validation_photos=str(folder),
        size=32,
        unrelated=0.3,
        warp=WarpConfig(curriculum_steps=4),
    )


@pytest.fixture(scope="module")
def stream(config):
    """The first batches of a stream."""
    return _take(training_pairs(config, 2, seed=1), 6)


def test_elements():
    dataset = training_pairs(_SMALL, 2, seed=0)
    shapes = {"source": (32, 32, 3), "target": (32, 32, 3), "flow": (32, 32, 2)}
    shapes |= {"mask": (32, 32), "unmatched": (32, 32)}
    for name, shape in shapes.items():
        assert dataset.element_spec[name] == tf.TensorSpec((2, *shape), tf.float32)
    (batch,) = _take(dataset, 1)
    assert batch["source"].min() >= 0 and 30 < batch["source"].max() <= 255
    assert set(np.unique(batch["mask"])) <= {0, 1}
    assert np.isfinite(batch["flow"]).all()
    assert np.abs(batch["source"][0] - batch["source"][1]).mean() > 5


@pytest.mark.parametrize("threads", [1, 6])
def test_parallelism_changes_nothing(config, stream, threads):
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = threads
    options.autotune.enabled = threads > 1
    _assert_same(stream, _take(training_pairs(config, 2, seed=1).with_options(options), 6))


@pytest.mark.parametrize("count", [2, 3, 6])
def test_parts_of_a_batch_are_the_batch(config, count):
    """With what a pair gets of others: histograms and sources."""
    domains = dataclasses.replace(config.photometry.domains, histogram=0.8)
    photometry = dataclasses.replace(config.photometry, probability=1.0, domains=domains)
    config = dataclasses.replace(config, photometry=photometry, unrelated=0.5)
    whole = _take(training_pairs(config, 6, seed=4, start_step=1), 3)
    parts = [
        _take(training_pairs(config, 6, seed=4, start_step=1, part=Part(i, count)), 3)
        for i in range(count)
    ]
    joined = [
        {name: np.concatenate([part[name] for part in of_step]) for name in of_step[0]}
        for of_step in zip(*parts, strict=True)
    ]
    _assert_same(joined, whole)


def test_resumed_stream_continues_the_first(config, stream):
    _assert_same(stream[3:], _take(training_pairs(config, 2, seed=1, start_step=3), 3))


def test_seeds_differ(config, stream):
    (other,) = _take(training_pairs(config, 2, seed=2), 1)
    assert np.abs(stream[0]["flow"] - other["flow"]).mean() > 1


def test_each_epoch_takes_every_photo_in_its_own_order():
    order = np.array([int(_shuffled(tf.constant(i, tf.int64), 12, seed=3)) for i in range(36)])
    epochs = order.reshape(3, 12)
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_curriculum_grows():
    config = DataConfig(
        size=32,
        warp=WarpConfig(curriculum_steps=4, curriculum_start=0.0),
        objects=ObjectConfig(probability=0.0),
        perturbation=PerturbationConfig(probability=0.0),
    )
    batches = _take(training_pairs(config, 24, seed=2), 8)
    lengths = [np.linalg.norm(batch["flow"], axis=-1).mean() for batch in batches]
    assert lengths[0] < 1e-3
    np.testing.assert_allclose(
        lengths[1:4], np.multiply([0.25, 0.5, 0.75], np.mean(lengths[4:])), rtol=0.3
    )
    assert np.ptp(lengths[4:]) < 0.6 * np.mean(lengths[4:])


def test_validation_pairs_are_finite_and_the_same_each_time(config):
    dataset = validation_pairs(config, 2, count=5, seed=0)
    batches = _take(dataset, -1)
    assert [len(batch["mask"]) for batch in batches] == [2, 2, 1]
    _assert_same(batches, _take(dataset, -1))
    _assert_same(batches, _take(validation_pairs(config, 2, count=5, seed=0), -1))


def test_validation_photometry_is_as_configured():
    plain = _take(validation_pairs(_SMALL, 2, count=2, seed=0), 1)[0]
    config = dataclasses.replace(_SMALL, validation_photometry=True)
    changed = _take(validation_pairs(config, 2, count=2, seed=0), 1)[0]
    np.testing.assert_array_equal(plain["flow"], changed["flow"])
    assert np.abs(plain["source"] - changed["source"]).mean() > 1


def test_pairs_are_those_of_training_as_inputs_and_truth(config):
    for dataset, same in (
        (pairs(batch_size=2, seed=1, config=config), training_pairs(config, 2, seed=1)),
        (pairs(count=2, config=config), validation_pairs(config, 8, count=2, seed=0)),
    ):
        (inputs, truth), batch = next(iter(dataset)), next(iter(same))
        assert {*inputs} == {"source", "target"}
        assert {*truth} == {"flow", "mask", "unmatched"}
        for name, value in {**inputs, **truth}.items():
            np.testing.assert_array_equal(value, batch[name])
    with pytest.raises(InputError, match="nowhere"):
        pairs("nowhere")


def test_folder_of_cutouts(tmp_path):
    cutout = np.full([30, 20, 4], 255, np.uint8)
    cutout[..., :2] = 0  # pure red in BGR
    cv2.imwrite(str(tmp_path / "red.png"), cutout)
    objects = ObjectConfig(folder=str(tmp_path), probability=1.0, count=(1, 1), size=(0.4, 0.5))
    config = dataclasses.replace(_SMALL, objects=objects)
    (batch,) = _take(validation_pairs(config, 6, count=6, seed=0), 1)
    red = (np.abs(batch["target"] - [255, 0, 0]) < 2).all(axis=-1)
    assert (red.sum(axis=(1, 2)) > 20).all()


def test_broken_file_is_named_once(config, caplog):
    _take(training_pairs(config, 4, seed=0), 6)
    assert sum("3_broken.jpg" in record.message for record in caplog.records) == 1


def test_unusable_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="No images in"):
        training_pairs(DataConfig(photos=str(tmp_path)), 2, seed=0)
    (tmp_path / "x.png").write_bytes(b"")
    for make in (
        lambda config: training_pairs(config, 2, seed=0),
        lambda config: validation_pairs(config, 2, count=2, seed=0),
    ):
        with pytest.raises(InputError, match="can be used"):
            make(DataConfig(photos=str(tmp_path), validation_photos=str(tmp_path)))
    with pytest.raises(InputError, match="folder"):
        training_pairs(DataConfig(objects=ObjectConfig(folder=str(tmp_path / "no"))), 2, seed=0)
