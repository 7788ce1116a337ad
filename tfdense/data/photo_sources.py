"""What photos may come from beside files of their own: TFRecords and arrays."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.images import as_image, find_images, read_image

# Length and its checksum, before each record; behind it stands that of the record.
_HEADER, _FOOTER = struct.Struct("<QI"), 4
# What an encoded image is usually called, and how such files begin: JPEG, PNG, WebP.
_FEATURES = ("image/encoded", "image", "image_raw", "encoded", "jpeg")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")


class Record(NamedTuple):
    """A record of a TFRecord file, an encoded image or an example that holds one.

    Attributes:
        path: of the file.
        number: of the record in it, from 0 on.
        offset, length: of its data in the file, in bytes.
    """

    path: Path
    number: int
    offset: int
    length: int

    def __str__(self):
        return f"{self.path}, record {self.number}"


class Given(NamedTuple):
    """A photo that was given as an array.

    Attributes:
        number: among those given.
        pixels: uint8 [height, width, 3].
    """

    number: int
    pixels: np.ndarray

    def __str__(self):
        return f"photo {self.number}"


def find_photos(place: str | Path) -> list[Path | Record]:
    """Lists the photos below a folder: its image files and the records of its TFRecord files.

    Args:
        place: a folder, as `keras.utils.image_dataset_from_directory` takes it or any other, or a
            TFRecord file.

    Raises:
        InputError: if there is no such folder, it holds neither, or a TFRecord file is damaged.
    """
    place = Path(place)
    files = [place] if place.is_file() else sorted(place.rglob("*.tfrecord*"))
    records = [record for path in files if path.is_file() for record in find_records(path)]
    try:
        return records if place.is_file() else [*find_images(place), *records]
    except InputError:
        if not records:
            raise
        return records


def find_records(path: Path) -> list[Record]:
    """Lists the records of a TFRecord file, uncompressed.

    Raises:
        InputError: if it is none, or ends within a record.
    """
    records, size, offset = [], path.stat().st_size, 0
    with path.open("rb") as file:
        while offset < size:
            header = file.read(_HEADER.size)
            length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else size
            end = offset + _HEADER.size + length + _FOOTER
            if end > size:
                raise InputError(
                    f"{path} is no TFRecord file without compression, or is cut short: its record "
                    f"{len(records)} would end beyond the file."
                )
            records.append(Record(path, len(records), offset + _HEADER.size, length))
            file.seek(end)
            offset = end
    return records


def given_photos(arrays: Iterable) -> list[Given]:
    """Takes photos from an iterable, which is read to its end.

    Args:
        arrays: of images [height, width, 3] or [height, width], values in 0..255, or of batches
            [batch, height, width, 3] of them; of tuples the first counts, as in a dataset with
            labels.

    Raises:
        InputError: if there is none, or one is no image.
    """
    photos = []
    for item in arrays:
        array = np.asarray(item[0] if isinstance(item, tuple) else item)
        batch = array if array.ndim == 4 else [array]
        photos += [Given(len(photos) + i, as_image(image)) for i, image in enumerate(batch)]
    if not photos:
        raise InputError("Expected photos. Received: an iterable of none.")
    return photos


def pixels(photo: Path | Record | Given) -> np.ndarray:
    """Returns the pixels of a photo, uint8 [height, width, 3].

    Raises:
        InputError: if it cannot be decoded, or the record holds no image.
    """
    if isinstance(photo, Given):
        return photo.pixels
    if isinstance(photo, Record):
        return as_image(_encoded(photo), str(photo))
    return read_image(photo)


def _encoded(record: Record) -> bytes:
    with record.path.open("rb") as file:
        file.seek(record.offset)
        content = file.read(record.length)
    if content.startswith(_BEGINNINGS):
        return content
    try:
        features = tf.train.Example.FromString(content).features.feature
    except Exception:  # protobuf has several, by its version
        raise InputError(f"{record} is neither an image nor an example.") from None
    values = {name: feature.bytes_list.value for name, feature in features.items()}
    for name in (*_FEATURES, *sorted(values)):
        if values.get(name) and values[name][0].startswith(_BEGINNINGS):
            return values[name][0]
    raise InputError(
        f"{record} holds no encoded image. Received features: {', '.join(sorted(values))}"
    )
