"""Every reader on a tiny made-up copy of its data set's layout."""

import cv2
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation.readers import DATASETS, read_pairs
from tfdense.flow_files import write_flow
from tfdense.images import write_image

HEIGHT, WIDTH = 18, 24


def photo(shade, height=HEIGHT, width=WIDTH):
    return np.full((height, width, 3), shade, np.uint8)


def write_images(folder, names, **size):
    """Writes images of the shades 10, 20, ... so that they can be told apart."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        write_image(folder / name, photo(10 * (index + 1), **size))


def read_one(name, folder):
    (pair,) = read_pairs(name, folder)
    return pair


def assert_roles(pair, source_shade, target_shade):
    assert (pair.source.mean(), pair.target.mean()) == (source_shade, target_shade)


def test_homography(tmp_path):
    write_images(tmp_path / "b", ["source.png", "target.png"])
    (tmp_path / "b" / "H_target_to_source.txt").write_text("1 0 5\n0 1 0\n0 0 1\n")
    pair = read_one("homography", tmp_path)
    assert pair.name == "b"
    assert_roles(pair, 10, 20)
    assert len(pair.points) == HEIGHT * (WIDTH - 5)
    np.testing.assert_allclose(pair.true_flow.mean(axis=0), [5, 0])


def test_points(tmp_path):
    write_images(tmp_path / "b", ["source.png", "target.png"])
    (tmp_path / "b" / "points.txt").write_text("# tx ty sx sy\n1.5 2 11 4\n3 4 3 5\n")
    pair = read_one("points", tmp_path)
    assert_roles(pair, 10, 20)
    np.testing.assert_allclose(pair.points, [[1.5, 2], [3, 4]])
    np.testing.assert_allclose(pair.true_flow, [[9.5, 2], [0, 1]])


def test_middlebury_flow(tmp_path):
    write_images(tmp_path / "Grove", ["frame11.png", "frame10.png"])
    flow = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    flow[2, 3] = 4, 5
    flow[0] = 1.666e9
    write_flow(tmp_path / "Grove" / "flow10.flo", flow)
    pair = read_one("middlebury-flow", tmp_path)
    assert_roles(pair, 10, 20)
    assert len(pair.points) == (HEIGHT - 1) * WIDTH
    ((row,),) = np.nonzero(pair.true_flow.any(axis=-1))
    np.testing.assert_allclose((pair.points[row], pair.true_flow[row]), [(3, 2), (4, 5)])


def test_middlebury_stereo(tmp_path):
    write_images(tmp_path / "teddy", ["im6.png", "im2.png"])
    disparity = np.zeros((HEIGHT, WIDTH), np.uint8)
    disparity[1, 20] = 50
    cv2.imwrite(str(tmp_path / "teddy" / "disp2.png"), disparity)
    pair = read_one("middlebury-stereo", tmp_path)
    assert_roles(pair, 10, 20)
    np.testing.assert_allclose(pair.points, [[20, 1]])
    np.testing.assert_allclose(pair.true_flow, [[-12.5, 0]])


@pytest.mark.parametrize(
    ("name", "frames", "flows", "masks"),
    [
        ("sintel-clean", "clean/alley", "flow/alley", ["invalid/alley"]),
        ("sintel-final", "final/alley", "flow/alley", ["invalid/alley"]),
        ("sintel-sample", "alley", "alley/gt", ["alley/gt/invalid", "alley/gt/occlusions"]),
    ],
)
def test_sintel(tmp_path, name, frames, flows, masks):
    write_images(tmp_path / frames, ["frame_0007.png", "frame_0008.png"])
    for number, folder in enumerate(masks):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[number] = 255
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "frame_0007.png"), mask)
    write_flow(tmp_path / flows / "frame_0007.flo", np.full((HEIGHT, WIDTH, 2), 3.0))
    pair = read_one(name, tmp_path)
    assert pair.name == "alley-7"
    assert_roles(pair, 20, 10)  # from frame t, the target, to t + 1
    assert set(pair.points[:, 1]) == set(range(len(masks), HEIGHT))
    np.testing.assert_array_equal(pair.true_flow, 3.0)


def write_hpatches(folder):
    write_images(folder / "v_wall", [f"{k}.ppm" for k in range(1, 7)], height=40, width=80)
    write_image(folder / "v_wall" / "4.ppm", photo(40, 30, 60))
    for k in range(2, 7):
        (folder / "v_wall" / f"H_1_{k}").write_text("1 0 20\n0 1 0\n0 0 1")
    write_images(folder / "i_light", ["1.ppm"])  # no change of viewpoint: not part of it


def test_hpatches(tmp_path):
    write_hpatches(tmp_path)
    pairs = list(read_pairs("hpatches", tmp_path))
    assert [pair.name for pair in pairs] == [f"v_wall-{k}" for k in range(2, 7)]
    assert_roles(pairs[1], 10, 30)
    # Image 1 moves right by 20 px, so that image k finds its content 20 px further left.
    np.testing.assert_allclose(pairs[0].true_flow.mean(axis=0), [-20, 0], atol=1e-9)
    # The fourth is 30x60: the source is resized to that, by 0.75.
    assert pairs[2].source.shape == pairs[2].target.shape == (30, 60, 3)
    last = pairs[2].points.tolist().index([59, 1])
    expected = np.array([59 - 20, 1]) * 0.75 - 0.125 - [59, 1]
    np.testing.assert_allclose(pairs[2].true_flow[last], expected)


def test_hpatches_240(tmp_path):
    write_hpatches(tmp_path)
    pair = next(iter(read_pairs("hpatches-240", tmp_path)))
    assert pair.source.shape == pair.target.shape == (240, 240, 3)
    np.testing.assert_allclose(pair.true_flow, np.broadcast_to([-60.0, 0], pair.points.shape))
    assert len(pair.points) == 240 * 180


@pytest.mark.parametrize(
    ("name", "images"), [("kitti-2012", "colored_0"), ("kitti-2015", "image_2")]
)
def test_kitti(tmp_path, name, images):
    write_images(tmp_path / images, ["000003_11.png", "000003_10.png"])
    encoded = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    encoded[5, 6] = 1, 2**15 - 96, 2**15 + 640  # blue, green, red: valid, v, u
    (tmp_path / "flow_occ").mkdir()
    cv2.imwrite(str(tmp_path / "flow_occ" / "000003_10.png"), encoded)
    pair = read_one(name, tmp_path)
    assert pair.name == "000003"
    assert_roles(pair, 10, 20)
    np.testing.assert_allclose(pair.points, [[6, 5]])
    np.testing.assert_allclose(pair.true_flow, [[10.0, -1.5]])


def test_cameras(tmp_path):
    random = np.random.default_rng(0)
    write_images(tmp_path / "well", [f"{n:04d}.png" for n in range(5)])
    intrinsic = np.array([[50.0, 0, 12], [0, 55, 9], [0, 0, 1]])
    views = []
    for n in range(5):
        rotation, centre = cv2.Rodrigues(random.normal(size=3))[0], random.normal(size=3)
        rows = np.concatenate([intrinsic + np.diag([n, 0, 0]), rotation, centre[None]])
        np.savetxt(tmp_path / "well" / f"{n:04d}.camera.txt", rows, header="K, R, C")
        views.append((rotation, centre))
    pairs = {pair.name: pair for pair in read_pairs("cameras", tmp_path)}
    steps = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]
    assert list(pairs) == [f"well-{a:04d}-{b:04d}" for a, b in steps]
    pair = pairs["well-0001-0003"]
    assert_roles(pair, 20, 40)
    assert (pair.cameras.source[0, 0], pair.cameras.target[0, 0]) == (51, 53)
    # A point of the world in either camera's coordinates.
    point = random.normal(size=3)
    (r1, c1), (r3, c3) = views[1], views[3]
    moved = pair.cameras.rotation @ (r1.T @ (point - c1)) + pair.cameras.translation
    np.testing.assert_allclose(moved, r3.T @ (point - c3), atol=1e-9)
    (tmp_path / "well" / "0001.camera.txt").write_text("1 2 3\n4 5 6\n")
    with pytest.raises(InputError, match="three rows of K, three of R and one of C"):
        list(read_pairs("cameras", tmp_path))


def test_unknown_data_set(tmp_path):
    with pytest.raises(InputError, match=r"no data set 'kiti'.*kitti-2012"):
        read_pairs("kiti", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_other_layouts_are_refused_with_the_expected_one(tmp_path, name):
    with pytest.raises(InputError, match=r"holds no .* Expected for"):
        read_pairs(name, tmp_path)
    with pytest.raises(InputError, match=r"no folder .* Expected"):
        read_pairs(name, tmp_path / "missing")


def test_broken_files_are_named(tmp_path):
    write_images(tmp_path / "a", ["source.png", "target.png"])
    homography = tmp_path / "a" / "H_target_to_source.txt"
    homography.write_text("1 0\n0 1\n")
    with pytest.raises(InputError, match=r"H_target_to_source\.txt to hold a 3x3 homography"):
        read_one("homography", tmp_path)
    homography.write_text("0 0 0\n0 0 0\n0 0 0\n")
    with pytest.raises(InputError, match="full rank"):
        read_one("homography", tmp_path)
    homography.write_text("1 0 0\n0 1 0\n0 0 1\n")
    (tmp_path / "a" / "source.png").unlink()
    with pytest.raises(InputError, match=r"no image file .*source\.jpg"):
        read_one("homography", tmp_path)


def test_kitti_flow_must_have_16_bits(tmp_path):
    write_images(tmp_path / "image_2", ["000003_11.png", "000003_10.png"])
    write_images(tmp_path / "flow_occ", ["000003_10.png"])
    with pytest.raises(InputError, match="16-bit PNG"):
        read_one("kitti-2015", tmp_path)
