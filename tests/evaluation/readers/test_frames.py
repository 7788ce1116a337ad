"""The data sets that optical flow is trained on, each from a tiny made-up copy of its layout."""

import cv2
import h5py
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation.datasets import read_pairs
from tfdense.evaluation.layouts import LAYOUTS, find_truth, group_of
from tfdense.flow_files import write_flow
from tfdense.images import write_image

_HEIGHT, _WIDTH = 18, 24


def _flow(value, height=_HEIGHT, width=_WIDTH):
    return np.full((height, width, 2), value, np.float32)


def _write_kitti(path, flow):
    path.parent.mkdir(parents=True, exist_ok=True)
    known = np.ones(flow.shape[:2], np.uint16)
    values = np.dstack([known, *[(64 * flow[..., i] + 2**15) for i in (1, 0)]])
    cv2.imwrite(str(path), values.astype(np.uint16))


def _write_npz(path, flow):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, u=flow[..., 0], v=flow[..., 1])


def _write_flo5(path, flow):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["flow"] = flow


def _chairs(root, write_images):
    write_images(root / "data", ["00007_img1.ppm", "00007_img2.ppm"])
    write_flow(root / "data" / "00007_flow.flo", _flow(2))


def _things(root, write_images):
    write_images(root / "image_clean" / "left", [f"000000{i}.png" for i in range(2)])
    write_flow(root / "flow" / "left" / "into_future" / "0000000.flo", _flow(2))
    write_flow(root / "flow" / "left" / "into_past" / "0000001.flo", _flow(-3))


def _hd1k(root, write_images):
    images = root / "hd1k_input" / "image_2"
    write_images(images, ["000000_0010.png", "000000_0020.png", "000001_0010.png"])
    for name in ("000000_0010", "000000_0020", "000001_0010"):
        _write_kitti(root / "hd1k_flow_gt" / "flow_occ" / f"{name}.png", _flow(2))


def _viper(root, write_images):
    write_images(root / "img" / "001", ["001_00010.jpg", "001_00011.jpg"])
    flow = _flow(2)
    flow[0] = np.nan
    _write_npz(root / "flow" / "001" / "001_00010.npz", flow)


def _spring(root, write_images):
    images = root / "0001" / "frame_left"
    write_images(images, ["frame_left_0001.png", "frame_left_0002.png"])
    # Four values a pixel; only the upper left one may be taken.
    flow = _flow(9, 2 * _HEIGHT, 2 * _WIDTH)
    flow[::2, ::2] = 2
    _write_flo5(root / "0001" / "flow_FW_left" / "flow_FW_left_0001.flo5", flow)
    _write_flo5(root / "0001" / "flow_BW_left" / "flow_BW_left_0002.flo5", -flow)


def _listed(root, write_images):
    write_images(root, ["a.png", "b.png"])
    _write_flo5(root / "ab.flo5", _flow(2))
    valid = np.zeros((_HEIGHT, _WIDTH, 3), np.uint8)
    valid[3, 4] = 255
    write_image(root / "seen.png", valid)
    rows = "source, target, flow, valid\nb.png, a.png, ab.flo5, seen.png\nb.png,a.png,ab.flo5,\n"
    (root / "pairs.csv").write_text(rows)


def _middlebury(root, write_images):
    write_images(root / "Grove", ["frame10.png", "frame11.png"])
    write_flow(root / "Grove" / "flow10.flo", _flow(2))


def _sintel(root, write_images):
    for rendering in ("clean", "final"):
        write_images(root / rendering / "alley", ["frame_0001.png", "frame_0002.png"])
    write_flow(root / "flow" / "alley" / "frame_0001.flo", _flow(2))
    invalid = np.zeros((_HEIGHT, _WIDTH, 3), np.uint8)
    write_image(root / "invalid" / "alley" / "frame_0001.png", invalid)


def _kitti(root, write_images):
    write_images(root / "image_2", ["000000_10.png", "000000_11.png"])
    _write_kitti(root / "flow_occ" / "000000_10.png", _flow(2))


def _stored(root, write_images):
    write_images(root / "own", ["target.png", "source.png"])
    np.save(root / "own" / "flow.npy", _flow(2))
    valid = np.zeros((_HEIGHT, _WIDTH, 3), np.uint8)
    valid[3, 4] = 255
    write_image(root / "own" / "valid.png", valid)


