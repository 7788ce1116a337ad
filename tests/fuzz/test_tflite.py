""".tflite files: changed, and changed with a right checksum."""

import pytest
import tensorflow as tf
from mutations import EDITS, apply
from oracle import fuzz

from tfdense.exporting.flatbuffer import add_metadata
from tfdense.exporting.tflite import convert
from tfdense.tflite_files import open_file, read_operations, seal, signature_names

pytestmark = pytest.mark.fuzz


def _whole(folder) -> bytes:
    kernel = tf.ones([3, 3, 3, 2])

    def function(x):
        return {"y": tf.exp(tf.nn.conv2d(x, kernel, 1, "SAME"))[:, 1:3]}

    content = convert(function, {"x": tf.TensorSpec([1, 8, 6, 3], tf.float32)})
    return add_metadata(content, {"preset": "mine", "size": [8, 6]})


def _open(trial, content: bytes) -> None:
    path = trial.folder / "network.tflite"
    path.write_bytes(content)
    file = open_file(path, num_threads=1)
    read_operations(file.content)
    signature_names(file.metadata)


@fuzz(EDITS, prepare=_whole)
def test_changed(trial, edits):
    _open(trial, apply(trial.whole, edits))


@fuzz(EDITS, prepare=_whole)
def test_changed_and_sealed_again(trial, edits):
    _open(trial, seal(apply(trial.whole, edits[:2])))
