"""What objects hide and where matches are, worked out by brute force."""

import cv2
import numpy as np
import tensorflow as tf

from tfdense.data.masks import uncovered, unmatched, visible
from tfdense.data.matrices import affine
from tfdense.data.objects import Objects, object_motion
from tfdense.data.surfaces import Scene, add_objects
from tfdense.ops import warping

_SIZE = 40
_CANVAS = 32  # of a cut-out, which stands in its middle


def _box(height, width, grey, alpha=255):
    colour = np.full([height, width, 3], grey * alpha / 255)
    return np.dstack([colour, np.full([height, width], alpha)]).astype(np.uint8)


def _shift(x, y):
    return affine(tf.eye(2), tf.constant([float(x), float(y)]))


def _scene(*objects, shift=0.0):
    """A dark photo, moved by `shift`, and objects (cut-out, place in the target, motion)."""
    plane = tf.fill([1, 3, _SIZE, _SIZE], 10.0)
    layer = tf.zeros([1, _SIZE, _SIZE], tf.int32)
    scene = Scene(plane, plane, tf.fill([1, _SIZE, _SIZE, 2], shift), layer, layer)
    canvases, to_cutout, motions = [], [], []
    for cutout, place, motion in objects:
        height, width = cutout.shape[:2]
        top, left = (_CANVAS - height) // 2, (_CANVAS - width) // 2
        canvases.append(np.zeros([_CANVAS, _CANVAS, 4], np.uint8))
        canvases[-1][top : top + height, left : left + width] = cutout
        to_cutout.append(_shift(left - place[0], top - place[1]))
        motions.append(motion)
    if not objects:
        return scene
    present = tf.ones([1, len(objects)], tf.bool)
    placed = Objects(tf.stack(to_cutout)[None], tf.stack(motions)[None], present)
    return add_objects(scene, tf.constant(np.stack(canvases))[None], placed)


def _mask(function, scene):
    return function(scene.flow, scene.source_layer, scene.target_layer)[0].numpy()


def _area(x, y, width, height):
    area = np.zeros([_SIZE, _SIZE], bool)
    area[y : y + height, x : x + width] = True
    return area


def _assert_warp_shows_target(scene, tolerance=0.5):
    source, target = (np.transpose(image, [0, 2, 3, 1]) for image in scene[:2])
    warped = warping.bilinear(tf.constant(source), scene.flow)
    error = np.abs(warped - target).max(axis=-1)[0]
    assert error[_mask(visible, scene) > 0].max() < tolerance


def test_moved_object_hides_the_photo_at_its_place_in_the_source():
    scene = _scene((_box(8, 10, 200), (5, 4), _shift(14, 3)))
    target, source = _area(5, 4, 10, 8), _area(19, 7, 10, 8)
    np.testing.assert_allclose(scene.target[0, 0], np.where(target, 200, 10), atol=1e-3)
    np.testing.assert_allclose(scene.source[0, 0], np.where(source, 200, 10), atol=1e-3)
    np.testing.assert_array_equal(_mask(visible, scene), ~source)
    np.testing.assert_array_equal(scene.flow[0], np.where(target[..., None], [14, 3], 0))
    _assert_warp_shows_target(scene)


def test_object_that_leaves_the_source_has_no_match():
    scene = _scene((_box(8, 8, 200), (5, 4), _shift(-30, 0)))
    np.testing.assert_array_equal(_mask(visible, scene), ~_area(5, 4, 8, 8))
    np.testing.assert_array_equal(_mask(uncovered, scene), ~_area(5, 4, 8, 8))


def test_photo_that_leaves_the_source_is_uncovered():
    """The photo moves 6 px, so that 6 columns have no match; the object hides what it lands on."""
    scene = _scene((_box(8, 8, 200), (5, 4), _shift(20, 10)), shift=6.0)
    out_of_view = np.ones([_SIZE, _SIZE], bool)
    out_of_view[:-6, :-6] = False
    hidden = _area(25 - 6, 14 - 6, 8, 8)
    np.testing.assert_array_equal(_mask(uncovered, scene), ~hidden)
    np.testing.assert_array_equal(_mask(visible, scene), ~hidden & ~out_of_view)


