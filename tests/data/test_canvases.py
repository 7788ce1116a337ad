"""Canvases: what is cut out of photos and put on them, repeatably."""

import cv2
import numpy as np
import pytest

from tfdense.data.canvases import (
    MARGIN,
    Canvases,
    canvas_side,
    cutout_side,
    pair_seed,
    random_shape,
    square,
)
from tfdense.data.photos import ImageStore, cutout_decoder
from tfdense.data_config import DataConfig, ObjectConfig
from tfdense.images import write_image


def _photo(folder, height=60, width=90):
    path = folder / "photo.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, [height, width, 3], np.uint8))
    return path


def test_sizes_are_multiples_of_four_and_large_enough():
    for size in (32, 50, 256, 448):
        config = DataConfig(size=size, objects=ObjectConfig(size=(0.1, 0.8)))
        for side, least in ((canvas_side(config), 1.5 * size),
                            (cutout_side(config), 0.8 * size + 2 * MARGIN)):  # fmt: skip
            assert side % 4 == 0 and least <= side < least + 4


def test_squares_move_over_the_photo():
    image = np.arange(30, dtype=np.uint8)[None, :, None].repeat(10, axis=0).repeat(3, axis=2)
    np.testing.assert_array_equal(square(image, (0.5, 0.0), 10), image[:, :10])
    np.testing.assert_array_equal(square(image, (0.5, 0.999), 10), image[:, 20:])
    assert square(image, (0.5, 0.5), 24).shape == (24, 24, 3)
    upright = square(image.transpose(1, 0, 2), (0.999, 0.5), 10)
    np.testing.assert_array_equal(upright, image[:, 20:].transpose(1, 0, 2))


def test_canvases_depend_on_photo_and_seed_alone(tmp_path):
    path = _photo(tmp_path)
    config = DataConfig(size=32)
    first, again = (Canvases([path], config) for _ in range(2))
    seeds = [pair_seed(3, 0, number) for number in range(4)]
    expected = [first.load(0, seed) for seed in seeds]
    for seed, (canvas, cutouts) in reversed([*zip(seeds, expected, strict=True)]):
        repeated = again.load(0, seed)
        np.testing.assert_array_equal(repeated[0], canvas)
        np.testing.assert_array_equal(repeated[1], cutouts)
    assert canvas.shape == (48, 48, 3) and cutouts.shape == (3, 24, 24, 4)
    assert len({canvas.tobytes() for canvas, _ in expected}) > 1
    assert len({cutouts.tobytes() for _, cutouts in expected}) == 4


def test_without_objects_there_are_no_cutouts(tmp_path):
    config = DataConfig(size=32, objects=ObjectConfig(probability=0.0))
    assert Canvases([_photo(tmp_path)], config).load(0, pair_seed(0, 0, 0))[1].shape[0] == 0


def test_seeds_of_pairs_differ():
    seeds = {tuple(pair_seed(seed, stream, i)) for seed in (0, -1) for stream in (0, 1)
             for i in range(500)}  # fmt: skip
    assert len(seeds) == 2000


def test_shapes_are_cut_from_photos(tmp_path):
    write_image(tmp_path / "small.png", np.full([34, 50, 3], (250, 120, 60), np.uint8))
    config = DataConfig(size=100)
    canvases = Canvases([tmp_path / "small.png"], config)
    for number in range(3):
        for cutout in canvases.load(0, pair_seed(0, 0, number))[1]:
            expected = cutout[..., 3:] / 255.0 * [250, 120, 60]
            np.testing.assert_allclose(cutout[..., :3], expected, atol=1.01)
            assert not np.delete(cutout, np.s_[MARGIN:-MARGIN], axis=0).any()
            assert not np.delete(cutout, np.s_[MARGIN:-MARGIN], axis=1).any()
            assert cutout[..., 3].max() == 255


def test_random_shapes_are_connected_and_of_many_areas():
    shapes = [random_shape(np.random.default_rng(i), 65) for i in range(40)]
    areas = [np.mean(shape > 127) for shape in shapes]
    assert min(areas) > 0.08 and max(areas) < 0.85 and max(areas) > 1.5 * min(areas)
    for shape in shapes:
        assert shape.min() == 0 and shape.max() == 255
        assert cv2.connectedComponents((shape > 127).astype(np.uint8))[0] <= 3


def test_file_cutouts_keep_aspect_and_alpha(tmp_path):
    image = np.zeros([60, 90, 4], np.uint8)
    image[10:50, 5:85] = (30, 60, 90, 255)  # BGR and alpha
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "b.png"), image.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "c.png"), cv2.resize(image, (30, 20)))
    store = ImageStore(sorted(tmp_path.iterdir()), cutout_decoder(48, MARGIN))
    for index in range(3):
        cutout = store.load(index)
        assert cutout.shape == (48, 48, 4)
        rows, columns = (np.flatnonzero(cutout[..., 3].max(axis=axis) > 127) for axis in (1, 0))
        assert (columns[0], columns[-1]) == (MARGIN, 47 - MARGIN)
        assert abs(len(rows) - 20) <= 4 and abs(rows[0] - 14) <= 2
        np.testing.assert_allclose(cutout[24, 24], [90, 60, 30, 255], atol=1)


@pytest.mark.parametrize("name", ["opaque", "empty", "broken"])
def test_opaque_and_empty_files_are_no_cutouts(tmp_path, caplog, name):
    cv2.imwrite(str(tmp_path / "z.png"), np.full([40, 40, 4], 255, np.uint8))
    path = tmp_path / f"{name}.png"
    if name == "opaque":
        write_image(path, np.zeros([40, 40, 3], np.uint8))
    elif name == "empty":
        cv2.imwrite(str(path), np.zeros([40, 40, 4], np.uint8))
    else:
        path.write_bytes(b"\x89PNG")
    store = ImageStore(sorted(tmp_path.iterdir()), cutout_decoder(48, MARGIN))
    for index in range(2):
        assert (store.load(index)[MARGIN:-MARGIN, MARGIN:-MARGIN] == 255).all()
    assert [record.message.count(f"Skipping {path}") for record in caplog.records] == [1]
