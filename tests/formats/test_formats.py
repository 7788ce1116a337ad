"""The forms of one match in files of its own, read by others than what wrote them."""

import csv
import dataclasses

import cv2
import h5py
import numpy as np
import pytest

from tfdense import formats
from tfdense.errors import InputError, OutputError
from tfdense.evaluation.truth_files import read_flow_file, read_kitti_flow
from tfdense.formats.kitti import encode
from tfdense.inference.command import _names


@pytest.fixture
def match(views):
    return views.match(0, 1)


@pytest.fixture
def written(match, tmp_path):
    formats.save(match, tmp_path, formats.FORMATS, "a.jpg", "b.jpg")
    return tmp_path


def test_every_form_writes_its_files(match, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    paths = formats.save(match, tmp_path, formats.FORMATS, "a.jpg", "b.jpg")
    names = [name for form in formats.FORMATS.values() for name in form.files]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "notes.txt"])
    # A second time, nothing of the first is left.
    assert formats.save(match, tmp_path, formats.FORMATS, "a.jpg", "b.jpg") == paths


def test_flo(match, written):
    np.testing.assert_array_equal(cv2.readOpticalFlow(str(written / "flow.flo")), match.flow)


def test_npz(match, written):
    with np.load(written / "match.npz") as arrays:
        np.testing.assert_array_equal(arrays["flow"], match.flow)
        np.testing.assert_array_equal(arrays["confidence"], match.confidence)
        assert arrays["radius"] == match.radius


def test_kitti(match, written):
    path = written / "flow_kitti.png"
    flow, valid = read_kitti_flow(path)
    np.testing.assert_array_equal(valid, match.confidence >= 0.1)
    assert 0.2 < valid.mean() < 0.99
    np.testing.assert_allclose(flow[valid], match.flow[valid], atol=0.5 / 64)
    # As KITTI's own development kit reads it.
    values = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    assert values.dtype == np.uint16
    np.testing.assert_array_equal((values[..., 2] - 32768.0) / 64, flow[..., 0])
    np.testing.assert_array_equal(read_flow_file(path)[1], valid)


def test_kitti_has_no_flow_beyond_512_px():
    flow = np.array([[[-512, 0], [-513, 0], [511.98, 1], [512, 1], [0, np.inf], [0, np.nan]]])
    values = encode(flow.astype(np.float32), np.ones((1, 6), bool))
    assert values[0, :, 2].tolist() == [1, 0, 1, 0, 0, 0]
    assert not values[0, [1, 3, 4, 5]].any()
    assert values[0, 0].tolist() == [0, 32768, 1] and values[0, 2].tolist() == [65535, 32832, 1]


@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (16, np.uint16)])
def test_confidence(match, written, bits, kind):
    path = written / f"confidence_{bits}bit.png"
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert values.dtype == kind and values.ndim == 2
    largest = 2**bits - 1
    np.testing.assert_allclose(values / largest, match.confidence, atol=0.51 / largest)