def test_objects_hide_each_other():
    """Apart in the target; in the source the second covers the right half of the first."""
    first = (_box(8, 8, 100), (2, 2), _shift(10, 10))
    second = (_box(8, 8, 200), (26, 2), _shift(-10, 10))
    scene = _scene(first, second)
    hidden = _area(6, 2, 4, 8)  # of the first object
    in_source = _area(12, 12, 8, 8) | _area(16, 12, 8, 8)
    expected = [[100] * 4 + [200] * 8] * 8
    np.testing.assert_allclose(scene.source[0, 0, 12:20, 12:24], expected, atol=1e-3)
    np.testing.assert_array_equal(_mask(visible, scene), ~(hidden | in_source))
    _assert_warp_shows_target(scene)


def test_unmatched_is_what_is_hidden_or_outside():
    """An object lands on the photo; another one leaves the source."""
    first = (_box(8, 10, 200), (5, 4), _shift(14, 3))
    second = (_box(6, 6, 90), (30, 30), _shift(20, 0))
    expected = _area(19, 7, 10, 8) | _area(30, 30, 6, 6)
    np.testing.assert_array_equal(_mask(unmatched, _scene(first, second)), expected)


def test_mixed_pixels_are_not_held_to_be_unmatched():
    scene = _scene((_box(8, 8, 200), (5.5, 4.5), _shift(0, 0)))
    assert not _mask(unmatched, scene).any()
    assert not _mask(visible, scene).all()


def test_object_in_front_in_the_target_too():
    """The second covers the first in the target and not in the source, where both hide photo."""
    first = (_box(8, 8, 100), (4, 4), _shift(0, 0))
    scene = _scene(first, (_box(4, 4, 200), (6, 6), _shift(20, 20)))
    np.testing.assert_array_equal(scene.flow[0, 6:10, 6:10], np.full([4, 4, 2], 20))
    np.testing.assert_array_equal(_mask(visible, scene), ~_area(26, 26, 4, 4))
    _assert_warp_shows_target(scene)


def test_mixed_pixels_are_left_out():
    scene = _scene((_box(8, 8, 200, alpha=128), (5, 4), _shift(20, 0)))
    expected = ~(_area(5, 4, 8, 8) | _area(25, 4, 8, 8))
    np.testing.assert_array_equal(_mask(visible, scene), expected)


def test_absent_objects_change_nothing():
    plane, layer = tf.fill([1, 3, 16, 16], 10.0), tf.zeros([1, 16, 16], tf.int32)
    scene = Scene(plane, plane, tf.zeros([1, 16, 16, 2]), layer, layer)
    matrices = tf.eye(3, batch_shape=[1, 2])
    cutouts = tf.fill([1, 2, 16, 16, 4], tf.constant(255, tf.uint8))
    for present, foremost in (((False, False), 0), ((True, False), 1), ((True, True), 2)):
        objects = Objects(matrices, matrices, tf.constant([present]))
        assert np.all(add_objects(scene, cutouts, objects).target_layer == foremost)


def test_turned_and_enlarged_object_obeys_the_warp():
    generator = np.random.default_rng(0)
    texture = cv2.GaussianBlur(generator.uniform(0, 255, [16, 20, 3]), (0, 0), 3)
    cutout = np.dstack([texture, np.full([16, 20], 255)]).astype(np.uint8)
    motion = object_motion(tf.constant([3.0, -2.0]), 0.4, 0.2, _SIZE, _SIZE)
    scene = _scene((cutout, (9, 11), motion))
    assert _mask(visible, scene)[12:26, 10:28].mean() > 0.9
    position = (motion @ [[20.0], [20], [1]])[:2, 0]
    np.testing.assert_allclose(scene.flow[0, 20, 20], position - 20.0, atol=1e-4)
    _assert_warp_shows_target(scene, tolerance=5.0)
