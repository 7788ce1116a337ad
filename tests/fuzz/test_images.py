"""Decoders of images, and masks."""

import io

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from mutations import mutated, png_resealed
from oracle import Finding, fuzz, small_answer
from PIL import Image

from tfdense.errors import InputError
from tfdense.exporting.encoded import decode_upright
from tfdense.images import load_image, load_mask

pytestmark = pytest.mark.fuzz

_HEIGHT, _WIDTH = 20, 28


def _seeds() -> dict[str, bytes]:
    """Small whole images of all formats that are read."""
    draw = np.random.default_rng(0)
    colours = cv2.resize(draw.integers(0, 256, (5, 7, 3), np.uint8), (_WIDTH, _HEIGHT))
    grey, deep = colours[..., 0], colours.astype(np.uint16) * 257
    alpha = np.dstack([colours, 255 * (colours[..., :1] > 99)]).astype(np.uint8)
    found = {}

    def pillow(name, image, kind, **options):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        found[name] = buffer.getvalue()

    exif = Image.Exif()
    exif[0x0112] = 6
    rgb = Image.fromarray(colours)
    pillow("jpeg", rgb, "JPEG", exif=exif)
    pillow("progressive", rgb, "JPEG", progressive=True)
    pillow("grey jpeg", Image.fromarray(grey), "JPEG")
    pillow("cmyk", rgb.convert("CMYK"), "JPEG")
    for mode in ("RGB", "RGBA", "P", "1", "L", "LA"):
        pillow(f"png {mode}", Image.fromarray(alpha).convert(mode), "PNG")
    pillow("gif", rgb, "GIF", save_all=True, append_images=[rgb.rotate(90)])
    pillow("webp", Image.fromarray(alpha), "WEBP")
    pillow("lossless", rgb, "WEBP", lossless=True)
    pillow("avif", rgb, "AVIF")
    pillow("bmp", rgb, "BMP")
    pillow("ppm", rgb, "PPM")
    pillow("jpeg 2000", rgb, "JPEG2000")
    for compression in (None, "tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        pillow(f"tiff {compression}", rgb, "TIFF", compression=compression, exif=exif)
    pillow("tiff grey 16", Image.fromarray(deep[..., 0]), "TIFF", tiffinfo={42113: "0"})
    floats = colours.astype(np.float32) / 255
    others = {".png": deep, ".tiff": floats, ".pfm": floats, ".hdr": floats}
    for suffix, image in {**others, ".ras": colours, ".pgm": grey}.items():
        encoded, content = cv2.imencode(suffix, image)
        assert encoded, suffix
        found[suffix] = content.tobytes()
    return found


_SEEDS = _seeds()
_DECODE = tf.function(decode_upright, input_signature=[tf.TensorSpec([], tf.string)])
_DECODE.get_concrete_function()  # the tracing of which writes files
_PNGS = [content for name, content in _SEEDS.items() if "png" in name]


def test_the_seeds_are_whole():
    for name, content in _SEEDS.items():
        pixels = load_image(content, name).pixels
        assert pixels.shape in ((_HEIGHT, _WIDTH, 3), (_WIDTH, _HEIGHT, 3)), name


def _decode(content: bytes) -> None:
    photo = load_image(content)
    small_answer(photo.pixels, 3 * 2**28)
    if photo.pixels.dtype != np.uint8 or photo.pixels.shape[2:] != (3,):
        raise Finding(f"it was read as {photo.pixels.dtype} {photo.pixels.shape}")
    if photo.mask is not None and photo.mask.shape != photo.pixels.shape[:2]:
        raise Finding(f"its mask has the shape {photo.mask.shape}")


@fuzz(mutated(_SEEDS.values()))
def test_decoders(trial, content):
    _decode(content)


@fuzz(mutated([_SEEDS[name] for name in _SEEDS if "tiff" in name or "jp" in name]))
def test_decoders_of_rich_formats(trial, content):
    _decode(content)


@fuzz(st.builds(png_resealed, mutated(_PNGS)))
def test_png_with_right_checksums(trial, content):
    _decode(content)


@fuzz(st.binary(max_size=200) | st.tuples(mutated(_SEEDS.values()), st.binary()).map(b"".join))
def test_noise(trial, content):
    _decode(content)


@fuzz(mutated([_SEEDS[name] for name in _SEEDS if name[:3] in ("jpe", "png", "bmp", "gif")]))
def test_decoders_of_exported_networks(trial, content):
    try:
        pixels, alpha = _DECODE(tf.constant(content))
    except tf.errors.InvalidArgumentError as error:
        raise InputError(str(error).splitlines()[0]) from None
    assert pixels.dtype == tf.uint8 and pixels.shape[:2] == alpha.shape


@fuzz(mutated(_SEEDS.values()))
def test_files(trial, content):
    path = trial.folder / "image\n.jpg"
    path.write_bytes(content)
    load_image(path)


@fuzz(mutated(_SEEDS.values()))
def test_masks(trial, content):
    mask = load_mask(content, (_HEIGHT, _WIDTH))
    if mask.dtype != bool or mask.shape != (_HEIGHT, _WIDTH):
        raise Finding(f"it was read as {mask.dtype} {mask.shape}")
