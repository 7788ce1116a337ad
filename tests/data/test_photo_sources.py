"""Photos in the forms that Keras and TensorFlow have them in."""

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdense.data import pairs
from tfdense.data.photo_sources import find_photos, given_photos, pixels
from tfdense.data.photos import training_photos, validation_photos
from tfdense.data_config import DataConfig, ObjectConfig, PhotometryConfig
from tfdense.errors import InputError
from tfdense.images import write_image

_PLAIN = DataConfig(
    size=32,
    unrelated=0.0,
    photometry=PhotometryConfig(probability=0.0),
    objects=ObjectConfig(probability=0.0),
)


def _photo(shade):
    return np.full((40, 48, 3), shade, np.uint8)


def _jpeg(shade):
    return cv2.imencode(".jpg", _photo(shade))[1].tobytes()


def _example(**features):
    wrapped = {
        name.replace("__", "/"): tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=wrapped)).SerializeToString()


def _write_records(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def _shades(photos):
    return [int(pixels(photo).mean().round()) for photo in photos]


def _shade_of(dataset):
    """Of each pair the source's shade; views of a photo of one shade have that."""
    return {int(np.median(x["source"][i])) for x, _ in dataset for i in range(len(x["source"]))}


def test_records_of_jpegs_and_of_examples(tmp_path):
    _write_records(tmp_path / "a.tfrecord", [_jpeg(10), _jpeg(20)])
    named = [
        _example(image__encoded=_jpeg(30), image__filename=b"x.jpg"),
        _example(thumbnail=_jpeg(99), image=_jpeg(40)),
        _example(own_name=_jpeg(50)),
    ]
    (tmp_path / "deep").mkdir()
    _write_records(tmp_path / "deep" / "b.tfrecord-00000-of-00001", named)
    write_image(tmp_path / "deep" / "file.png", _photo(60))
    assert _shades(find_photos(tmp_path)) == [60, 10, 20, 30, 40, 50]
    assert _shades(find_photos(tmp_path / "a.tfrecord")) == [10, 20]
    config = DataConfig(photos=str(tmp_path), validation_share=0.3)
    split = _shades(training_photos(config)), _shades(validation_photos(config))
    assert len(split[1]) == 2 and sorted([*split[0], *split[1]]) == [10, 20, 30, 40, 50, 60]


def test_broken_records(tmp_path):
    path = tmp_path / "a.tfrecord"
    _write_records(path, [_example(label=b"cat"), b"\xff\xfftext", _jpeg(10)[:200]])
    for record, message in zip(
        find_photos(path),
        ("no encoded image.*: label", "neither an image", "record 2"),
        strict=True,
    ):
        with pytest.raises(InputError, match=message):
            pixels(record)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"a\.tfrecord is no TFRecord file.*its record 2"):
        find_photos(tmp_path)


def test_pairs_of_arrays_and_of_what_keras_reads(tmp_path):
    shades = (40, 80, 120, 160)
    of_arrays = pairs([_photo(s).astype(np.float32) for s in shades], 4, config=_PLAIN).take(2)
    held_out = pairs((_photo(s) for s in shades), 2, count=2, config=_PLAIN)
    trained, validated = _shade_of(of_arrays), _shade_of(held_out)
    assert len(trained) == 3 and len(validated) == 1 and trained | validated == set(shades)
    # A folder for each class, in which Keras finds JPEG, PNG, BMP and GIF.
    for number, shade in enumerate(shades):
        suffix = ("jpg", "png", "bmp", "JPEG")[number]
        write_image(tmp_path / f"class{number % 2}" / f"{number}.{suffix}", _photo(shade))
    assert sorted(_shades(find_photos(tmp_path))) == list(shades)
    read = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(40, 48), batch_size=3, shuffle=False, verbose=False
    )
    assert sorted(_shades(given_photos(read))) == list(shades)
    with pytest.raises(InputError, match="an iterable of none"):
        pairs([])


@pytest.mark.parametrize(
    "argument",
    [
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"count": -1},
        {"seed": 1.5},
        {"size": 31},
        {"photos": 5},
        {"photos": ""},
        {"config": {}},
    ],
    ids=str,
)
def test_what_is_no_argument_of_pairs(argument):
    ((name, value),) = argument.items()
    with pytest.raises(InputError, match=rf"Expected .*`{name}`.* Received: {value!r}"):
        pairs(**argument)
