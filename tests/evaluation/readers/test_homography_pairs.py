"""Pairs with a homography, each from a tiny made-up copy of the layout."""

import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation.datasets import find_pairs, read_pairs
from tfdense.images import read_image, write_image


def test_stored_homography(tmp_path, write_images):
    write_images(tmp_path / "b", ["source.png", "target.png"])
    (tmp_path / "b" / "H_target_to_source.txt").write_text("1 0 5\n0 1 0\n0 0 1\n")
    (pair,) = read_pairs("homography", tmp_path)
    assert pair.name == "b"
    assert (pair.source.mean(), pair.target.mean()) == (10, 20)
    assert len(pair.points) == 18 * (24 - 5)
    np.testing.assert_allclose(pair.true_flow.mean(axis=0), [5, 0])


@pytest.fixture
def hpatches(tmp_path, write_images):
    scene = tmp_path / "v_wall"
    write_images(scene, [f"{k}.ppm" for k in range(1, 7)], height=40, width=80)
    write_image(scene / "4.ppm", np.full((30, 60, 3), 40, np.uint8))
    for k in range(2, 7):
        (scene / f"H_1_{k}").write_text("1 0 20\n0 1 0\n0 0 1")
    write_images(tmp_path / "i_light", ["1.ppm"])  # no change of viewpoint: not part of it
    return tmp_path


def test_hpatches(hpatches):
    pairs = list(read_pairs("hpatches", hpatches))
    assert [pair.name for pair in pairs] == [f"v_wall-{k}" for k in range(2, 7)]
    assert (pairs[1].source.mean(), pairs[1].target.mean()) == (10, 30)
    # Image 1 moves right by 20 px, so that image k finds its content 20 px further left.
    np.testing.assert_allclose(pairs[0].true_flow.mean(axis=0), [-20, 0], atol=1e-9)
    # The fourth is 30x60: the source is resized to that, by 0.75.
    assert pairs[2].source.shape == pairs[2].target.shape == (30, 60, 3)
    last = pairs[2].points.tolist().index([59, 1])
    expected = np.array([59 - 20, 1]) * 0.75 - 0.125 - [59, 1]
    np.testing.assert_allclose(pairs[2].true_flow[last], expected)


def test_hpatches_240(hpatches):
    pair = next(read_pairs("hpatches-240", hpatches))
    assert pair.source.shape == pair.target.shape == (240, 240, 3)
    np.testing.assert_allclose(pair.true_flow, np.broadcast_to([-60.0, 0], pair.points.shape))
    assert len(pair.points) == 240 * 180


@pytest.mark.parametrize("name", ["H_1_{}", "H_1_{}.txt", "H1to{}p", "H1to{}p.txt", "H_1_{}.TXT"])
@pytest.mark.parametrize("suffix", [".ppm", ".png", ".JPG"])
def test_hpatches_as_users_have_it(hpatches, name, suffix):
    scene = hpatches / "v_wall"
    for k in range(2, 7):
        content = (scene / f"H_1_{k}").read_bytes()
        (scene / f"H_1_{k}").unlink()
        # As an editor of Windows saves it.
        (scene / name.format(k)).write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    for k in range(1, 7):
        image = read_image(scene / f"{k}.ppm")
        (scene / f"{k}.ppm").unlink()
        write_image(scene / f"{k}{suffix}", image)
    pairs = list(read_pairs("hpatches", hpatches))
    assert [pair.name for pair in pairs] == [f"v_wall-{k}" for k in range(2, 7)]
    np.testing.assert_allclose(pairs[0].true_flow.mean(axis=0), [-20, 0], atol=1e-9)


def test_a_missing_image_of_a_scene_costs_one_pair(hpatches):
    (hpatches / "v_wall" / "3.ppm").unlink()
    (hpatches / "v_wall" / "H_1_5").unlink()
    missing = []
    for pair in find_pairs("hpatches", hpatches):
        try:
            pair.read()
        except InputError as error:
            missing.append(str(error))
    assert len(missing) == 2
    assert "no image file" in missing[0] and "3.ppm" in missing[0]
    assert "H_1_5" in missing[1]


def test_broken_files_are_named(tmp_path, write_images):
    write_images(tmp_path / "a", ["source.png", "target.png"])
    homography = tmp_path / "a" / "H_target_to_source.txt"
    homography.write_text("1 0 0\n0 1 0\n0 0 1\n")
    (tmp_path / "a" / "source.png").unlink()
    with pytest.raises(InputError, match=r"no image file .*source\.jpg"):
        next(read_pairs("homography", tmp_path))
