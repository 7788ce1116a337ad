"""Reading photos of every kind, and refusing what is none."""

import errno
import io
import os
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from tfdense import images
from tfdense.errors import InputError


@pytest.fixture
def photo():
    """Smooth colours, of a size that is not square, with no two channels alike."""
    y, x = np.mgrid[:24, :36]
    return np.stack([x * 7, y * 10, 255 - x * 3 - y * 5], axis=-1).astype(np.uint8)


def write(path, bgr):
    assert cv2.imwrite(str(path), bgr)
    return path


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Inserts an EXIF segment that holds the orientation only."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_lossless_files_are_read_exactly(tmp_path, photo, suffix):
    path = write(tmp_path / f"photo{suffix}", photo[..., ::-1])
    np.testing.assert_array_equal(images.read_image(path), photo)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_files_are_read_closely(tmp_path, photo, suffix):
    path = write(tmp_path / f"photo{suffix}", photo[..., ::-1])
    result = images.read_image(path)
    assert result.shape == photo.shape
    assert np.abs(result.astype(int) - photo).mean() < 6


def test_a_grey_file_gets_three_equal_channels(tmp_path, photo):
    path = write(tmp_path / "grey.png", photo[..., 1])
    np.testing.assert_array_equal(images.read_image(path), np.repeat(photo[..., 1:2], 3, axis=-1))


def test_alpha_is_dropped(tmp_path, photo):
    alpha = np.full((*photo.shape[:2], 1), 40, np.uint8)
    path = write(tmp_path / "alpha.png", np.concatenate([photo[..., ::-1], alpha], axis=-1))
    np.testing.assert_array_equal(images.read_image(path), photo)


def test_sixteen_bits_become_eight(tmp_path, photo):
    path = write(tmp_path / "deep.png", photo[..., ::-1].astype(np.uint16) * 256 + 17)
    np.testing.assert_array_equal(images.read_image(path), photo)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda image: image),
        (3, lambda image: np.rot90(image, 2)),
        (6, lambda image: np.rot90(image, -1)),
        (8, lambda image: np.rot90(image)),
    ],
)
def test_the_exif_orientation_is_applied(tmp_path, photo, orientation, upright):
    _, encoded = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
    path = tmp_path / "turned.jpg"
    path.write_bytes(with_orientation(encoded.tobytes(), orientation))
    result, expected = images.read_image(path), upright(photo)
    assert result.shape == expected.shape
    assert np.abs(result.astype(int) - expected).mean() < 6


@pytest.mark.parametrize("content", [b"", b"not an image\n", b"\xff\xd8\xff\xe0 and no more"])
def test_a_file_that_is_no_image_is_named(tmp_path, content, capfd):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"broken\.jpg .*\({len(content)} bytes\)"):
        images.read_image(path)
    assert capfd.readouterr() == ("", ""), "OpenCV should not print"


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no image file .*missing\.png"):
        images.read_image(tmp_path / "missing.png")
    with pytest.raises(InputError, match="Received a folder"):
        images.read_image(tmp_path)


def test_arrays_pass_and_paths_are_read(tmp_path, photo):
    path = write(tmp_path / "photo.png", photo[..., ::-1])
    assert images.as_image(photo) is photo
    for image in (path, str(path), photo.astype(np.float64), photo.astype(np.int32)):
        np.testing.assert_array_equal(images.as_image(image), photo)
    np.testing.assert_array_equal(
        images.as_image(photo[..., 0]), np.repeat(photo[..., :1], 3, axis=-1)
    )
    assert images.as_image(np.full((2, 2, 3), 99.6)).tolist() == np.full((2, 2, 3), 100).tolist()


def test_dark_images_pass():
    for image in (np.zeros((4, 5)), np.eye(5) * 1.2, np.eye(5) * 2, np.eye(5, dtype=int)):
        np.testing.assert_array_equal(images.as_image(image)[..., 1], image.astype(int))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 4), np.uint8), r"\(4, 5, 4\)"),
        (np.zeros((1, 4, 5, 3), np.uint8), r"\(1, 4, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\)"),
        (np.zeros(7, np.uint8), r"\(7,\)"),
        (np.full((4, 5, 3), 256.0), "256.0"),
        (np.full((4, 5, 3), -1), "-1"),
        (np.full((4, 5, 3), np.nan), "nan"),
        (np.full((4, 5, 3), np.inf), "inf"),
        (np.full((4, 5, 3), "red"), "<U3"),
        (np.ones((4, 5, 3), bool), "bool"),
        (np.linspace(0, 1, 60).reshape(4, 5, 3), "0 to 1, which look as if white were 1"),
        (np.full((4, 5), 0.2, np.float16), "0.2 to 0.2, .* Multiply them by 255"),
        (np.eye(5), "0 to 1, which look as if white were 1. Multiply them by 255"),
        (1 - 2 * np.eye(5), "-1 to 1, which look as if white were 1"),
        (None, r"a file or an array .* Received: None \(NoneType\)"),
        (5, r"Received: 5 \(int\)"),
        ({}, r"Received: {} \(dict\)"),
        (io.StringIO("text"), "binary mode. Received: text"),
    ],
)
def test_arrays_that_are_no_images_are_refused(array, message):
    with pytest.raises(InputError, match=message):
        images.as_image(array)


