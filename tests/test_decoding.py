"""Files of every kind: their pixels, what they leave out, and damage."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, features

from tfdense import decoding, images
from tfdense.data import bundled_pair
from tfdense.errors import InputError
from tfdense.images import load_image

AVIF = pytest.param(
    "AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
)


@pytest.fixture(scope="module")
def photo():
    """A real photo, 96x72 px, as an image of Pillow."""
    return Image.open(bundled_pair()[0]).convert("RGB").resize((96, 72))


@pytest.fixture(scope="module")
def translucent(photo):
    """The photo, transparent in its left quarter."""
    result = photo.copy()
    result.putalpha(
        Image.fromarray(np.uint8(np.arange(96) >= 24).repeat(72).reshape(96, 72).T * 255)
    )
    return result


def encode(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def by_opencv(suffix, values):
    """Encodes RGB or grey of any depth, which Pillow cannot."""
    values = values if values.ndim == 2 else cv2.merge(cv2.split(values)[2::-1])
    return cv2.imencode(suffix, values)[1].tobytes()


def difference(content, expected):
    pixels = load_image(content).pixels
    assert pixels.shape == (*np.shape(expected)[:2], 3) and pixels.dtype == np.uint8
    return np.abs(pixels.astype(int) - np.asarray(expected)).mean()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_lossless_forms(photo, form):
    assert difference(encode(photo, form), photo) == 0


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", AVIF])
def test_lossy_forms(photo, form):
    options = {} if form == "GIF" else {"quality": 95}
    assert difference(encode(photo, form, **options), photo) < 8


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]
)
def test_a_whole_jpeg_is_what_opencv_makes_of_it(photo, options):
    content = encode(photo, "JPEG", quality=90, **options)
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert difference(content, expected) == 0
    # Phones append a film.
    assert difference(content + b"film" * 1000, expected) == 0


@pytest.mark.parametrize("mode", ["L", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "I", "F"])
def test_modes_of_pillow(photo, mode):
    image = photo.convert("P").convert("PA") if mode == "PA" else photo.convert(mode)
    expected = photo.convert("L").convert("RGB") if mode in "LIF" else photo
    assert difference(image, expected) < (25 if mode[0] == "P" else 3)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_modes_of_pillow_with_16_bits(photo, mode):
    grey = np.asarray(photo.convert("L"))
    image = Image.fromarray((grey.astype(np.uint16) * 257).astype(">u2" if "B" in mode else "<u2"))
    assert image.mode == mode
    assert difference(image, np.stack([grey] * 3, -1)) == 0


def test_black_and_white(photo):
    image = photo.convert("1")
    for given in (image, encode(image, "PNG"), encode(image, "TIFF", compression="group4")):
        assert difference(given, np.stack([np.asarray(image) * 255] * 3, -1)) == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La"])
def test_alpha_is_a_mask_and_the_rest_is_unchanged(translucent, mode):
    image = translucent.convert("LA") if mode[0] == "L" else translucent
    photo = load_image(image.convert(mode) if image.mode != mode else image)
    np.testing.assert_array_equal(photo.mask, np.arange(96) >= np.full((72, 1), 24))
    expected = np.asarray(image.convert("RGB"))[:, 24:]
    assert np.abs(photo.pixels[:, 24:].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "GIF", AVIF])
def test_alpha_of_files(translucent, form):
    mask = load_image(encode(translucent, form)).mask
    np.testing.assert_array_equal(mask, np.arange(96) >= np.full((72, 1), 24))


def test_transparent_colours(photo):
    values = np.asarray(photo)
    chosen = (values == values[5, 6]).all(axis=-1)
    content = encode(photo, "PNG", transparency=tuple(int(value) for value in values[5, 6]))
    np.testing.assert_array_equal(load_image(content).mask, ~chosen)
    palette = photo.quantize(30)
    mask = load_image(encode(palette, "PNG", transparency=4)).mask
    np.testing.assert_array_equal(mask, np.asarray(palette) != 4)


def test_opaque_alpha_is_no_mask(photo):
    assert load_image(encode(photo.convert("RGBA"), "PNG")).mask is None


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [(".png", 1), (".png", 3), (".tif", 1), (".tif", 3), (".pgm", 1), (".ppm", 3)],
)
def test_sixteen_bits(photo, suffix, channels):
    values = np.asarray(photo if channels == 3 else photo.convert("L")).astype(np.uint16)
    expected = values if channels == 3 else np.stack([values] * 3, -1)
    assert difference(by_opencv(suffix, values * 257), expected) == 0
    # A camera of 12 bits uses 1/16 of the range.
    dim = load_image(by_opencv(suffix, values * 16)).pixels
    assert np.abs(dim.astype(int) - expected).mean() < 6 and len(np.unique(dim)) > 150


def test_sixteen_bits_with_alpha(translucent):
    values = np.asarray(translucent).astype(np.uint16) * 257
    bgra = values[..., [2, 1, 0, 3]]
    for suffix in (".png", ".tif"):
        photo = load_image(cv2.imencode(suffix, bgra)[1].tobytes())
        np.testing.assert_array_equal(photo.pixels, values[..., :3] // 257)
        assert 0.7 < photo.mask.mean() < 0.8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("white", [1, 255, 65535])
def test_tiffs_of_floats(photo, dtype, white):
    values = (np.asarray(photo) / 255 * white).astype(dtype)
    assert difference(by_opencv(".tif", values), photo) < 0.01
    assert difference(by_opencv(".tif", values[..., 0]), np.asarray(photo)[..., :1]) < 0.01


@pytest.mark.skipif(cv2.__version__ < "5", reason="OpenCV 4 writes no such TIFF")
def test_whole_numbers_of_any_type_in_tiffs(photo):
    grey = np.asarray(photo.convert("L"))
    expected = load_image(by_opencv(".tif", grey.astype(np.int32) * 1000 - 90000)).pixels
    assert len(np.unique(expected)) > 150
    for dtype in (np.int16, np.uint16, np.uint32):
        offset = 0 if np.dtype(dtype).kind == "u" else -12000
        values = (grey.astype(np.int64) * 50 + offset).astype(dtype)
        assert difference(by_opencv(".tif", values), expected) < 1.5


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_tiffs_in_which_white_is_zero(photo, dtype):
    grey = np.asarray(photo.convert("L"))
    values = grey.astype(dtype) * (257 if dtype == np.uint16 else 1)
    content = encode(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    negative = load_image(content).pixels.astype(int)
    # The stretch to 8 bits keeps neither the ends of the range nor its middle.
    assert np.corrcoef(negative[..., 0].ravel(), grey.ravel())[0, 1] < -0.99


def test_jpeg_2000_with_16_bits(photo):
    values = np.asarray(photo).astype(np.uint16) * 257
    content = by_opencv(".jp2", values)
    # OpenCV's encoder loses a little.
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(decoding.decode(content, "photo").values, stored[..., ::-1])


def test_endless_files_are_refused(monkeypatch):
    monkeypatch.setattr(images, "_LARGEST_FILE", 2**20)
    with pytest.raises(InputError, match="no image"):
        load_image("/dev/zero")


def test_what_a_file_declares_to_be_no_data_is_masked(photo):
    known = np.arange(96) >= np.full((72, 1), 24)
    floats = np.where(known, np.asarray(photo.convert("L")) / 255, np.nan).astype(np.float32)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = "-9999"
    heights = Image.fromarray(np.where(known, floats * 900, -9999).astype(np.float32))
    tags_of_zero = TiffImagePlugin.ImageFileDirectory_v2()
    tags_of_zero[42113] = "0 "
    map_ = Image.fromarray(np.where(known[..., None], np.asarray(photo) | 1, 0).astype(np.uint8))
    for content in (
        by_opencv(".tif", floats),
        encode(heights, "TIFF", tiffinfo=tags),
        encode(map_, "TIFF", tiffinfo=tags_of_zero),
    ):
        result = load_image(content)
        np.testing.assert_array_equal(result.mask, known)
        assert len(np.unique(result.pixels)) > 100


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", AVIF, "deep PNG", "deep TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_in_every_entrance(tmp_path, form, orientation):
    y, x = np.mgrid[:24, :40]
    upright = Image.fromarray(np.stack([x * 6, y * 10, 200 - x - y * 3], -1).astype(np.uint8))
    if form.startswith("deep"):
        upright = Image.fromarray(np.asarray(upright.convert("L")).astype(np.uint16) * 200)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {"quality": 95} if form in ("JPEG", "WEBP", "AVIF") else {}
    path = tmp_path / "turned"
    path.write_bytes(encode(stored, form.removeprefix("deep "), exif=exif, **quality))
    by_path = load_image(path).pixels
    assert np.abs(by_path.astype(int) - load_image(upright).pixels).mean() < 5
    loaded = Image.open(io.BytesIO(path.read_bytes()))
    loaded.load()
    with Image.open(path) as opened, path.open("rb") as file:
        for given in (str(path), path.read_bytes(), file, opened, loaded):
            np.testing.assert_array_equal(load_image(given).pixels, by_path)


def test_an_opened_image_is_read_as_its_file_and_still_usable(photo):
    values = np.asarray(photo).astype(np.uint16) * 16
    content = by_opencv(".png", values)
    opened = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(load_image(opened).pixels, load_image(content).pixels)
    np.testing.assert_array_equal(np.asarray(opened), values >> 8)


def test_of_several_images_the_first(photo):
    other = photo.transpose(Image.Transpose.ROTATE_180)
    for form in ("TIFF", "PNG", "GIF", "MPO"):
        content = encode(photo, form, save_all=True, append_images=[other])
        assert difference(content, photo) < 8


@pytest.mark.parametrize("progressive", [False, True])
def test_a_damaged_jpeg_is_refused(progressive):
    """Nothing in a JPEG says what it should hold: what is changed little may still make sense."""
    photo = Image.open(bundled_pair()[0])
    content = encode(photo, "JPEG", quality=90, progressive=progressive)
    begin = content.find(b"\xff\xda") + 14
    random = np.random.default_rng(0)
    refused = []
    for _ in range(40):
        damaged = bytearray(content)
        place = random.integers(begin, len(content) - 258)
        damaged[place : place + 256] = random.bytes(256)
        refused.append(_is_refused(bytes(damaged)))
    assert np.mean(refused) > 0.95
    for share in (0.3, 0.6, 0.9, 0.99):
        assert _is_refused(content[: int(share * len(content))])
    assert not _is_refused(content)


@pytest.mark.parametrize(
    "form", ["PNG", "deep PNG", "GIF", "WEBP", "TIFF", "JPEG2000", AVIF, "BMP"]
)
def test_files_cut_short_are_refused(photo, form):
    if form.startswith("deep"):
        content = by_opencv(".png", np.asarray(photo).astype(np.uint16) * 200)
    else:
        content = encode(photo, form)
    for share in (0.2, 0.5, 0.9, 0.99):
        assert _is_refused(content[: int(share * len(content))])


def test_a_damaged_png_is_refused(photo):
    content = encode(photo, "PNG")
    for place in range(200, len(content), len(content) // 20):
        damaged = bytearray(content)
        damaged[place] ^= 1
        assert _is_refused(bytes(damaged))


def _is_refused(content):
    try:
        load_image(content)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
        return True
    return False


def test_the_message_names_file_form_and_reason(tmp_path, photo, capfd):
    path = tmp_path / "cut.jpg"
    path.write_bytes(encode(photo, "JPEG")[:-400])
    size = path.stat().st_size
    expected = (
        rf"cut\.jpg cannot be decoded as JPEG \({size} bytes\): Premature end of JPEG file\.$"
    )
    with pytest.raises(InputError, match=expected):
        load_image(path)
    with Image.open(path) as opened, pytest.raises(InputError, match=expected):
        load_image(opened)
    assert capfd.readouterr() == ("", "")


def test_a_pfm_without_width_names_no_source_of_opencv():
    with pytest.raises(InputError, match=r"as PFM \(70 bytes\): OpenCV expects size\.width > 0\.$"):
        decoding.decode(b"PF\n0 5\n-1\n" + bytes(60), "a.pfm")


def test_a_phones_other_format_is_named():
    with pytest.raises(InputError, match="HEIF family, which is not read: save it as JPEG"):
        load_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))


def test_too_large_an_image_is_refused_by_its_header(recwarn):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 40000, 30000, 1, 0, 0, 0, 0)
    content = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", bytes(9))
        + chunk(b"IEND", b"")
    )
    message = "40000x30000 px, 1200 million. Expected at most 268 million"
    with pytest.raises(InputError, match=message):
        load_image(content)
    assert not recwarn.list


def test_more_pixels_than_pillow_allows_are_read(monkeypatch, photo, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert difference(encode(photo, "PNG"), photo) == 0
    assert not recwarn.list


def test_images_of_one_row(photo):
    row = photo.crop((0, 7, 96, 8))
    for form in ("PNG", "JPEG", "TIFF", "WEBP", "GIF"):
        assert load_image(encode(row, form)).pixels.shape == (1, 96, 3)
        assert load_image(encode(row.convert("L"), form)).pixels.shape == (1, 96, 3)


def test_damaged_metadata_leave_the_pixels(photo):
    content = encode(photo, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f broken", quality=95)
    assert decoding.decode(content, "x").values.shape == (72, 96, 3)