def _homography(root, write_images):
    write_images(root / "own", ["target.png", "source.png"])
    (root / "own" / "H_target_to_source.txt").write_text("1 0 2\n0 1 2\n0 0 1\n")


def _points(root, write_images):
    write_images(root / "own", ["target.png", "source.png"])
    (root / "own" / "points.txt").write_text("3 4 5 6 0.5\n1 1 3 3 1\n")


# Of each layout: what writes it, its group, and the scenes of its pairs.
_MINIATURES = {
    "flying-chairs": (_chairs, "flow", [""]),
    "flying-things-clean": (_things, "flow", ["0", "0"]),
    "hd1k": (_hd1k, "flow", ["000000"]),
    "viper": (_viper, "flow", ["001"]),
    "spring": (_spring, "flow", ["0001", "0001"]),
    "flow-list": (_listed, "flow", ["", ""]),
    "flow": (_stored, "flow", [""]),
    "middlebury-flow": (_middlebury, "flow", [""]),
    "sintel-clean": (_sintel, "flow", ["alley"]),
    "kitti-2015": (_kitti, "flow", [""]),
    "homography": (_homography, "homographies", [""]),
    "points": (_points, "matches", [""]),
}


@pytest.mark.parametrize("layout", _MINIATURES)
def test_layout(layout, tmp_path, write_images):
    write, group, scenes = _MINIATURES[layout]
    write(tmp_path, write_images)
    assert group_of(tmp_path) == group
    found = find_truth(group, tmp_path)
    named = find_truth(group, tmp_path, layout)
    # Sintel's folder holds two renderings, of which a layout is one.
    assert len(found) == len(named) * (2 if layout == "sintel-clean" else 1)
    assert [pair.scene for pair in named] == scenes
    for number, unread in enumerate(named):
        pair = unread.read()
        back = number == 1 and layout in ("spring", "flying-things-clean")
        # The target is the frame at which the flow is: the first one, 10, or going back the next.
        shades = (pair.target.mean().round(), pair.source.mean().round())
        assert shades == ((20, 10) if back else (10, 20)), unread.name
        value = {"spring": -2, "flying-things-clean": -3}[layout] if back else 2
        np.testing.assert_array_equal(pair.true_flow, value)
    if layout in ("flow-list", "flow"):
        assert named[0].read().points.tolist() == [[4, 3]]
    if layout == "viper":
        assert len(pair.points) == (_HEIGHT - 1) * _WIDTH
    if layout == "points":
        assert pair.weights.tolist() == [0.5, 1]


def test_all_layouts_are_known_data_sets_of_one_group():
    names = [name for known in LAYOUTS.values() for name in known]
    assert len(names) == len(set(names))


def test_another_layout_is_refused(tmp_path, write_images):
    write_images(tmp_path / "frames", ["1.png", "2.png"])
    with pytest.raises(
        InputError, match=r"in .*\. Expected one of flow-list, .*\. Received: frames/\.$"
    ):
        find_truth("flow", tmp_path)
    with pytest.raises(InputError, match=r"holds no data/\*_flow\.flo.*NNNNN_img1\.ppm"):
        find_truth("flow", tmp_path, "flying-chairs")
    with pytest.raises(InputError, match=r"data\.matches\.layout should be auto or .*: sintel"):
        find_truth("matches", tmp_path, "sintel")
    with pytest.raises(InputError, match="There is no folder"):
        find_truth("matches", tmp_path / "missing")
    (tmp_path / "pairs.csv").write_text("a,b\n")
    with pytest.raises(InputError, match="flow, source, target is missing"):
        find_truth("flow", tmp_path)


def test_broken_files_of_flow(tmp_path, write_images):
    _spring(tmp_path, write_images)
    (path,) = tmp_path.glob("*/flow_FW_left/*")
    path.write_bytes(b"not HDF5")
    with pytest.raises(InputError, match="HDF5 file with the dataset flow"):
        next(read_pairs("spring", tmp_path))
    viper = tmp_path / "viper"
    _viper(viper, write_images)
    np.savez(viper / "flow" / "001" / "001_00010.npz", u=np.zeros(3))
    with pytest.raises(InputError, match="the arrays u and v"):
        next(read_pairs("viper", viper))
    points = tmp_path / "points"
    _points(points, write_images)
    (points / "own" / "points.txt").write_text("3 4 5 6 -1\n")
    with pytest.raises(InputError, match="a weight of at least 0"):
        next(read_pairs("points", points))
