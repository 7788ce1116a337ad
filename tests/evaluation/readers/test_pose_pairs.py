"""Pairs with cameras, each from a tiny made-up copy of the layout."""

import cv2
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation.datasets import read_pairs
from tfdense.images import write_image

INTRINSIC = np.array([[50.0, 0, 12], [0, 55, 9], [0, 0, 1]])
# A turn about the diagonal, and a step.
POSE = np.eye(4)[[1, 2, 0, 3]] + np.outer([1.0, 2, 3, 0], [0, 0, 0, 1])


def test_cameras(tmp_path, write_images):
    random = np.random.default_rng(0)
    write_images(tmp_path / "well", [f"{n:04d}.png" for n in range(5)])
    views = []
    for n in range(5):
        rotation, centre = cv2.Rodrigues(random.normal(size=3))[0], random.normal(size=3)
        rows = np.concatenate([INTRINSIC + np.diag([n, 0, 0]), rotation, centre[None]])
        np.savetxt(tmp_path / "well" / f"{n:04d}.camera.txt", rows, header="K, R, C")
        views.append((rotation, centre))
    pairs = {pair.name: pair for pair in read_pairs("cameras", tmp_path)}
    steps = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]
    assert list(pairs) == [f"well-{a:04d}-{b:04d}" for a, b in steps]
    pair = pairs["well-0001-0003"]
    assert (pair.source.mean(), pair.target.mean()) == (20, 40)
    assert (pair.cameras.source[0, 0], pair.cameras.target[0, 0]) == (51, 53)
    # A point of the world in either camera's coordinates.
    point = random.normal(size=3)
    (r1, c1), (r3, c3) = views[1], views[3]
    moved = pair.cameras.rotation @ (r1.T @ (point - c1)) + pair.cameras.translation
    np.testing.assert_allclose(moved, r3.T @ (point - c3), atol=1e-9)
    (tmp_path / "well" / "0001.camera.txt").write_text("1 2 3\n4 5 6\n")
    with pytest.raises(InputError, match="three rows of K, three of R and one of C"):
        list(read_pairs("cameras", tmp_path))


@pytest.mark.parametrize("names", [("IMG.0000", "IMG.0001"), ("a.b[1]", "a[2]"), ("a", "a-b")])
def test_names_with_dots_and_brackets(tmp_path, write_images, names):
    scene = tmp_path / "well"
    write_images(scene, [f"{name}.png" for name in names])
    write_images(scene, ["IMG.png", "IMG.0000.b.png", "a.b.png"])
    for name in names:
        numbers = np.concatenate([INTRINSIC, np.eye(3), np.full((1, 3), names.index(name))])
        np.savetxt(scene / f"{name}.camera.TXT", numbers)
    (pair,) = read_pairs("cameras", tmp_path)
    assert pair.name == f"well-{names[0]}-{names[1]}"
    assert (pair.source.mean(), pair.target.mean()) == (10, 20)


def row(names, turns, pose, intrinsic=INTRINSIC):
    numbers = [*turns, *intrinsic.ravel(), *intrinsic.ravel(), *pose.ravel()]
    return " ".join([*names, *map(str, numbers)]) + "\n"


@pytest.mark.parametrize(
    ("name", "list_name"),
    [("yfcc100m", "yfcc_test_pairs_with_gt.txt"), ("scannet", "scannet_test_pairs_with_gt.txt")],
)
def test_pair_lists(tmp_path, write_images, name, list_name):
    images = tmp_path / "raw" / "scene" / "images"
    write_images(images, ["a.png"], height=960, width=1284)  # to 480x640, from 642
    write_images(images, ["unused.png", "b.png"], height=480, width=480)
    line = row(["scene/images/a.png", "scene/images/b.png"], (0, 0), POSE)
    (tmp_path / list_name).write_text(line + line)
    pair, again = read_pairs(name, tmp_path)
    assert (pair.name, again.name) == ("1-a-b", "2-a-b")
    assert (pair.source.shape, pair.target.shape) == ((480, 640, 3), (480, 480, 3))
    assert (pair.source.mean(), pair.target.mean()) == (10, 20)
    assert not len(pair.points)
    source = np.diag([640 / 1284, 0.5, 1]) @ INTRINSIC
    np.testing.assert_allclose(pair.cameras.source, source)
    np.testing.assert_array_equal(pair.cameras.target, INTRINSIC)
    np.testing.assert_array_equal(pair.cameras.rotation, POSE[:3, :3])
    np.testing.assert_array_equal(pair.cameras.translation, POSE[:3, 3])


