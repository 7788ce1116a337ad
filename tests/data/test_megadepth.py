"""Pairs of MegaDepth, from a made-up scene in the format of D2-Net's preprocessing."""

import shutil

import cv2
import h5py
import numpy as np
import pytest

from tfdense.data import training_pairs, validation_pairs
from tfdense.data.megadepth import MegaDepth, depth_matches, stretched
from tfdense.data.megadepth_scenes import Scene, held_out, scene_files
from tfdense.data_config import DataConfig, MegaDepthConfig, PhotometryConfig
from tfdense.errors import InputError
from tfdense.images import write_image

# A wall at world depth 10, painted by `_paint`. Camera 1 stands 2 to the right of camera 0 (and a
# little, so that no match is at an edge) and 1 nearer; camera 2 looks like camera 0, but only the
# left half of its depth is known.
_WALL = 10.0
_SIZES = [(60, 80), (64, 72), (60, 80)]
_FOCAL = [70.0, 80.0, 70.0]
_CENTRES = np.array([[0.0, 0.0, 0.0], [2.03, 0.01, 1.0], [0.0, 0.0, 0.0]])
_SIZE = 40


def _to_wall(camera, positions):
    """Where the rays of COLMAP positions meet the wall."""
    height, width = _SIZES[camera]
    centred = positions - np.array([width / 2, height / 2])
    distance = _WALL - _CENTRES[camera, 2]
    return centred / _FOCAL[camera] * distance + _CENTRES[camera, :2]


def _from_wall(camera, points):
    height, width = _SIZES[camera]
    distance = _WALL - _CENTRES[camera, 2]
    projected = (points - _CENTRES[camera, :2]) / distance * _FOCAL[camera]
    return projected + np.array([width / 2, height / 2])


