"""Moving objects: motion, occlusion and shapes, worked out by brute force."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfdense.data.objects import (
    add_object,
    add_random_objects,
    file_cutouts,
    object_motion,
    photo_scene,
    random_shape,
    shape_cutouts,
    uncovered,
    unmatched,
    visible,
)
from tfdense.data.photos import ImageStore, cutout_decoder, photo_decoder
from tfdense.data_config import ObjectConfig
from tfdense.images import write_image
from tfdense.ops import warp

_SIZE = 40


def _box(height, width, grey):
    colour = tf.fill([height, width, 3], float(grey))
    return tf.concat([colour, tf.ones([height, width, 1])], axis=-1)


def _shift(x, y):
    return tf.constant([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def _still_photo():
    grey = tf.fill([_SIZE, _SIZE, 3], 10.0)
    return photo_scene(grey, grey, tf.zeros([_SIZE, _SIZE, 2]))


def _area(x, y, width, height):
    area = np.zeros([_SIZE, _SIZE], bool)
    area[y : y + height, x : x + width] = True
    return area


def _assert_warp_shows_target(scene, mask, tolerance=0.5):
    warped = warp.bilinear(scene.source[None], scene.flow[None])[0]
    error = np.abs(warped - scene.target).max(axis=-1)
    assert error[mask > 0].max() < tolerance


def test_moved_object_hides_the_photo_at_its_place_in_the_source():
    scene = add_object(_still_photo(), 1, _box(8, 10, 200), tf.constant([5.0, 4.0]), _shift(14, 3))
    mask = visible(scene).numpy()
    target, source = _area(5, 4, 10, 8), _area(19, 7, 10, 8)
    np.testing.assert_array_equal(scene.target[..., 0], np.where(target, 200, 10))
    np.testing.assert_array_equal(scene.source[..., 0], np.where(source, 200, 10))
    np.testing.assert_array_equal(mask, ~source)
    np.testing.assert_array_equal(scene.flow, np.where(target[..., None], [14, 3], 0))
    _assert_warp_shows_target(scene, mask)


def test_object_that_leaves_the_source_has_no_match():
    scene = add_object(_still_photo(), 1, _box(8, 8, 200), tf.constant([5.0, 4.0]), _shift(-30, 0))
    np.testing.assert_array_equal(visible(scene), ~_area(5, 4, 8, 8))


def test_photo_that_leaves_the_source_is_uncovered():
    """The photo moves 6 px, so that 6 columns have no match; the object hides what it lands on."""
    scene = _still_photo()._replace(flow=tf.fill([_SIZE, _SIZE, 2], 6.0))
    scene = add_object(scene, 1, _box(8, 8, 200), tf.constant([5.0, 4.0]), _shift(20, 10))
    out_of_view = np.ones([_SIZE, _SIZE], bool)
    out_of_view[:-6, :-6] = False
    hidden = _area(25 - 6, 14 - 6, 8, 8)
    np.testing.assert_array_equal(uncovered(scene), ~hidden)
    np.testing.assert_array_equal(visible(scene), ~hidden & ~out_of_view)


def test_object_that_leaves_the_source_is_not_uncovered():
    scene = add_object(_still_photo(), 1, _box(8, 8, 200), tf.constant([5.0, 4.0]), _shift(-30, 0))
    np.testing.assert_array_equal(uncovered(scene), ~_area(5, 4, 8, 8))


def test_objects_hide_each_other():
    """Apart in the target; in the source the second covers the right half of the first."""
    scene = add_object(_still_photo(), 1, _box(8, 8, 100), tf.constant([2.0, 2.0]), _shift(10, 10))
    scene = add_object(scene, 2, _box(8, 8, 200), tf.constant([26.0, 2.0]), _shift(-10, 10))
    mask = visible(scene).numpy()
    first, second = _area(2, 2, 8, 8), _area(26, 2, 8, 8)
    hidden = _area(6, 2, 4, 8)  # of the first object
    in_source = _area(12, 12, 8, 8) | _area(16, 12, 8, 8)
    np.testing.assert_array_equal(scene.source[12:20, 12:24, 0], [[100] * 4 + [200] * 8] * 8)
    np.testing.assert_array_equal(mask, ~(hidden | in_source) & (~first | ~hidden | second))
    _assert_warp_shows_target(scene, mask)


def test_unmatched_is_what_is_hidden_or_outside():
    """An object lands on the photo; another one leaves the source."""
    scene = add_object(_still_photo(), 1, _box(8, 10, 200), tf.constant([5.0, 4.0]), _shift(14, 3))
    scene = add_object(scene, 2, _box(6, 6, 90), tf.constant([30.0, 30.0]), _shift(20, 0))
    np.testing.assert_array_equal(unmatched(scene), _area(19, 7, 10, 8) | _area(30, 30, 6, 6))


def test_mixed_pixels_are_not_held_to_be_unmatched():
    scene = add_object(_still_photo(), 1, _box(8, 8, 200), tf.constant([5.5, 4.5]), _shift(0, 0))
    assert not unmatched(scene).numpy().any()
    assert not visible(scene).numpy().all()


def test_object_in_front_in_the_target_too():
    """The second covers the first in the target and not in the source, where both hide photo."""
    scene = add_object(_still_photo(), 1, _box(8, 8, 100), tf.constant([4.0, 4.0]), _shift(0, 0))
    scene = add_object(scene, 2, _box(4, 4, 200), tf.constant([6.0, 6.0]), _shift(20, 20))
    mask = visible(scene).numpy()
    np.testing.assert_array_equal(scene.flow[6:10, 6:10], np.full([4, 4, 2], 20))
    np.testing.assert_array_equal(mask, ~_area(26, 26, 4, 4))
    _assert_warp_shows_target(scene, mask)


def test_mixed_pixels_are_left_out():
    cutout = tf.concat([_box(8, 8, 200)[..., :3] * 0.5, tf.fill([8, 8, 1], 0.5)], axis=-1)
    scene = add_object(_still_photo(), 1, cutout, tf.constant([5.0, 4.0]), _shift(20, 0))
    np.testing.assert_array_equal(visible(scene), ~(_area(5, 4, 8, 8) | _area(25, 4, 8, 8)))


def test_turned_and_enlarged_object_obeys_the_warp():
    generator = np.random.default_rng(0)
    texture = cv2.GaussianBlur(generator.uniform(0, 255, [16, 20, 3]), (0, 0), 3)
    cutout = np.concatenate([texture, np.ones([16, 20, 1])], axis=-1).astype(np.float32)
    motion = object_motion(tf.constant([3.0, -2.0]), 0.4, 0.2, _SIZE, _SIZE)
    scene = add_object(_still_photo(), 1, tf.constant(cutout), tf.constant([9.0, 11.0]), motion)
    mask = visible(scene).numpy()
    inside = mask[12:26, 10:28]
    assert inside.mean() > 0.9
    position = (motion @ [[20.0], [20], [1]])[:2, 0]
    np.testing.assert_allclose(scene.flow[20, 20], position - 20.0, atol=1e-4)
    _assert_warp_shows_target(scene, mask, tolerance=5.0)


def test_random_shapes_are_connected_and_of_many_areas():
    shapes = [random_shape(tf.constant([0, i]), 33).numpy() for i in range(30)]
    areas = [np.mean(shape > 0.5) for shape in shapes]
    assert min(areas) > 0.08 and max(areas) < 0.8 and max(areas) > 1.5 * min(areas)
    for shape in shapes:
        assert shape.min() == 0 and shape.max() == 1
        assert cv2.connectedComponents((shape > 0.5).astype(np.uint8))[0] <= 3


def test_file_cutouts_keep_aspect_and_alpha(tmp_path):
    image = np.zeros([60, 90, 4], np.uint8)
    image[10:50, 5:85] = (30, 60, 90, 255)  # BGR and alpha
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "b.png"), image.astype(np.uint16) * 257)
    store = ImageStore(sorted(tmp_path.iterdir()), cutout_decoder(40), channels=4)
    for seed in range(4):
        cutout = file_cutouts(store)(tf.constant([seed, 0]), tf.constant(20)).numpy()
        assert cutout.shape == (10, 20, 4)
        np.testing.assert_allclose(cutout[5, 10], [90, 60, 30, 1], atol=0.51)


def test_opaque_and_empty_files_are_no_cutouts(tmp_path, caplog):
    write_image(tmp_path / "opaque.png", np.zeros([40, 40, 3], np.uint8))
    cv2.imwrite(str(tmp_path / "empty.png"), np.zeros([40, 40, 4], np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    cutout = np.full([40, 40, 4], 255, np.uint8)
    cv2.imwrite(str(tmp_path / "z.png"), cutout)
    store = ImageStore(sorted(tmp_path.iterdir()), cutout_decoder(64), channels=4)
    for index in range(4):
        np.testing.assert_array_equal(store.load(index), cutout)
    assert [record.message.count("Skipping") for record in caplog.records] == [1, 1, 1]


def test_number_of_objects():
    config = ObjectConfig(probability=0.6, count=(2, 3), size=(0.3, 0.5))
    draw = tf.function(
        lambda seed: (
            add_random_objects(
                _still_photo(), seed, config, lambda seed, length: _box(length, length, 200)
            ).target_layer
        )
    )
    foremost = np.array([draw(tf.constant([0, i])).numpy().max() for i in range(60)])
    assert set(foremost) == {0, 2, 3}
    assert 0.4 < np.mean(foremost > 0) < 0.8


def test_shapes_are_cut_from_photos(tmp_path):
    write_image(tmp_path / "small.png", np.full([34, 50, 3], (250, 120, 60), np.uint8))
    store = ImageStore([tmp_path / "small.png"], photo_decoder(64), channels=3)
    for seed in range(4):
        cutout = shape_cutouts(store)(tf.constant([seed, 0]), tf.constant(48)).numpy()
        assert cutout.shape == (34, 34, 4)
        expected = cutout[..., 3:] * [250, 120, 60]
        np.testing.assert_allclose(cutout[..., :3], expected, atol=1e-3)


@pytest.mark.reference
def test_motion_of_the_original(reference):
    data = np.load(reference / "ops" / "object_affine.npz")
    height, width = (int(side) for side in data["image_hw"])
    for row, matrix in enumerate(data["matrix"]):
        shift = tf.constant([data["tx"][row], data["ty"][row]], tf.float32)
        angle = np.float32(np.radians(data["theta_deg"][row]))
        log_scale = np.float32(np.log(data["scale"][row]))
        motion = object_motion(shift, angle, log_scale, height, width)
        np.testing.assert_allclose(motion, matrix, atol=1e-4)
