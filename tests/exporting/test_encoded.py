"""Files decoded within a graph have the pixels and the alpha that they have by path."""

import io

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfdense.data import bundled_pair
from tfdense.exporting.encoded import decode_upright
from tfdense.images import load_image
from tfdense.pixels import OPAQUE


@pytest.fixture(scope="module")
def photo():
    return Image.open(bundled_pair()[0]).convert("RGB").resize((64, 48))


@pytest.fixture(scope="module")
def decode():
    """`decode_upright` as the graph that a SavedModel holds."""
    spec = tf.TensorSpec([], tf.string)
    graph = tf.function(decode_upright, input_signature=[spec], autograph=False)
    return lambda content: [values.numpy() for values in graph(tf.constant(content))]


def encode(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def by_opencv(values):
    """Encodes 16 bits as PNG, grey, RGB or with alpha."""
    order = {2: ..., 3: np.s_[..., [2, 1, 0, 3][: values.shape[-1]]]}[values.ndim]
    return cv2.imencode(".png", np.uint16(values)[order])[1].tobytes()


def check(decode, content):
    pixels, alpha = decode(content)
    expected = load_image(content)
    np.testing.assert_array_equal(pixels, expected.pixels)
    mask = np.ones(alpha.shape, bool) if expected.mask is None else expected.mask
    np.testing.assert_array_equal(alpha >= OPAQUE, mask)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_turned_upright(decode, photo, form, order, orientation):
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112], exif[0x011A] = "maker", orientation, 72.0
    # What stands before the EXIF data, and after.
    options = {"icc_profile": bytes(90000), "comment": b"c"} if form == "JPEG" else {}
    check(decode, encode(photo, form, exif=exif, **options))


def test_exif_data_behind_other_segments_and_of_long_values(decode, photo):
    entry = b"\x12\x01\x04\x00\x01\x00\x00\x00\x06\x00\x00\x00"  # a long, 6
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
    segments = [
        b"\xff\xe1" + (2 + len(x)).to_bytes(2, "big") + x for x in (b"http://other\0", exif)
    ]
    content = encode(photo, "JPEG")
    content = content[:2] + b"".join(segments) + content[2:]
    assert decode(content)[0].shape == (64, 48, 3)
    check(decode, content)


@pytest.mark.parametrize("place", range(2, 40))
def test_damaged_exif_data_leave_the_image_or_are_refused(decode, photo, place):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = bytearray(encode(photo, "JPEG", exif=exif))
    for value in (0, 255):
        content[place] = value
        try:
            shape = decode(bytes(content))[0].shape
        except tf.errors.InvalidArgumentError:
            continue
        assert shape in ((48, 64, 3), (64, 48, 3))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_colours(decode, photo, mode):
    check(decode, encode(photo.convert(mode), "JPEG"))


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"quality": 99}])
def test_jpegs_are_decoded_to_the_same_bit(decode, photo, options):
    check(decode, encode(photo, "JPEG", **options))


def test_pngs_of_other_colours(decode, photo):
    translucent = photo.copy()
    translucent.putalpha(photo.convert("L"))
    for image in (translucent, translucent.convert("LA"), photo.convert("L"), photo.convert("1")):
        check(decode, encode(image))
    check(decode, encode(photo.quantize(50)))
    check(decode, encode(photo.quantize(9), transparency=3))


def test_sixteen_bits_are_stretched(decode, photo):
    values = np.asarray(photo).astype(int)
    for gain, offset in ((257, 0), (1, 51000), (90, 3000), (16, 0), (1, 0)):
        check(decode, by_opencv(values * gain + offset))
        check(decode, by_opencv(values[..., 1] * gain + offset))
    with_alpha = np.dstack([values * 50, values[..., 0] * 257])
    check(decode, by_opencv(with_alpha))
    check(decode, by_opencv(np.full((20, 30), 777)))


def test_other_forms_and_what_is_none(decode, photo):
    for form in ("GIF", "BMP"):
        check(decode, encode(photo, form))
    jpeg = encode(photo, "JPEG")
    for content in (b"", b"\xff\xd8", b"\x89PNG\r\n", b"text that is long enough", jpeg[:-300]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(content)
