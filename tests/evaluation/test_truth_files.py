"""The formats of ground truth, against OpenCV and NumPy, and what is said of broken files."""

import struct

import cv2
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation import truth_files
from tfdense.flow_files import write_flow


@pytest.fixture
def flow():
    return np.random.default_rng(0).normal(0, 50, (5, 7, 2)).astype(np.float32)


def write(path, flow):
    """Writes a flow in the format of the suffix by other means than those under test."""
    blue_green_red = np.dstack([np.full(flow.shape[:2], 9), flow[..., 1], flow[..., 0]])
    if path.suffix == ".flo":
        write_flow(path, flow)
    elif path.suffix == ".npy":
        np.save(path, flow.astype(np.float64))
    elif path.suffix == ".pfm":
        cv2.imwrite(str(path), blue_green_red.astype(np.float32))
    else:
        cv2.imwrite(str(path), np.rint(blue_green_red * 64 + 2**15).astype(np.uint16))


@pytest.mark.parametrize("suffix", [".flo", ".pfm", ".npy", ".png"])
def test_flow_in_every_format(tmp_path, flow, suffix):
    write(tmp_path / f"flow{suffix}", flow)
    read, known = truth_files.read_flow_file(tmp_path / f"flow{suffix}")
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, flow, atol=0.5 / 64 if suffix == ".png" else 0)
    assert known.all()


@pytest.mark.parametrize("suffix", [".flo", ".pfm", ".npy"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.67e9])
def test_unknown_flow(tmp_path, flow, suffix, value):
    flow[1, 2, 0] = flow[3, 4, 1] = value
    write(tmp_path / f"flow{suffix}", flow)
    _, known = truth_files.read_flow_file(tmp_path / f"flow{suffix}")
    assert np.argwhere(~known).tolist() == [[1, 2], [3, 4]]


def test_float_map_by_its_bytes(tmp_path):
    path = tmp_path / "a.pfm"
    path.write_bytes(b"Pf\n2 2\n1.0\n" + struct.pack(">4f", 3, 4, 1, 2))  # the lowest row first
    assert truth_files.read_pfm(path).tolist() == [[1, 2], [3, 4]]
    path.write_bytes(b"Pf\n2 2\n-0.25\n" + struct.pack("<4f", 3, 4, 1, 2))
    assert truth_files.read_pfm(path).tolist() == [[1, 2], [3, 4]]
    # The first byte of the values looks like white space.
    path.write_bytes(b"PF 1 1 -1\n" + b"\x0a\x00\x80\x3f" + struct.pack("<2f", 5, 6))
    np.testing.assert_allclose(truth_files.read_pfm(path), [[[1.00000119, 5, 6]]], rtol=1e-7)


@pytest.mark.parametrize(
    "header",
    [
        b"Pf\n3 2\n-1.0\n",
        b"Pf\r\n3 2\r\n-1.0\r\n",
        b"Pf \n3 2 \n-1.0 \n",
        b"Pf\n# made by hand: 3 4\n3 2\n-1.0\n",
        b"Pf\r\n# a\r\n#b\r\n3 2\r\n# c\r\n-1.0\r\n",
        b"Pf # a\n3\n2\n-1e-1\n",
        b"Pf\r3 2\r-1\r",
        b"Pf 3 2 -1 ",
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_float_maps_with_all_sorts_of_headers(tmp_path, header, channels, order):
    values = np.arange(6 * channels, dtype=np.float32).reshape(2, 3, *[channels][: channels - 1])
    # The first bytes look like white space, and like a comment.
    first = b"\n # " if header.endswith(b"\n") else b"# \n "
    values[-1, 0] = np.frombuffer(first * channels, f"{order}f4").reshape(values.shape[2:])
    if order == ">":
        header = header.replace(b"-1", b"1")
    if channels == 3:
        header = header.replace(b"Pf", b"PF")
    path = tmp_path / "a.pfm"
    path.write_bytes(header + values[::-1].astype(f"{order}f4").tobytes())
    np.testing.assert_array_equal(truth_files.read_pfm(path), values)
    path.write_bytes(header + values.tobytes()[1:])
    with pytest.raises(InputError, match="does not hold the 3x2 px"):
        truth_files.read_pfm(path)


def test_an_archive_is_no_array(tmp_path):
    np.savez(tmp_path / "a.npz", np.zeros((4, 5, 2)))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(InputError, match="not an array that NumPy can read"):
        truth_files.read_flow_file(tmp_path / "a.npy")


@pytest.mark.parametrize("channels", [1, 4])
def test_kitti_flow_must_have_three_channels(tmp_path, channels):
    cv2.imwrite(str(tmp_path / "a.png"), np.ones((4, 5, channels), np.uint16))
    assert not truth_files.is_kitti_flow(tmp_path / "a.png")
    with pytest.raises(InputError, match="16-bit PNG of three channels"):
        truth_files.read_flow_file(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"1 2", "as .flo, .flo5, .npy, .npz, .pfm or .png"),
        ("a.pfm", b"P6\n2 2\n255\n", "no portable float map"),
        ("a.pfm", b"PF\n2 2\n-1.0\n" + bytes(47), "does not hold the 2x2 px"),
        ("a.pfm", b"Pf\n1 1\n-1.0\n" + bytes(4), r"holds no flow: expected \[height, width, 3\]"),
        ("a.npy", b"nothing", "not an array that NumPy can read"),
        ("a.npy", b"", "not an array that NumPy can read"),
        ("a.npy", b"\x93NUMPY\x01\x00\x0a\x00'shape': }\n", "not an array that NumPy can read"),
        ("a.npy", b"\x93NUMPY\x01\x00\x0a\x00{'a': (1,\n", "not an array that NumPy can read"),
        ("a.flo", b"nothing", "not a flow file"),
        ("a.pfm", b"Pf\n0 0\n-1.0\n", "does not hold the 0x0 px"),
        ("a.png", b"nothing", "not an image"),
        ("a.png", b"", "not an image"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        truth_files.read_flow_file(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 2), int), "hold floating numbers. Received: int64"),
        (np.zeros((4, 5, 3)), r"holds no flow: .*Received: \(4, 5, 3\)"),
        (np.array([None]), "not an array that NumPy can read"),  # a pickle is not opened
    ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=message):
        truth_files.read_flow_file(tmp_path / "a.npy")


@pytest.mark.parametrize("suffix", [".flo", ".pfm", ".npy", ".png"])
def test_missing_files(tmp_path, suffix):
    with pytest.raises(InputError, match="There is no"):
        truth_files.read_flow_file(tmp_path / f"a{suffix}")


def test_kitti_flow_must_have_16_bits(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(InputError, match="16-bit PNG"):
        truth_files.read_flow_file(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [("1 0\n0 1\n", "to hold a 3x3 homography"), ("0 0 0\n0 0 0\n0 0 0\n", "full rank")],
)
def test_other_homographies_are_refused(tmp_path, content, message):
    (tmp_path / "H.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        truth_files.read_homography(tmp_path / "H.txt")
