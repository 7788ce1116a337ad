"""Pairs with a dense flow or a disparity, each from a tiny made-up copy of the layout."""

import cv2
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation.datasets import find_pairs, read_pairs
from tfdense.flow_files import write_flow
from tfdense.images import write_image

HEIGHT, WIDTH = 18, 24


def test_stored_flow(tmp_path, write_images):
    write_images(tmp_path / "a", ["source.png", "target.png"])
    flow = np.full((HEIGHT, WIDTH, 2), np.nan, np.float32)
    flow[2, 3] = 4, 5
    np.save(tmp_path / "a" / "flow.npy", flow)
    (pair,) = read_pairs("flow", tmp_path)
    assert (pair.source.mean(), pair.target.mean()) == (10, 20)
    assert (pair.points.tolist(), pair.true_flow.tolist()) == ([[3, 2]], [[4, 5]])


@pytest.fixture
def stored(tmp_path, write_images):
    """The folder of a pair without its flow, and a flow for it."""
    write_images(tmp_path / "a", ["source.png", "target.png"])
    return tmp_path / "a", np.full((HEIGHT, WIDTH, 2), 3, np.float32)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 9), (1, 1, 1)])
def test_any_colour_but_black_says_that_the_flow_is_known(stored, tmp_path, colour):
    folder, flow = stored
    write_flow(folder / "flow.flo", flow)
    known = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    known[2, 3] = colour
    write_image(folder / "valid.PNG", known)
    (pair,) = read_pairs("flow", tmp_path)
    assert pair.points.tolist() == [[3, 2]]


@pytest.mark.parametrize("name", ["valid.jpg", "valid.npy"])
def test_what_is_known_in_another_file_is_not_passed_over(stored, tmp_path, name):
    folder, flow = stored
    write_flow(folder / "flow.flo", flow)
    (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=rf"Expected .*valid\.png\. Received: {name}"):
        list(read_pairs("flow", tmp_path))


def test_what_is_no_ground_truth_does_not_count(stored, tmp_path):
    folder, flow = stored
    write_flow(folder / "flow.flo", flow)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cv2.imwrite(str(folder / "flow.png"), picture)  # as `tfdense match` writes it
    (folder / "flow.txt").write_text("notes")
    (folder / "flow.npz").write_text("")
    (pair,) = read_pairs("flow", tmp_path)
    np.testing.assert_array_equal(pair.true_flow, 3)


@pytest.mark.parametrize("suffix", [".FLO", ".Pfm", ".NPY", ".PNG"])
def test_flows_with_suffixes_in_capital_letters(stored, tmp_path, suffix):
    folder, flow = stored
    path = folder / f"flow{suffix.lower()}"
    if suffix == ".FLO":
        write_flow(path, flow)
    elif suffix == ".NPY":
        np.save(path, flow)
    elif suffix == ".Pfm":
        cv2.imwrite(str(path), np.dstack([flow[..., 0], flow]))
    else:
        known = np.ones((HEIGHT, WIDTH), np.uint16)
        cv2.imwrite(str(path), np.dstack([known, *[(64 * flow[..., 0] + 2**15)] * 2]).astype("u2"))
    path.rename(folder / f"flow{suffix}")
    for name in ("source", "target"):
        (folder / f"{name}.png").rename(folder / f"{name}.PNG")
    (pair,) = read_pairs("flow", tmp_path)
    np.testing.assert_array_equal(pair.true_flow, 3)


