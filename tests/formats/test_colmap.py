"""COLMAP's database, as pycolmap reads it."""

import dataclasses
import itertools
import sqlite3

import numpy as np
import pytest

from tfdense import formats
from tfdense.errors import InputError, OutputError

pycolmap = pytest.importorskip("pycolmap")

_PAIRS = [*itertools.combinations(range(4), 2)]


def _names(*numbers):
    return [f"{number}.jpg" for number in numbers]


def _write(folder, views, pairs, noise=0.0, both_ways=False, **options):
    with formats.open("colmap", folder, points=1000, **options) as writer:
        for pair in pairs:
            writer.add(*_names(*pair), views.match(*pair, noise, both_ways))
    return folder / "database.db"


def _read(path):
    """Returns the database, and the numbers of its images by name."""
    database = pycolmap.Database.open(path)
    return database, {image.name: image.image_id for image in database.read_all_images()}


def _angle(cosine):
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _pose_errors(views, model):
    """Returns by how many degrees the turn and the direction to each other view miss the true."""
    poses = {image.name: image.cam_from_world() for image in model.images.values()}
    errors = []
    for first, second in _PAIRS:
        found = poses[f"{second}.jpg"] * poses[f"{first}.jpg"].inverse()
        rotation = views.rotations[second] @ views.rotations[first].T
        translation = views.rotations[second] @ (views.centres[first] - views.centres[second])
        turn = (np.trace(found.rotation.matrix() @ rotation.T) - 1) / 2
        lengths = np.linalg.norm(translation) * np.linalg.norm(found.translation)
        errors.append((_angle(turn), _angle(found.translation @ translation / lengths)))
    return np.array(errors)


