"""Pairs with a homography, each from a tiny made-up copy of the layout."""

import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.evaluation.readers import read_pairs
from tfdense.images import write_image


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


def test_broken_files_are_named(tmp_path, write_images):
    write_images(tmp_path / "a", ["source.png", "target.png"])
    homography = tmp_path / "a" / "H_target_to_source.txt"
    homography.write_text("1 0 0\n0 1 0\n0 0 1\n")
    (tmp_path / "a" / "source.png").unlink()
    with pytest.raises(InputError, match=r"no image file .*source\.jpg"):
        next(read_pairs("homography", tmp_path))