def test_one_ground_truth_is_expected(stored, tmp_path):
    folder, flow = stored
    cv2.imwrite(str(folder / "flow.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(InputError, match=r"one flow as ground truth in .*: flow\.png\."):
        list(read_pairs("flow", tmp_path))
    write_flow(folder / "flow.flo", flow)
    np.save(folder / "flow.npy", flow)
    with pytest.raises(InputError, match=r"Received: flow\.flo, flow\.npy\."):
        list(read_pairs("flow", tmp_path))


def test_one_source_is_expected(stored, tmp_path, write_images):
    folder, flow = stored
    write_flow(folder / "flow.flo", flow)
    write_images(folder, ["source.bmp"])
    with pytest.raises(InputError, match=r"one image source .*: source\.bmp and source\.png\."):
        list(read_pairs("flow", tmp_path))


def test_a_broken_pair_does_not_cost_the_next(stored, tmp_path, write_images):
    write_images(tmp_path / "b", ["source.png", "target.png"])
    for name in ("a", "b"):
        write_flow(tmp_path / name / "flow.flo", stored[1])
    (tmp_path / "a" / "source.png").write_bytes(b"nothing")
    broken, whole = find_pairs("flow", tmp_path)
    assert (broken.name, whole.name) == ("a", "b")
    with pytest.raises(InputError, match=r"source\.png"):
        broken.read()
    assert whole.read().name == "b"


def test_middlebury_flow(tmp_path, write_images):
    write_images(tmp_path / "Grove", ["frame11.png", "frame10.png"])
    flow = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    flow[2, 3] = 4, 5
    flow[0] = 1.666e9
    write_flow(tmp_path / "Grove" / "flow10.flo", flow)
    (pair,) = read_pairs("middlebury-flow", tmp_path)
    assert (pair.source.mean(), pair.target.mean()) == (10, 20)
    assert len(pair.points) == (HEIGHT - 1) * WIDTH
    ((row,),) = np.nonzero(pair.true_flow.any(axis=-1))
    np.testing.assert_allclose((pair.points[row], pair.true_flow[row]), [(3, 2), (4, 5)])


@pytest.mark.parametrize(
    ("name", "frames", "flows", "masks"),
    [
        ("sintel-clean", "clean/alley", "flow/alley", ["invalid/alley"]),
        ("sintel-final", "final/alley", "flow/alley", ["invalid/alley"]),
        ("sintel-sample", "alley", "alley/gt", ["alley/gt/invalid", "alley/gt/occlusions"]),
    ],
)
def test_sintel(tmp_path, write_images, name, frames, flows, masks):
    write_images(tmp_path / frames, ["frame_0007.png", "frame_0008.png"])
    for number, folder in enumerate(masks):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[number] = 255
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "frame_0007.png"), mask)
    write_flow(tmp_path / flows / "frame_0007.flo", np.full((HEIGHT, WIDTH, 2), 3.0))
    (pair,) = read_pairs(name, tmp_path)
    assert pair.name == "alley-7"
    # From frame t, the target, to t + 1.
    assert (pair.source.mean(), pair.target.mean()) == (20, 10)
    assert set(pair.points[:, 1]) == set(range(len(masks), HEIGHT))
    np.testing.assert_array_equal(pair.true_flow, 3.0)


def test_a_mask_of_another_size_is_refused(tmp_path, write_images):
    write_images(tmp_path / "clean" / "alley", ["frame_0007.png", "frame_0008.png"])
    write_images(tmp_path / "invalid" / "alley", ["frame_0007.png"], height=9)
    write_flow(tmp_path / "flow" / "alley" / "frame_0007.flo", np.zeros((HEIGHT, WIDTH, 2)))
    write_flow(tmp_path / "flow" / "alley" / "frame_0007_copy.flo", np.zeros((HEIGHT, WIDTH, 2)))
    (pair,) = find_pairs("sintel-clean", tmp_path)
    with pytest.raises(InputError, match=r"frame_0007\.png to have 24x18 px.* Received: 24x9"):
        pair.read()


@pytest.mark.parametrize(
    ("name", "images"), [("kitti-2012", "colored_0"), ("kitti-2015", "image_2")]
)
def test_kitti(tmp_path, write_images, name, images):
    write_images(tmp_path / images, ["000003_11.png", "000003_10.png"])
    encoded = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    encoded[5, 6] = 1, 2**15 - 96, 2**15 + 640  # blue, green, red: valid, v, u
    (tmp_path / "flow_occ").mkdir()
    cv2.imwrite(str(tmp_path / "flow_occ" / "000003_10.png"), encoded)
    (pair,) = read_pairs(name, tmp_path)
    assert pair.name == "000003"
    assert (pair.source.mean(), pair.target.mean()) == (10, 20)
    np.testing.assert_allclose(pair.points, [[6, 5]])
    np.testing.assert_allclose(pair.true_flow, [[10.0, -1.5]])


