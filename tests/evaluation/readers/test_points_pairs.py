"""Pairs with single matches, each from a tiny made-up copy of the layout."""

import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation.datasets import find_pairs, read_pairs

HEADER = "scene,source_image,target_image,XA,YA,XB,YB\n"
# The protocol's own sizes, so that nothing is scaled but where a test wants it.
SIZE = {"height": 480, "width": 640}


def test_stored_points(tmp_path, write_images):
    write_images(tmp_path / "b", ["source.png", "target.png"])
    (tmp_path / "b" / "points.txt").write_text("# tx ty sx sy\n1.5 2 11 4\n3 4 3 5\n")
    (pair,) = read_pairs("points", tmp_path)
    assert (pair.source.mean(), pair.target.mean()) == (10, 20)
    np.testing.assert_allclose(pair.points, [[1.5, 2], [3, 4]])
    np.testing.assert_allclose(pair.true_flow, [[9.5, 2], [0, 1]])


def test_megadepth(tmp_path, write_images):
    images = tmp_path / "test1600Pairs" / "0015"
    write_images(images, ["a.jpg"], height=960, width=1300)  # becomes 480x640, 650 being lowered
    write_images(images, ["unused.jpg", "b.jpg"], height=500, width=480)  # 496x480
    row = "0015,a.jpg,b.jpg,13;1300;650;0,10;20;480;5,100.25;1;479.9;3,100.25;2;499.9;4\n"
    (tmp_path / "test1600Pairs.csv").write_text(HEADER + row)
    (pair,) = read_pairs("megadepth-1600", tmp_path)
    assert pair.name == "1-a-b"
    assert pair.source.shape == pair.target.shape == (496, 640, 3)
    assert pair.source[:480, :640].min() == pair.source.max() == 10
    assert pair.target[:496, :480].min() == pair.target.max() == 20
    assert not pair.source[480:].any()
    assert not pair.target[:, 480:].any()
    # The second point is on the source's border, the fourth too.
    down = 496 / 500
    np.testing.assert_allclose(pair.points, [[100, np.rint(100.25 * down)], [480, 496]])
    source, target = [[6.4, 5], [320, 240]], [[100.25, 100.25 * down], [479.9, 499.9 * down]]
    np.testing.assert_allclose(pair.true_flow, np.subtract(source, target))


def test_robotcar(tmp_path, write_images):
    write_images(tmp_path / "img" / "night", ["a.png"], **SIZE)
    write_images(tmp_path / "img" / "snow", ["unused.png", "a.png"], **SIZE)
    header = HEADER.removeprefix("scene,")
    rows = "night/a.png,snow/a.png,9;700,8;1,7;2,5;2\nnight/a.png,snow/a.png,-1,8,7,5\n"
    (tmp_path / "test6511.csv").write_text(header + rows)
    (pair,) = read_pairs("robotcar", tmp_path)  # the second has no point within both
    assert (pair.source.mean(), pair.target.mean()) == (10, 20)
    assert (pair.points.tolist(), pair.true_flow.tolist()) == ([[7, 5]], [[2, 3]])


def test_a_table_that_a_spreadsheet_wrote(tmp_path, write_images):
    write_images(tmp_path, ["a.png"], **SIZE)
    rows = f"{HEADER.removeprefix('scene,')}b.png,a.png,5,6,7,8\na.png,a.png,1,2,3,4\n"
    content = rows.replace("\n", "\r\n").encode("utf-8-sig")
    (tmp_path / "test6511.csv").write_bytes(content)
    missing, whole = find_pairs("robotcar", tmp_path)
    with pytest.raises(InputError, match=r"no image file .*b\.png"):
        missing.read()
    assert whole.name == "2-a-a"
    assert whole.read().points.tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("source_image,target_image,XA\n", r"test6511\.csv has no column XB, YA, YB"),
        ("", "has no column XA"),
        (HEADER + ",a.png,a.png,1;2,1;2,1;2,1\n", "YB in row 1 of .* as many numbers each"),
        (HEADER + ",a.png,a.png,1;b,1;2,1;2,1;2\n", "separated by semicolons"),
        (HEADER + ",a.png\n", "row 1 of .*separated by semicolons"),
        (HEADER + ",a.png,b.png,1,1,1,1\n", r"no image file .*b\.png"),
    ],
)
def test_other_tables_are_refused(tmp_path, write_images, content, message):
    write_images(tmp_path, ["a.png"], **SIZE)
    (tmp_path / "test6511.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        list(read_pairs("robotcar", tmp_path))


def write_reconstruction(scene, views):
    """Writes COLMAP's images.txt of {name: what it sees}."""
    lines = ["# Image list with two lines of data per image:"]
    for number, (name, seen) in enumerate(views.items(), 1):
        lines += [f"{number} 1 0 0 0 0 0 0 1 {name}", seen]
    folder = scene / "rig_calibration_undistorted"
    folder.mkdir(parents=True)
    (folder / "images.txt").write_text("\n".join(lines) + "\n")


def test_eth3d(tmp_path, write_images):
    scene = tmp_path / "forest"
    cameras = "images_rig_cam4_undistorted", "images_rig_cam5_undistorted"
    names = [f"{number:02d}.png" for number in range(10)]
    views = {f"{camera}/{name}": "" for camera in cameras for name in reversed(names)}
    views[f"{cameras[0]}/00.png"] = "3.5 4.5 7 1.0 2.0 -1 9.75 6.25 8"
    views[f"{cameras[0]}/03.png"] = "1 1 -1 12 6 8 5.5 4.5 7 2 2 9"
    views[f"{cameras[0]}/05.png"] = views[f"{cameras[1]}/08.png"] = "3.5 4.5 7"
    write_reconstruction(scene, views)
    write_images(scene / "images" / cameras[0], names)

    (pair,) = read_pairs("eth3d-3", tmp_path)  # 05 and 08 of the camera see nothing in common
    assert pair.name == "forest-03-00"
    assert (pair.source.mean(), pair.target.mean()) == (40, 10)
    # (3.5, 4.5) is the centre of the pixel (3, 4), (9.75, 6.25) lies in (9, 6).
    np.testing.assert_allclose(pair.points, [[3, 4], [9, 6]])
    np.testing.assert_allclose(pair.true_flow, [[2, 0], [2.25, -0.25]])
    (pair,) = read_pairs("eth3d-5", tmp_path)
    assert (pair.name, len(pair.points)) == ("forest-05-00", 1)
    assert not list(read_pairs("eth3d-15", tmp_path))


def test_a_broken_reconstruction_costs_its_own_pairs(tmp_path, write_images):
    write_reconstruction(tmp_path / "a", {})
    write_reconstruction(tmp_path / "b", {f"cam/{n}.png": "3.5 4.5 7" for n in range(4)})
    write_images(tmp_path / "b" / "images" / "cam", [f"{n}.png" for n in range(4)])
    broken, whole = find_pairs("eth3d-3", tmp_path)
    assert (broken.name, whole.name) == ("a", "b-3-0")
    with pytest.raises(InputError, match="COLMAP's text format"):
        broken.read()
    assert whole.read().points.tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ({}, "COLMAP's text format"),
        ({"": "1 2 3"}, "a line of ten fields"),
        ({"cam/a.png": "1 2"}, r"x, y and the number of a point for all that cam/a\.png sees"),
    ],
)
def test_other_reconstructions_are_refused(tmp_path, views, message):
    write_reconstruction(tmp_path / "forest", views)
    with pytest.raises(InputError, match=message):
        list(read_pairs("eth3d-3", tmp_path))
