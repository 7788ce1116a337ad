"""The Middlebury flow format."""

import struct

import cv2
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.flow_files import read_flow, write_flow


@pytest.fixture
def flow():
    return np.random.default_rng(0).normal(0, 50, (5, 7, 2)).astype(np.float32)


def test_opencv_reads_what_is_written(tmp_path, flow):
    write_flow(tmp_path / "a.flo", flow)
    np.testing.assert_array_equal(cv2.readOpticalFlow(str(tmp_path / "a.flo")), flow)


def test_what_opencv_writes_is_read(tmp_path, flow):
    assert cv2.writeOpticalFlow(str(tmp_path / "a.flo"), flow)
    loaded = read_flow(tmp_path / "a.flo")
    np.testing.assert_array_equal(loaded, flow)
    loaded += 1  # its own memory


def test_bytes_are_those_of_the_format(tmp_path):
    write_flow(tmp_path / "a.flo", np.array([[[1.5, -2.0], [3.0, 2e9]]]))
    content = (tmp_path / "a.flo").read_bytes()
    assert content == b"PIEH" + struct.pack("<iiffff", 2, 1, 1.5, -2.0, 3.0, 2e9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a flow file"),
        (b"PIE", "is not a flow file"),
        (b"\x89PNG" + bytes(60), "is not a flow file"),
        (b"PIEH" + struct.pack("<ii", 3, 2) + bytes(40), "3x2 pixels.*Received: 40"),
        (b"PIEH" + struct.pack("<ii", -3, -2) + bytes(48), "-3x-2 pixels"),
        (b"PIEH" + struct.pack("<ii", 0, 4), "0x4 pixels"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / "a.flo").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_flow(tmp_path / "a.flo")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="There is no flow file"):
        read_flow(tmp_path / "a.flo")


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (0, 5, 2), (1, 4, 5, 2)])
def test_other_shapes_are_refused(tmp_path, shape):
    with pytest.raises(InputError, match="height, width, 2"):
        write_flow(tmp_path / "a.flo", np.zeros(shape))
    assert not list(tmp_path.iterdir())