@pytest.mark.parametrize("channels", [1, 3])
def test_tss(tmp_path, write_images, channels):
    folder = tmp_path / "JODS" / "car_1"
    write_images(folder, ["image1.png"], height=20, width=30)
    write_images(folder, ["unused.png", "image2.png"], height=40, width=16)
    flow, mask = np.full((20, 30, 2), 1e10), np.zeros((20, 30, channels), np.uint8)
    flow[:2] = 3, 1
    mask[1:3] = 255  # of the foreground, one row has a flow
    write_flow(folder / "flow1.flo", flow)
    cv2.imwrite(str(folder / "mask1.png"), mask)
    write_flow(folder / "flow2.flo", np.full((40, 16, 2), -3.0))
    cv2.imwrite(str(folder / "mask2.png"), np.full((40, 16), 255, np.uint8))

    first, second = read_pairs("tss", tmp_path)
    assert (first.name, second.name) == ("JODS-car_1-1", "JODS-car_1-2")
    assert (first.source[0, 0, 0], first.target[0, 0, 0]) == (20, 10)
    assert (second.source[0, 0, 0], second.target[0, 0, 0]) == (10, 20)
    # 0.05 of the longer side of the source: 40x16 and 20x30.
    assert (first.tolerance, second.tolerance) == (2.0, 1.5)
    assert first.points.tolist() == [[x, 1] for x in range(30)]
    np.testing.assert_array_equal(first.true_flow, [[3, 1]] * 30)
    assert len(second.points) == 40 * 16
    for pair in (first, second):
        assert pair.source.shape == pair.target.shape == (40, 30, 3)
    assert not first.source[:, 16:].any()
    assert not first.target[20:].any()


def test_middlebury_stereo(tmp_path, write_images):
    write_images(tmp_path / "teddy", ["im6.png", "im2.png"])
    disparity = np.zeros((HEIGHT, WIDTH), np.uint8)
    disparity[1, 20] = 50
    cv2.imwrite(str(tmp_path / "teddy" / "disp2.png"), disparity)
    (pair,) = read_pairs("middlebury-stereo", tmp_path)
    assert (pair.source.mean(), pair.target.mean()) == (10, 20)
    np.testing.assert_allclose(pair.points, [[20, 1]])
    np.testing.assert_allclose(pair.true_flow, [[-12.5, 0]])


@pytest.mark.parametrize("unknown", [np.inf, np.nan, 0.0, -np.inf])
def test_middlebury_2014(tmp_path, write_images, unknown):
    write_images(tmp_path / "Piano", ["im1.png", "im0.png"])
    disparity = np.full((HEIGHT, WIDTH), unknown, np.float32)
    disparity[1, 20] = 12.5
    cv2.imwrite(str(tmp_path / "Piano" / "disp0.pfm"), disparity)
    (pair,) = read_pairs("middlebury-2014", tmp_path)
    assert (pair.source.mean(), pair.target.mean()) == (10, 20)
    np.testing.assert_allclose(pair.points, [[20, 1]])
    np.testing.assert_allclose(pair.true_flow, [[-12.5, 0]])


def test_public_data_sets_with_suffixes_in_capital_letters(tmp_path, write_images):
    folder = tmp_path / "Piano"
    write_images(folder, ["im1.png", "im0.png"])
    cv2.imwrite(str(folder / "disp0.pfm"), np.ones((HEIGHT, WIDTH), np.float32))
    for path in list(folder.iterdir()):
        path.rename(path.with_suffix(path.suffix.upper()))
    (pair,) = read_pairs("middlebury-2014", tmp_path)
    assert (pair.source.mean(), pair.target.mean()) == (10, 20)


def test_a_disparity_has_one_channel(tmp_path, write_images):
    write_images(tmp_path / "Piano", ["im1.png", "im0.png"])
    cv2.imwrite(str(tmp_path / "Piano" / "disp0.pfm"), np.ones((4, 4, 3), np.float32))
    with pytest.raises(InputError, match=r"disp0\.pfm is no disparity"):
        next(read_pairs("middlebury-2014", tmp_path))
