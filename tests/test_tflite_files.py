import re

import numpy as np
import pytest
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.exporting.flatbuffer import add_metadata
from tfdense.exporting.tflite import convert
from tfdense.tflite_files import (
    checksum,
    count_operations,
    foreign_operations,
    open_file,
    read_metadata,
    read_operations,
    signature_names,
)


@pytest.fixture(scope="module")
def plain():
    """What another program may have written."""
    kernel = np.arange(54, dtype=np.float32).reshape(3, 3, 3, 2)

    def function(x):
        return {"y": tf.exp(tf.exp(tf.nn.conv2d(x, kernel, 1, "SAME")))[:, 1:3]}

    return convert(function, {"x": tf.TensorSpec([1, 8, 6, 3], tf.float32)})


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return path

    return write


def test_operations(plain):
    convolution, *exponentials, slicing = read_operations(plain)
    assert [x.name for x in exponentials] == ["EXP", "EXP"]
    image, kernel, *_ = convolution.inputs
    assert (image.shape, image.dtype, image.values, image.size) == (
        (1, 8, 6, 3),
        "FLOAT32",
        None,
        144,
    )
    # The kernel has the output channels first.
    expected = np.arange(54, dtype=np.float32).reshape(3, 3, 3, 2).transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(kernel.values, expected)
    assert convolution.outputs[0] is exponentials[0].inputs[0]
    assert slicing.options.shrinkAxisMask == 0 and slicing.outputs[0].shape == (1, 2, 6, 2)
    assert count_operations([convolution, *exponentials, slicing]) == {
        "EXP": 2,
        "CONV_2D": 1,
        "STRIDED_SLICE": 1,
    }


def test_foreign_operations():
    assert list(foreign_operations({"CONV_2D": 3, "CUSTOM FlexErf": 1})) == ["FlexErf"]


def test_opens_what_was_written(plain, write):
    path = write(add_metadata(plain, {"preset": "mine", "size": [8, 6]}))
    file = open_file(path, num_threads=1)
    assert file.metadata == read_metadata(path.read_bytes())
    description = {"preset": "mine", "size": [8, 6], "file_crc32": checksum(file.content)}
    assert file.metadata == description
    assert file.content[:] == path.read_bytes()
    file.interpreter.allocate_tensors()


def _describe(content, description):
    """Puts a description of bytes in the place of a longer one."""
    content = add_metadata(content, {"preset": "of a network with a name of many letters"})
    start = content.index(b'{"preset"')
    end = content.index(b"}", start) + 1
    return content[:start] + description.ljust(end - start) + content[end:]


_SIZE = {"size": [8, 6]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"", "is not a .tflite file."),
        (lambda content: b"no model, but a text that is long enough", "is not a .tflite file."),
        (lambda content: b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a .tflite file."),
        (lambda content: content[:300], "is cut short or broken: "),
        (lambda content: content[:-10], "is cut short or broken: "),
        (lambda content: content, "was not exported by tfdense: it has no TFDENSE_METADATA."),
        (
            lambda content: add_metadata(content, {"format": 2, "version": "9.1"}),
            "is of tfdense 9.1, .* Expected format 1 at most. Received: 2",
        ),
        (lambda content: _describe(content, b"[]"), "is broken: its description is none"),
        (
            lambda content: _describe(content, b'{"size": [8, 6], "sizes": [[8, 6]]}'),
            "is broken: it has no checksum",
        ),
        (lambda content: add_metadata(content, _SIZE)[:-10], "is damaged or cut short: its check"),
        (lambda content: add_metadata(content, {"format": "2"}), "is broken: "),
        *(
            (
                lambda content, size=size: add_metadata(content, {"size": size}),
                "is broken: its description has no size",
            )
            for size in (None, 128, [128], [0, 8], [8.0, 8], ["a", "b"], [True, 8])
        ),
    ],
)
def test_refuses(plain, write, change, message):
    path = write(change(plain))
    with pytest.raises(InputError, match=f"^{re.escape(str(path))} {message}") as caught:
        open_file(path)
    assert "\n" not in str(caught.value)


def test_refuses_what_is_no_file(tmp_path):
    with pytest.raises(InputError, match=r"Expected a \.tflite file.*a folder"):
        open_file(tmp_path)
    with pytest.raises(InputError, match=r"There is no \.tflite file .*absent\."):
        open_file(tmp_path / "absent")


def test_a_flipped_bit_is_seen(plain, write):
    content = add_metadata(plain, _SIZE)
    random = np.random.default_rng(0)
    marker = content.index(b"file_crc32")
    for place in [8, marker - 3, marker + 14, marker + 20, *random.integers(8, len(content), 40)]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << random.integers(8)
        with pytest.raises(InputError, match="is damaged or cut short"):
            open_file(write(bytes(flipped)))
    open_file(write(content))


def test_sizes_and_their_signatures():
    assert signature_names({"size": [8, 6]}) == {(8, 6): "match"}
    several = {"size": [8, 6], "sizes": [[8, 6], [16, 24]]}
    assert signature_names(several) == {(8, 6): "match_8x6", (16, 24): "match_16x24"}