def test_csv(match, written):
    with (written / "matches.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    expected = match.matches(5000)
    assert len(rows) == len(expected.confidence) > 2000
    for name, values in (
        ("source_x", expected.source[:, 0]),
        ("source_y", expected.source[:, 1]),
        ("target_x", expected.target[:, 0]),
        ("target_y", expected.target[:, 1]),
    ):
        np.testing.assert_allclose([row[name] for row in rows], values, atol=6e-4)
    np.testing.assert_allclose([row["confidence"] for row in rows], expected.confidence, atol=6e-6)


def test_fewer_lines(match, tmp_path):
    with formats.open("csv", tmp_path, n=7, threshold=0.3) as writer:
        (path,) = writer.add("a", "b", match)
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    assert rows.shape == (7, 5) and rows[:, 4].min() >= 0.3


def test_opencv_draws_and_uses_them(match):
    source, target, found = match.to_opencv(300, threshold=0.3)
    assert len(source) == len(target) == len(found) == 300
    best = match.matches(300, threshold=0.3)
    np.testing.assert_array_equal(cv2.KeyPoint.convert(source), best.source)
    np.testing.assert_array_equal(cv2.KeyPoint.convert(target), best.target)
    assert sorted(found, key=lambda each: each.distance) == found
    np.testing.assert_allclose([1 - each.distance for each in found], best.confidence, atol=1e-6)
    picture = cv2.drawMatches(match.source, source, match.target, target, found, None)
    assert picture.shape == (96, 256, 3) and picture.std() > 20


def test_a_match_saves_further_forms(match, tmp_path):
    paths = match.save(tmp_path, formats=["hloc", "flo"], names=("a/b.jpg", "c.jpg"))
    assert [path.name for path in paths][:4] == [
        "match.npz",
        "flow.flo",
        "features.h5",
        "matches.h5",
    ]
    assert {*paths} == {*tmp_path.iterdir()}
    with h5py.File(tmp_path / "features.h5", "r") as file:
        assert {*file} == {"a", "c.jpg"} and {*file["a"]} == {"b.jpg"}


def test_what_the_command_calls_the_images():
    assert _names("x/a.jpg", "y/b.jpg") == ("a.jpg", "b.jpg")
    assert _names("x/a.jpg", "y/a.jpg") == ("source/a.jpg", "target/a.jpg")
    assert _names("-", "caf\udce9") == ("-", "caf\\udce9")


def test_a_match_finds_its_own_camera(views):
    found = views.match(0, 3, noise=0.1).self_calibrate()
    np.testing.assert_allclose(found.K_source, views.camera, rtol=0.05, atol=1e-9)
    rotation = views.rotations[3] @ views.rotations[0].T
    assert np.linalg.norm(found.pose.rotation - rotation) < 0.05


def test_a_file_for_each_pair(match, tmp_path):
    pairs = [("a/b.jpg", "c"), ("a", "b.jpg/c"), ("a+b", "c"), ("a", "b+c"), ("é b", "%2F")]
    for name, ending in (
        ("kitti", ".kitti.png"),
        ("flo", ".flo"),
        ("confidence8", ".confidence8.png"),
    ):
        folder = tmp_path / name
        with formats.open(name, folder) as writer:
            paths = []
            for pair in pairs:
                assert not writer.has(*pair)
                paths += writer.add(*pair, match)
                assert writer.has(*pair)
        assert len({*paths}) == len(pairs) and {*folder.iterdir()} == {*paths}
        assert all(path.name.endswith(ending) for path in paths)
    assert paths[0].name == "a%2Fb.jpg+c.confidence8.png"


def test_the_threshold_of_a_form(match, tmp_path):
    with formats.open("kitti", tmp_path, threshold=0.4) as writer:
        (path,) = writer.add("a", "b", match)
    np.testing.assert_array_equal(read_kitti_flow(path)[1], match.confidence >= 0.4)


def test_what_is_masked_is_not_valid_whatever_the_threshold(match, tmp_path):
    confidence = match.confidence.copy()
    confidence[:20] = 0
    masked = dataclasses.replace(match, confidence=confidence)
    formats.save(masked, tmp_path, ["kitti"], threshold=0.0)
    valid = read_kitti_flow(tmp_path / "flow_kitti.png")[1]
    assert not valid[:20].any() and valid[20:].all()


def test_mistakes(match, tmp_path):
    with pytest.raises(InputError, match=r"Expected a format of npz, .* Received: 'tiff'"):
        formats.save(match, tmp_path, ["npz", "tiff"])
    assert not [*tmp_path.iterdir()]
    with formats.open("flo", tmp_path) as writer:
        with pytest.raises(InputError, match="Expected names of two images"):
            writer.add("", "b", match)
        with pytest.raises(OutputError, match="File name too long"):
            writer.add("a" * 300, "b", match)
    for name in ("hloc", "colmap"):
        for names in (("", "b"), ("a", ""), ("a", "a")):
            with (
                formats.open(name, tmp_path / name) as writer,
                pytest.raises(InputError, match="Expected names of two images"),
            ):
                writer.add(*names, match)
    (tmp_path / "file").write_text("")
    for name in formats.FORMATS:
        with pytest.raises(OutputError, match="Cannot write to"):
            formats.open(name, tmp_path / "file")
