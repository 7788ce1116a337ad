"""Values of arrays: what is clipped, what is refused, and how more than 8 bits become 8."""

import cv2
import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.pixels import stretch, to_bytes, to_rgb


@pytest.fixture
def photo():
    """All grey levels, and no two channels alike."""
    y, x = np.mgrid[:64, :96]
    return np.stack([x * 255 // 95, y * 255 // 63, 255 - (x + y) * 255 // 158], -1).astype(np.uint8)


@pytest.mark.parametrize(
    "deeper",
    [
        lambda photo: photo.astype(np.uint16) * 257,
        lambda photo: photo.astype(">u2") * 256 + 17,
        lambda photo: photo.astype(np.int32) * 257,
        lambda photo: photo.astype(np.uint32) * (2**24 + 2**16 + 2**8 + 1),
        lambda photo: photo / 255,
        lambda photo: photo.astype(np.float32) / 255,
        lambda photo: photo.astype(np.float32),
        lambda photo: photo * 257.0,
    ],
)
def test_a_photo_of_the_full_range_becomes_what_it_is_in_8_bits(photo, deeper):
    np.testing.assert_array_equal(stretch(deeper(photo)), photo)


def test_integers_of_8_bits_stay():
    for dtype in (np.uint16, np.int16, np.int32):
        image = np.array([[40, 41], [42, 43]], dtype)
        np.testing.assert_array_equal(stretch(image), image)


def test_little_content_is_stretched_as_by_hand(photo):
    grey = photo[..., 2]
    for counts in (51500 + grey.astype(np.uint16), grey * 0.01 - 20, grey.astype(np.int16) - 300):
        result = stretch(counts).astype(int)
        # The content is without the darkest and brightest 0.5 % of the pixels.
        low, high = np.quantile(grey, [0.005, 0.995], method="inverted_cdf").astype(float)
        by_hand = np.clip((grey - low) / (high - low) * 255, 0, 255)
        assert np.abs(result - by_hand).max() <= 2
        assert len(np.unique(result)) > 0.9 * len(np.unique(grey))


def test_few_hot_pixels_do_not_make_the_rest_dark(photo):
    counts = 21000 + photo.astype(np.uint16)
    expected = stretch(counts)
    counts[3, 4], counts[5, 6] = 65535, 0
    assert np.abs(stretch(counts).astype(int) - expected)[7:].max() <= 1


def test_similar_images_are_stretched_alike(photo):
    """Between the content and the whole range nothing jumps."""
    former = None
    for gain in np.geomspace(10, 257, 400):
        result = stretch(np.uint16(photo * gain)).astype(int)
        if former is not None:
            assert np.abs(result - former).max() <= 6
        former = result
    np.testing.assert_array_equal(result, photo)


def test_only_what_is_used_decides(photo):
    counts = 30000 + photo.astype(np.uint16)
    used = np.ones(photo.shape[:2], bool)
    used[:, :30] = False
    expected = stretch(counts, used)
    counts[:, :30] = 0
    np.testing.assert_array_equal(stretch(counts, used)[:, 30:], expected[:, 30:])
    assert not stretch(counts, np.zeros_like(used)).any()


def test_constant_images_are_taken():
    for value in (0, 777, 65535):
        assert len(np.unique(stretch(np.full((4, 5), value, np.uint16)))) == 1
    for value in (-7.5, 0.0, 0.25, 3e8):
        assert len(np.unique(stretch(np.full((4, 5), value)))) == 1


def test_what_resizing_adds_is_clipped():
    square = np.pad(np.full((40, 40), 255, np.float32), 30)
    for interpolation in (cv2.INTER_CUBIC, cv2.INTER_LANCZOS4):
        resized = cv2.resize(square, (250, 250), interpolation=interpolation)
        assert resized.min() < -3 and resized.max() > 258
        np.testing.assert_array_equal(to_bytes(resized), np.rint(np.clip(resized, 0, 255)))
    ramp = np.linspace(-3, 258, 240).reshape(8, 10, 3)
    np.testing.assert_array_equal(to_bytes(ramp), np.rint(np.clip(ramp, 0, 255)))
    nearly_white = np.full((4, 5, 3), 255.0001, np.float32)
    assert np.all(to_bytes(nearly_white) == 255)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0, 1.02, r"0 to 1\.02, which look as if white were 1\. Multiply them by 255\."),
        (-0.02, 1.3, r"-0\.02 to 1\.3, which look as if white were 1\. Multiply them by 255\."),
        (
            -1,
            1,
            r"-1 to 1, which look as if white were 1\. \(image \+ 1\) \* 127\.5 is in 0\.\.255",
        ),
        (-128, 127, r"-128\.0 to 127\.0 \(float64\)\."),
        (-30, 30, r"-30\.0 to 30\.0 \(float64\)\."),
        (0, 65535, r"0\.0 to 65535\.0 \(float64\)\. If white is 65535, give them as uint16\."),
        (0, np.nan, r"nan to nan \(float64\)\. Fill what is not finite, and leave it out"),
    ],
)
def test_other_ranges_are_refused_with_the_way_out(low, high, message):
    image = np.linspace(low, high, 60).reshape(4, 5, 3)
    with pytest.raises(InputError, match=message):
        to_bytes(image)


def test_deep_arrays_are_stretched_as_files_are(photo):
    np.testing.assert_array_equal(to_rgb(photo.astype(np.uint16) * 257), photo)
    assert len(np.unique(to_rgb(51500 + photo.astype(np.uint16)))) > 200


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((9, 9, 4), np.uint8), r"\(9, 9, 4\)\. Give the colours alone"),
        (np.zeros((3, 9, 9), np.uint8), r"\(3, 9, 9\)\. Put the channels last"),
        (np.zeros((1, 9, 9, 3), np.uint8), r"\(1, 9, 9, 3\)\. Give the one image of the batch"),
        (np.zeros((9, 9), bool), r"bool\. Multiply it by 255\."),
        (np.zeros((9, 9), complex), "Received: complex128"),
        (np.zeros((9, 9), "m8[s]"), "Received: timedelta64"),
        (np.zeros((9, 9), object), "Received: object"),
        ([[1, 2], [3]], "Received: list, of which NumPy makes no array"),
    ],
)
def test_what_is_no_image_is_refused_with_the_way_out(array, message):
    with pytest.raises(InputError, match=message):
        to_rgb(array)


def test_one_channel_and_any_memory_layout_are_taken(photo):
    np.testing.assert_array_equal(to_rgb(photo[..., :1]), np.repeat(photo[..., :1], 3, axis=-1))
    for view in (photo[::-1], photo[:, ::2], photo.transpose(1, 0, 2), photo[..., ::-1]):
        result = to_rgb(view)
        np.testing.assert_array_equal(result, view)
        assert result.flags.c_contiguous
