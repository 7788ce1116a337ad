"""Every kind of image file, broken ones, and which photos are held out."""

import cv2
import numpy as np
import pytest

from tfdense.data.photos import (
    ImageStore,
    bundled_pair,
    photo_decoder,
    training_photos,
    validation_photos,
)
from tfdense.data_config import DataConfig
from tfdense.errors import InputError
from tfdense.images import read_image, write_image


def _picture(height=48, width=64):
    """Red in the upper left quarter, blue elsewhere."""
    image = np.zeros([height, width, 3], np.uint8)
    image[:] = (0, 0, 250)
    image[: height // 2, : width // 2] = (250, 0, 0)
    return image


def _exif_turned_jpeg(path, image):
    """Writes a JPEG that is to be shown turned by 90 degrees clockwise (orientation 6)."""
    encoded = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
    tiff = b"MM\x00*\x00\x00\x00\x08" + b"\x00\x01" + b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06"
    exif = b"Exif\x00\x00" + tiff + b"\x00\x00\x00\x00\x00\x00"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    path.write_bytes(encoded[:2] + segment + encoded[2:])


def _store(paths, **options):
    return ImageStore(paths, photo_decoder(256), **options)


def test_kinds_of_files(tmp_path):
    picture = _picture()
    bgr = picture[..., ::-1]
    opaque = np.full([48, 64, 1], 255, np.uint8)
    cv2.imwrite(str(tmp_path / "rgb.png"), bgr)
    cv2.imwrite(str(tmp_path / "sixteen.png"), bgr.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "alpha.png"), np.concatenate([bgr, opaque], axis=-1))
    cv2.imwrite(str(tmp_path / "lossless.webp"), bgr, [cv2.IMWRITE_WEBP_QUALITY, 101])
    cv2.imwrite(str(tmp_path / "photo.JPG"), bgr)
    _exif_turned_jpeg(tmp_path / "turned.jpeg", picture)
    paths = training_photos(DataConfig(photos=str(tmp_path), validation_photos=str(tmp_path)))
    store = _store(paths)
    assert len(store) == 6
    for index, path in enumerate(paths):
        image = store.load(index).astype(int)
        expected = np.rot90(picture, -1) if path.stem == "turned" else picture
        assert image.shape == expected.shape
        away_from_edge = np.abs(image - expected).max(axis=-1)
        assert np.percentile(away_from_edge, 90) <= 12, path


def test_grey_files_have_three_channels(tmp_path):
    grey = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40)
    cv2.imwrite(str(tmp_path / "a8.png"), (grey // 10).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "b16.png"), grey * 40)
    store = _store(sorted(tmp_path.iterdir()))
    for index, expected in enumerate((grey // 10, grey * 40 / 256)):
        image = store.load(index)
        assert image.shape == (40, 40, 3)
        assert np.abs(image - expected[..., None]).max() <= 1


def test_broken_and_too_small_files_are_named_once_and_replaced(tmp_path, caplog):
    write_image(tmp_path / "a.png", _picture(32, 32))
    write_image(tmp_path / "b_one_pixel.png", _picture(1, 1))
    (tmp_path / "c_text.jpg").write_text("not a picture")
    (tmp_path / "d_empty.png").write_bytes(b"")
    write_image(tmp_path / "e.png", _picture(40, 50))
    (tmp_path / "f_half.png").write_bytes((tmp_path / "e.png").read_bytes()[:60])
    store = _store(sorted(tmp_path.iterdir()))
    for _ in range(2):
        shapes = [store.load(index).shape[:2] for index in range(6)]
        assert shapes == [(32, 32), *[(40, 50)] * 4, (32, 32)]
    messages = [record.message for record in caplog.records]
    assert len(messages) == 4
    for name in ("b_one_pixel", "c_text", "d_empty", "f_half"):
        assert sum(name in message for message in messages) == 1
    assert any("1x1" in message and "32x32" in message for message in messages)


def test_file_that_vanishes_is_replaced(tmp_path, caplog):
    for name in "ab":
        write_image(tmp_path / f"{name}.png", _picture())
    store = _store(sorted(tmp_path.iterdir()))
    (tmp_path / "b.png").unlink()
    np.testing.assert_array_equal(store.load(1), _picture())
    assert "b.png" in caplog.text


def test_folders_without_usable_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="No images in"):
        training_photos(DataConfig(photos=str(tmp_path)))
    with pytest.raises(InputError, match="missing"):
        training_photos(DataConfig(photos=str(tmp_path / "missing")))
    (tmp_path / "x.jpg").write_text("no")
    with pytest.raises(InputError, match="None of the 1 image files can be used"):
        _store(training_photos(DataConfig(photos=str(tmp_path))))


def test_large_photos_are_reduced_and_panoramas_cropped(tmp_path):
    write_image(tmp_path / "a.png", _picture(500, 700))
    write_image(tmp_path / "b.png", _picture(40, 300))
    store = ImageStore(sorted(tmp_path.iterdir()), photo_decoder(96))
    assert store.load(0).shape == (96, 134, 3)
    assert store.load(1).shape == (40, 80, 3)


def test_memory_is_bounded(tmp_path):
    decoded = []
    decode = photo_decoder(64)
    for name in "abc":
        write_image(tmp_path / f"{name}.png", _picture(40, 40))
    store = ImageStore(
        sorted(tmp_path.iterdir()), lambda p: decoded.append(p.stem) or decode(p), memory=5000
    )
    for index in (0, 1, 2, 0, 1, 2):
        np.testing.assert_array_equal(store.load(index), _picture(40, 40))
    assert decoded == ["a", "b", "c", "b", "c"]


def test_held_out_photos_do_not_depend_on_the_others(tmp_path):
    (tmp_path / "sub").mkdir()
    names = [f"{'sub/' * (i % 2)}{i:02}.png" for i in range(40)]
    for name in names:
        write_image(tmp_path / name, _picture(32, 32))
    config = DataConfig(photos=str(tmp_path), validation_share=0.2)
    training, held_out = training_photos(config), validation_photos(config)
    assert len(held_out) == 8 and len(training) == 32 and not set(training) & set(held_out)
    for path in training[:8]:
        path.unlink()
    assert len(set(validation_photos(config)) & set(held_out)) == 6


def test_given_validation_folder_leaves_all_photos_to_training(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        write_image(tmp_path / name, _picture(32, 32))
    config = DataConfig(photos=str(tmp_path / "a"), validation_photos=str(tmp_path / "b"))
    assert [p.name for p in training_photos(config)] == ["1.png", "2.png"]
    assert [p.name for p in validation_photos(config)] == ["3.png"]


def test_single_photo_serves_both(tmp_path, caplog):
    write_image(tmp_path / "only.png", _picture())
    config = DataConfig(photos=str(tmp_path))
    assert training_photos(config) == validation_photos(config) == [tmp_path / "only.png"]
    assert "one photo" in caplog.text


def test_bundled_photos():
    config = DataConfig()
    training, held_out = training_photos(config), validation_photos(config)
    assert len(training) >= 10 and len(held_out) >= 2
    assert not {p.name for p in training} & {p.name for p in held_out}
    source, target = (read_image(path) for path in bundled_pair())
    assert source.shape == target.shape
    assert min(source.shape[:2]) >= 256
    listed = (training[0].parent.parent / "README.md").read_text()
    assert all(f"{path.parent.name}/{path.name}" in listed for path in [*training, *held_out])