def test_masks_of_any_form(tmp_path, photo):
    used = np.arange(36) >= np.full((24, 1), 9)
    path = write(tmp_path / "mask.png", np.uint8(used) * 255)
    few_levels = write(tmp_path / "few.png", np.uint8(used))
    deep = write(tmp_path / "deep.png", np.uint16(used) * 40000)
    for mask in (path, few_levels, deep, path.read_bytes(), Image.open(path), used, used.tolist()):
        np.testing.assert_array_equal(images.load_image(photo, mask=mask).mask, used)
    assert images.load_image(photo, mask=np.ones((24, 36))).mask.all()
    with pytest.raises(InputError, match=r"mask of the target to have .* Received: \(24, 35\)"):
        images.load_image(photo, "target", mask=used[:, 1:])
    with pytest.raises(InputError, match="mask of the target"):
        images.load_image(photo, "target", mask=[[1, 2], [3]])


def test_what_a_masked_array_masks_does_not_count(photo):
    mask = np.ma.array(np.ones((24, 36)), mask=np.arange(36) < np.full((24, 1), 9))
    np.testing.assert_array_equal(images.load_image(photo, mask=mask).mask, ~mask.mask)


def test_a_mask_is_added_to_what_the_image_leaves_out(tmp_path, photo):
    left, top = (
        np.broadcast_to(x, (24, 36)) for x in (np.arange(36) >= 9, np.arange(24)[:, None] > 5)
    )
    alpha = np.uint8(left)[..., None] * 255
    path = write(tmp_path / "alpha.png", np.concatenate([photo[..., ::-1], alpha], axis=-1))
    np.testing.assert_array_equal(images.load_image(path).mask, left)
    both = images.load_image(path, mask=top)
    np.testing.assert_array_equal(both.mask, left & top)
    again = images.load_image(both)
    assert again.pixels is both.pixels and again.mask is both.mask


def test_a_mask_keeps_a_border_out_of_what_is_stretched(tmp_path, photo):
    counts = 51000 + photo[..., 0].astype(np.uint16)
    used = np.arange(36) >= np.full((24, 1), 9)
    counts[~used] = 0
    path = write(tmp_path / "rectified.png", counts)
    assert len(np.unique(images.load_image(path).pixels[used])) < 5
    assert len(np.unique(images.load_image(path, mask=used).pixels[used])) > 20
    assert len(np.unique(images.load_image(counts, mask=used).pixels[used])) > 20
    masked = images.load_image(np.ma.masked_equal(counts, 0))
    np.testing.assert_array_equal(masked.mask, used)
    assert len(np.unique(masked.pixels[used])) > 20


@pytest.mark.parametrize("dtype", ["V4", "S3", "O", "complex64", [("red", "u1")]])
def test_masked_arrays_of_what_is_no_number_are_refused(dtype):
    array = np.ma.masked_array(np.zeros((24, 36, 3), dtype), mask=True)
    with pytest.raises(InputError, match="to be numbers"):
        images.load_image(array)


def test_a_pipe_is_read(photo):
    reading, writing = os.pipe()
    os.write(writing, cv2.imencode(".png", photo[..., ::-1])[1].tobytes())
    os.close(writing)
    try:
        np.testing.assert_array_equal(images.read_image(f"/dev/fd/{reading}"), photo)
    finally:
        os.close(reading)


def test_a_file_that_may_not_be_read_is_named(tmp_path, photo, monkeypatch):
    path = write(tmp_path / "photo.png", photo)

    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InputError, match=r"Cannot read .*photo\.png: Permission denied\."):
        images.read_image(path)


@pytest.mark.parametrize(
    ("opened", "message"),
    [
        (lambda path: io.FileIO(path), "closed file"),
        (lambda path: io.FileIO(path.with_name("new"), "w"), "(?i)read"),
        (lambda path: Image.open(path), "an open Pillow image. Received: a closed one"),
    ],
)
def test_a_file_that_cannot_be_read_any_more(tmp_path, photo, opened, message):
    with opened(write(tmp_path / "photo.png", photo)) as file:
        if getattr(file, "mode", "") != "wb":
            file.close()
        with pytest.raises(InputError, match=message) as caught:
            images.load_image(file)
    assert "\n" not in str(caught.value)


def test_a_broken_disk_is_one_line():
    class Disk:
        def read(self):
            raise OSError(5, "Input/output error")

    with pytest.raises(InputError, match=r"^Cannot read the target: Input/output error\.$"):
        images.load_image(Disk(), "target")


def test_find_images_lists_them_in_order(tmp_path, photo):
    for name in ("b.JPG", "a/c.png", "a/d.webp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    found = [p.relative_to(tmp_path).as_posix() for p in images.find_images(tmp_path)]
    assert found == ["a/c.png", "a/d.webp", "b.JPG"]


def test_find_images_follows_links_to_folders_once(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(b"x")
    photos = tmp_path / "photos"
    (photos / "below").mkdir(parents=True)
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    (photos / "again").symlink_to(tmp_path / "elsewhere")
    (photos / "below" / "up").symlink_to(photos)
    assert [path.name for path in images.find_images(photos)] == ["a.png"]


def test_find_images_refuses_what_holds_none(tmp_path):
    with pytest.raises(InputError, match="No images"):
        images.find_images(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        images.find_images(tmp_path / "missing")


def test_a_written_image_is_read_back(tmp_path, photo):
    images.write_image(tmp_path / "new" / "photo.png", photo)
    np.testing.assert_array_equal(images.read_image(tmp_path / "new" / "photo.png"), photo)


def test_an_unknown_suffix_cannot_be_written(tmp_path, photo):
    with pytest.raises(InputError, match=r"photo\.xyz"):
        images.write_image(tmp_path / "photo.xyz", photo)
    assert not [*tmp_path.iterdir()]