def test_turned_photos_keep_what_their_cameras_see(tmp_path):
    # A bright pixel where each camera sees one point, in images that lie on a side.
    random = np.random.default_rng(0)
    rotation, translation = cv2.Rodrigues(np.array([0.1, -0.2, 0.3]))[0], np.array([0.5, 0, 0.2])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    intrinsic = np.array([[300.0, 0, 320], [0, 400, 240], [0, 0, 1]])
    point = np.append(random.uniform(-0.4, 0.4, 2), 2.0)
    for name, seen in (("a", point), ("b", rotation @ point + translation)):
        image = np.zeros((480, 640, 3), np.uint8)
        x, y = np.rint((intrinsic @ seen / seen[2])[:2]).astype(int)
        image[y, x] = 255
        write_image(tmp_path / f"{name}.png", image)
    turns = [(0, 1), (1, 0), (2, 3), (3, 2)]
    lines = [row(["a.png", "b.png"], turn, pose, intrinsic) for turn in turns]
    (tmp_path / "yfcc_test_pairs_with_gt.txt").write_text("".join(lines))
    upright = cv2.imread(str(tmp_path / "a.png"))
    for pair, (turn, _) in zip(read_pairs("yfcc100m", tmp_path), turns, strict=True):
        np.testing.assert_array_equal(pair.source, np.rot90(upright, turn))
        cameras = pair.cameras
        places = [np.argwhere(image[..., 0])[0, ::-1] for image in (pair.source, pair.target)]
        # From the pixel in the source by its depth to the pixel in the target.
        seen = np.linalg.solve(cameras.source, [*places[0], 1]) * point[2]
        found = cameras.target @ (cameras.rotation @ seen + cameras.translation)
        np.testing.assert_allclose(found[:2] / found[2], places[1], atol=1.5)


@pytest.mark.parametrize("line", ["a.png b.png 0 0 1 2 3", "", "a.png b.png " + "x " * 36, "a.png"])
def test_other_lists_are_refused(tmp_path, write_images, line):
    write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "scannet_test_pairs_with_gt.txt").write_text(line + "\n")
    with pytest.raises(InputError, match=r"row 1 of .* two names and 36 numbers"):
        list(read_pairs("scannet", tmp_path))


@pytest.mark.parametrize("turns", [(0.5, 0), (0, np.nan), (4, 0)])
def test_other_turns_are_refused(tmp_path, write_images, turns):
    write_images(tmp_path, ["a.png", "b.png"])
    line = row(["a.png", "b.png"], turns, POSE)
    (tmp_path / "scannet_test_pairs_with_gt.txt").write_text(line)
    with pytest.raises(InputError, match="turn its images 0 to 3 times"):
        list(read_pairs("scannet", tmp_path))


def test_a_list_that_windows_wrote(tmp_path, write_images):
    write_images(tmp_path, ["caf\udce9.png", "b.png"])
    line = row(["caf\udce9.png", "b.png"], (0, 0), POSE).encode(errors="surrogateescape")
    path = tmp_path / "scannet_test_pairs_with_gt.txt"
    path.write_bytes(b"\xef\xbb\xbf" + line.replace(b"\n", b"\r\n") * 2)
    first, second = read_pairs("scannet", tmp_path)
    assert (first.name, second.name) == ("1-caf\udce9-b", "2-caf\udce9-b")


def test_missing_images_are_named(tmp_path):
    line = row(["a.png", "b.png"], (0, 0), POSE)
    (tmp_path / "scannet_test_pairs_with_gt.txt").write_text(line)
    with pytest.raises(InputError, match=r"no image file .*a\.png"):
        next(read_pairs("scannet", tmp_path))