def _paint(points):
    x, y = points[..., 0], points[..., 1]
    waves = [np.sin(0.9 * x + 0.3), np.cos(1.1 * y), np.sin(0.7 * x - 0.8 * y)]
    return np.round(127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images, their depths and the scene file."""
    root = tmp_path_factory.mktemp("megadepth")
    points = np.random.default_rng(0).uniform(-4, 4, [40, 2])
    scene = {name: [] for name in ("image_paths", "depth_paths", "intrinsics", "poses", "seen")}
    for camera, (height, width) in enumerate(_SIZES):
        centres = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) + 0.5
        scene["image_paths"].append(f"Undistorted_SfM/0000/images/{camera}.png")
        scene["depth_paths"].append(f"depths/{camera}.h5")
        write_image(root / scene["image_paths"][-1], _paint(_to_wall(camera, centres)))
        (root / "depths").mkdir(exist_ok=True)
        depth = np.full([height, width], _WALL - _CENTRES[camera, 2], np.float32)
        if camera == 2:
            depth[:, width // 2 :] = 0
        with h5py.File(root / scene["depth_paths"][-1], "w") as file:
            file["depth"] = depth
        focal = _FOCAL[camera]
        scene["intrinsics"].append([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        pose = np.eye(4)
        pose[:3, 3] = -_CENTRES[camera]
        scene["poses"].append(pose)
        # Camera 0 saw the even points and a few more.
        chosen = range(40) if camera else [*range(0, 40, 2), 1, 3]
        positions = _from_wall(camera, points)
        scene["seen"].append({number: tuple(positions[number]) for number in chosen})
    overlap = np.array([[-1, 0.5, 0.3], [0.6, -1, 0.2], [0.3, 0.2, -1]], np.float32)
    (root / "scene_info").mkdir()
    np.savez(
        root / "scene_info" / "0000.npz",
        image_paths=np.array(scene["image_paths"], object),
        depth_paths=np.array(scene["depth_paths"], object),
        intrinsics=np.array(scene["intrinsics"]),
        poses=np.array(scene["poses"]),
        overlap_matrix=overlap,
        points3D_id_to_2D=np.array(scene["seen"], object),
    )
    return root


def _config(folder, **changes):
    return MegaDepthConfig(folder=str(folder), **changes)


def _sides(pair):
    """Tells from the pair's images which camera the target is: only camera 0 is padded below."""
    return (1, 0) if not pair["target"][-1].any() else (0, 1)


def _expected_flow(source, target):
    """The flow of the wall at the stretched size, by the cameras alone."""
    scale = _SIZE / np.array([80.0, 64.0])
    grid = np.stack(np.meshgrid(np.arange(_SIZE), np.arange(_SIZE)), axis=-1)
    matches = _from_wall(source, _to_wall(target, (grid + 0.5) / scale))
    height, width = _SIZES[source]
    inside = ((matches >= 0) & (matches < [width, height])).all(-1)
    height, width = _SIZES[target]
    inside &= ((grid + 0.5) / scale < [width, height]).all(-1)
    return matches * scale - 0.5 - grid, inside


def test_depth_gives_the_flow_of_the_wall(folder):
    dataset = MegaDepth(_config(folder, ground_truth="depth"), _SIZE, seed=0)
    seen = set()
    for number in range(8):
        pair = dataset.load(number)
        source, target = _sides(pair)
        seen.add(target)
        flow, inside = _expected_flow(source, target)
        np.testing.assert_array_equal(pair["mask"] > 0, inside)
        assert 0.2 < inside.mean() < 0.9
        np.testing.assert_allclose(pair["flow"][inside], flow[inside], atol=1e-3)
        grid = np.stack(np.meshgrid(np.arange(_SIZE), np.arange(_SIZE)), axis=-1)
        mapping = (grid + pair["flow"]).astype(np.float32)
        warped = cv2.remap(pair["source"], mapping, None, cv2.INTER_LINEAR)
        inner = cv2.erode(pair["mask"], np.ones([5, 5])) > 0
        assert np.abs(warped - pair["target"])[inner].mean() < 4
    assert seen == {0, 1}  # the order is exchanged


def test_sparse_matches_are_those_of_common_points(folder):
    pair = MegaDepth(_config(folder), _SIZE, seed=0).load(0)
    source, target = _sides(pair)
    flow, _ = _expected_flow(source, target)
    valid = pair["mask"] > 0
    assert 8 < valid.sum() <= 22
    # Within half a pixel of the match the wall's flow changes by less than a tenth.
    np.testing.assert_allclose(pair["flow"][valid], flow[valid], atol=0.2)
    assert not pair["flow"][~valid].any()


def test_unknown_and_disagreeing_depth_is_no_ground_truth(folder):
    config = _config(folder, overlap=(0.25, 0.35), ground_truth="depth")
    pair = MegaDepth(config, _SIZE, seed=0).load(0)  # cameras 0 and 2, the same view
    expected = np.zeros([_SIZE, _SIZE])
    expected[:, : _SIZE // 2] = 1
    np.testing.assert_array_equal(pair["mask"], expected)
    np.testing.assert_allclose(pair["flow"], 0, atol=1e-4)


def test_a_point_behind_another_is_hidden(folder):
    """Something stands at half the distance in the middle of the source."""
    scene = Scene(folder / "scene_info" / "0000.npz")
    depth = np.full([60, 80], _WALL)
    nearer = depth.copy()
    nearer[20:40, 30:50] = 5.0
    positions = np.array([[10.0, 10.0], [40.0, 30.0], [60.0, 50.0]])
    target, source = depth_matches(scene.view(0), scene.view(2), nearer, depth, positions)
    np.testing.assert_array_equal(target, positions[[0, 2]])
    np.testing.assert_allclose(source, positions[[0, 2]], atol=1e-9)


def test_matches_are_kept_at_the_rounded_pixel():
    target = np.array([[10.0, 6.0], [30.0, 5.0], [3.0, 19.9]])
    source = np.array([[13.0, 2.0], [41.0, 5.0], [3.0, 3.0]])  # the second lies outside
    flow, mask = stretched(target, source, [(20, 40), (20, 40)], (20, 40), 20)
    # x is halved: 10 is at 4.5, which is rounded to 4; 6 is at 5.5, rounded to 6.
    assert sorted(zip(*np.nonzero(mask), strict=True)) == [(6, 4), (19, 1)]
    np.testing.assert_allclose(flow[6, 4], [1.5, -4.0], atol=1e-6)


def test_epochs_take_some_pairs_of_each_scene_anew(folder, tmp_path):
    for name in ("a", "b"):
        shutil.copy(folder / "scene_info" / "0000.npz", tmp_path / f"{name}.npz")
    config = _config(folder, scenes=str(tmp_path), overlap=(0.15, 0.8), pairs_per_scene=2)
    dataset = MegaDepth(config, _SIZE, seed=0)
    assert len(dataset) == 4
    epochs = [tuple(map(tuple, dataset.epoch(number))) for number in range(12)]
    for epoch in epochs:
        assert len(set(epoch)) == 4
        assert [sum(scene == number for scene, *_ in epoch) for number in (0, 1)] == [2, 2]
    drawn = {pair for epoch in epochs for pair in epoch}
    assert drawn == {(s, a, b) for s in (0, 1) for a, b in ((0, 1), (0, 2), (1, 2))}
    again, other = (MegaDepth(config, _SIZE, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(again.epoch(7), epochs[7])
    assert any((other.epoch(number) != epochs[number]).any() for number in range(3))


@pytest.fixture
def two_scenes(folder, tmp_path):
    """Copies of a scene, one of them without the points by which a sparse pair is known."""
    with np.load(folder / "scene_info" / "0000.npz", allow_pickle=True) as file:
        scene = dict(file)
    np.savez(tmp_path / "known.npz", **scene)
    np.savez(tmp_path / "blank.npz", **{**scene, "points3D_id_to_2D": np.full(3, None)})
    for name in ("known", "blank"):
        (tmp_path / f"{name}.txt").write_text(f"{name}\n")
    return tmp_path


def _reserving(folder, scenes, name, **changes):
    reserved = str(scenes / f"{name}.txt")
    return _config(folder, scenes=str(scenes), validation_scene_list=reserved, **changes)


def test_validation_takes_the_scenes_held_out(folder, two_scenes):
    def pairs(name):
        config = DataConfig(size=_SIZE, megadepth=_reserving(folder, two_scenes, name))
        return list(validation_pairs(config, 2, count=5, seed=0).as_numpy_iterator())

    batches = pairs("known")
    assert [len(batch["mask"]) for batch in batches] == [2, 2, 1]
    for batch, other in zip(batches, pairs("known"), strict=True):
        for name, value in batch.items():
            np.testing.assert_array_equal(value, other[name])
        for pair in ({n: v[i] for n, v in batch.items()} for i in range(len(batch["mask"]))):
            flow, _ = _expected_flow(*_sides(pair))
            valid = pair["mask"] > 0
            assert valid.sum() > 8 and not pair["unmatched"].any()
            np.testing.assert_allclose(pair["flow"][valid], flow[valid], atol=0.2)
    assert not any(batch["mask"].any() for batch in pairs("blank"))


def test_scenes_to_validate_on_are_not_trained_on(folder, two_scenes):
    for changes in ({}, {"scene_list": str(two_scenes / "blank.txt")}):
        config = _reserving(folder, two_scenes, "known", **changes)
        assert [path.stem for path in scene_files(config)] == ["blank"]
        assert [path.stem for path in scene_files(held_out(config))] == ["known"]
    both = _reserving(folder, two_scenes, "known", scene_list=str(two_scenes / "known.txt"))
    for use in (scene_files, held_out):
        with pytest.raises(InputError, match=r"to validate on than to train on\. Received: known"):
            use(both)


def test_validation_takes_fewer_pairs_of_a_scene(folder, two_scenes):
    changes = {"overlap": (0.15, 0.8), "validation_pairs_per_scene": 2}
    config = _reserving(folder, two_scenes, "known", **changes)
    assert len(MegaDepth(config, _SIZE, seed=0)) == 3
    assert len(MegaDepth(held_out(config), _SIZE, seed=0)) == 2


def test_file_of_another_format_is_refused(folder, tmp_path):
    np.savez(tmp_path / "a.npz", overlap_matrix=np.full([5, 5], 0.5))
    with pytest.raises(InputError, match=r"a\.npz is not a scene file .* no depth_paths"):
        MegaDepth(_config(folder, scenes=str(tmp_path)), _SIZE, seed=0)
    (tmp_path / "list.txt").write_text("a\nc\n")
    listed = _config(folder, scenes=str(tmp_path), scene_list=str(tmp_path / "list.txt"))
    with pytest.raises(InputError, match=r"no scene file .*c\.npz"):
        MegaDepth(listed, _SIZE, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overlap": (0.9, 1.0)}, "No pair of the 1 scenes overlaps"),
        ({"scenes": "elsewhere"}, r"No scene files \(\.npz\) of MegaDepth in .*elsewhere"),
        ({"scene_list": "missing.txt"}, r"no list of scenes missing\.txt"),
        ({"validation_scene_list": "gone.txt"}, r"no list of scenes gone\.txt"),
    ],
)
def test_what_is_wrong_is_named(folder, changes, message):
    with pytest.raises(InputError, match=message):
        MegaDepth(_config(folder, **changes), _SIZE, seed=0)


def test_unreadable_pairs_give_way(folder, tmp_path, caplog):
    """Of the third image there is no file."""
    with np.load(folder / "scene_info" / "0000.npz", allow_pickle=True) as file:
        scene = dict(file)
    scene["image_paths"][2] = None
    np.savez(tmp_path / "broken.npz", **scene)
    config = _config(folder, scenes=str(tmp_path), overlap=(0.25, 0.8), ground_truth="depth")
    dataset = MegaDepth(config, _SIZE, seed=0)
    assert len(dataset) == 2
    for pair in (dataset.load(number) for number in range(2)):
        flow, inside = _expected_flow(*_sides(pair))
        np.testing.assert_allclose(pair["flow"][inside], flow[inside], atol=1e-3)
    assert "Skipping a pair of" in caplog.text and "None" in caplog.text
    scene["image_paths"][0] = None
    np.savez(tmp_path / "broken.npz", **scene)
    with pytest.raises(InputError, match="None of the 2 pairs of MegaDepth can be read"):
        MegaDepth(config, _SIZE, seed=0)


def test_stream_mixes_and_resumes(folder):
    config = DataConfig(
        size=32,
        photometry=PhotometryConfig(probability=0.0),
        megadepth=_config(folder, ground_truth="depth"),
    )
    batches = list(training_pairs(config, 4, seed=3).take(6).as_numpy_iterator())
    resumed = list(training_pairs(config, 4, seed=3, start_step=4).take(2).as_numpy_iterator())
    for whole, later in zip(batches[4:], resumed, strict=True):
        for name, value in whole.items():
            np.testing.assert_array_equal(value, later[name])
    # One image of a real pair is camera 0's, black below.
    real = [
        not (source[-1].any() and target[-1].any())
        for batch in batches
        for source, target in zip(batch["source"], batch["target"], strict=True)
    ]
    assert 6 <= sum(real) <= 18
    assert len(set(real[:8])) == 2


def test_a_scene_file_that_calls_something_is_refused(folder, tmp_path):
    class Calls:
        def __reduce__(self):
            return open, (str(tmp_path / "called"), "w")

    with np.load(folder / "scene_info" / "0000.npz", allow_pickle=True) as file:
        scene = dict(file)
    scene["points3D_id_to_2D"] = np.array([Calls(), None, None], object)
    np.savez(tmp_path / "0000.npz", **scene)
    with pytest.raises(InputError, match=r"it would call .*open"):
        Scene(tmp_path / "0000.npz").view(0)
    assert not (tmp_path / "called").exists()