@pytest.mark.parametrize("known", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_model_from_it(views, tmp_path, known):
    cameras = dict.fromkeys(_names(*range(4)), views.camera) if known else None
    path = _write(tmp_path, views, _PAIRS, 0.2, True, cameras=cameras, one_camera=True)
    options = pycolmap.IncrementalPipelineOptions(num_threads=2, extract_colors=False)
    (model,) = pycolmap.incremental_mapping(path, tmp_path, tmp_path / "model", options).values()
    assert model.num_reg_images() == 4
    # Points are seen by more views than the two of a pair.
    assert model.num_points3D() > 1000 and model.compute_mean_track_length() > 3
    assert model.compute_mean_reprojection_error() < 0.35
    assert (_pose_errors(views, model).max(axis=0) < [0.3, 2.5]).all()
    focal = {camera.params[0] for camera in model.cameras.values()}
    assert all(abs(length / 140 - 1) < 0.02 for length in focal)
    assert len(focal) == (4 if known else 1)


def test_places_and_numbers(views, tmp_path):
    match = views.match(0, 1)
    database, ids = _read(_write(tmp_path, views, [(0, 1)]))
    first, second = (database.read_keypoints(ids[name]) - 0.5 for name in _names(0, 1))
    pairs = database.read_matches(ids["0.jpg"], ids["1.jpg"])
    assert len(pairs) > 500
    found = {tuple(second[j]): first[i] for i, j in pairs}
    assert len(found) == len(pairs)
    for (x, y), place in found.items():
        np.testing.assert_allclose(place, match.flow[int(y), int(x)] + [x, y], atol=1e-4)
        assert match.confidence[int(y), int(x)] >= 0.1
    geometry = database.read_two_view_geometry(ids["0.jpg"], ids["1.jpg"])
    assert geometry.config == pycolmap.TwoViewGeometryConfiguration.UNCALIBRATED
    assert len(geometry.inlier_matches) > 0.98 * len(pairs)
    i, j = geometry.inlier_matches.T
    rays = [
        np.column_stack([points + 0.5, np.ones(len(points))]) for points in (first[i], second[j])
    ]
    lines = rays[0] @ geometry.F.T
    away = np.abs((rays[1] * lines).sum(axis=-1)) / np.linalg.norm(lines[:, :2], axis=-1)
    assert away.max() < 0.1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_calibrated_geometry_in_either_order(views, tmp_path, order):
    cameras = dict.fromkeys(_names(*range(4)), views.camera)
    # The second pair's images have been numbered by the first.
    path = _write(tmp_path, views, [(0, 2), (2, 1), order], cameras=cameras)
    database, ids = _read(path)
    geometry = database.read_two_view_geometry(ids["0.jpg"], ids["1.jpg"])
    assert geometry.config == pycolmap.TwoViewGeometryConfiguration.CALIBRATED
    first, second = sorted((0, 1), key=lambda number: ids[f"{number}.jpg"])
    rotation = views.rotations[second] @ views.rotations[first].T
    translation = views.rotations[second] @ (views.centres[first] - views.centres[second])
    found = geometry.cam2_from_cam1
    np.testing.assert_allclose(found.rotation.matrix(), rotation, atol=1e-3)
    np.testing.assert_allclose(
        found.translation, translation / np.linalg.norm(translation), atol=1e-2
    )
    camera = next(iter(database.read_all_cameras()))
    assert camera.model_name == "PINHOLE" and camera.has_prior_focal_length
    np.testing.assert_allclose(camera.params, [140, 140, 64, 48])


def test_a_plane_is_known_as_one(views, tmp_path):
    with formats.open("colmap", tmp_path, points=1000) as writer:
        writer.add("a", "b", views.match(0, 0))
    database, ids = _read(tmp_path / "database.db")
    geometry = database.read_two_view_geometry(ids["a"], ids["b"])
    assert geometry.config == pycolmap.TwoViewGeometryConfiguration.PLANAR_OR_PANORAMIC
    np.testing.assert_allclose(geometry.H, np.eye(3), atol=1e-3)


def test_a_writer_opened_again_goes_on(views, tmp_path):
    once = _write(tmp_path / "once", views, _PAIRS)
    for pair in _PAIRS:
        again = _write(tmp_path / "again", views, [pair])
    for table in ("cameras", "images", "keypoints", "matches", "two_view_geometries"):
        rows = [
            sqlite3.connect(path).execute(f"SELECT * FROM {table}").fetchall()
            for path in (once, again)
        ]
        assert rows[0] == rows[1] and rows[0], table


def test_what_it_has(views, tmp_path):
    _write(tmp_path, views, [(0, 1)])
    with formats.open("colmap", tmp_path) as writer:
        assert writer.has("0.jpg", "1.jpg") and writer.has("1.jpg", "0.jpg")
        assert not writer.has("0.jpg", "2.jpg")
        with pytest.raises(InputError, match=r"holds 1\.jpg, 0\.jpg already"):
            writer.add("1.jpg", "0.jpg", views.match(1, 0))


def test_what_fails_leaves_nothing(views, tmp_path):
    path = _write(tmp_path, views, [(0, 1)])
    before = path.read_bytes()
    match = views.match(2, 1)
    with formats.open("colmap", tmp_path) as writer:
        larger = dataclasses.replace(match, source=np.zeros((99, 128, 3), np.uint8))
        with pytest.raises(InputError, match=r"Expected 0\.jpg to have 128x96 px, as before"):
            writer.add("0.jpg", "3.jpg", larger)
        assert path.read_bytes() == before
        writer.add("2.jpg", "1.jpg", match)
    assert _read(path)[1].keys() == {"0.jpg", "1.jpg", "2.jpg"}


def test_no_match_at_all(views, tmp_path):
    _write(tmp_path, views, [(0, 1)], threshold=0.9)
    database, ids = _read(tmp_path / "database.db")
    assert database.num_images() == 2 and not len(database.read_matches(*ids.values()))
    geometry = database.read_two_view_geometry(*ids.values())
    assert geometry.config == pycolmap.TwoViewGeometryConfiguration.DEGENERATE


def test_other_files_are_refused(views, tmp_path):
    (tmp_path / "database.db").write_bytes(b"no database of anything" * 100)
    with pytest.raises(OutputError, match=r"Cannot write to .*database.db: .*not a database"):
        formats.open("colmap", tmp_path)
    _write(tmp_path / "own", views, [(0, 1)])
    pycolmap.Database.open(tmp_path / "own" / "database.db").close()
    with pytest.raises(InputError, match="was opened by COLMAP"):
        formats.open("colmap", tmp_path / "own")


@pytest.mark.parametrize("matrix", [np.eye(2), [[140, 1, 60], [0, 140, 40], [0, 0, 1]]])
def test_cameras_that_are_none(tmp_path, matrix):
    with pytest.raises(InputError, match=r"the camera of a\.jpg"):
        formats.open("colmap", tmp_path, cameras={"a.jpg": matrix})
