"""Photos on disk: finding, splitting, decoding and keeping them."""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from tfdense.data.photo_sources import Given, Record, find_photos, pixels
from tfdense.data_config import DataConfig
from tfdense.errors import InputError
from tfdense.images import find_images, read_stored
from tfdense.pixels import stretch, to_rgb

SMALLEST_SIDE = 32
"""Photos with a shorter side are skipped, in pixels."""

_LOG = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent

# Photos are cropped to 2:1, so that a panorama does not fill the memory.
_LARGEST_ASPECT = 2
_MEMORY = 2**30


class ImageStore:
    """Images of a list of files, each decoded when it is first asked for.

    Decoded images are kept until they fill 1 GiB; the others are decoded each time. A file that
    cannot be used is named in one warning, and the next usable file of the list takes its place:
    what an index gives depends on the files alone.

    Args:
        paths: the files, or photos of `tfdense.data.photo_sources`.
        decode: turns one into a uint8 array [height, width, channels], or raises InputError.
        memory: how many bytes of decoded images are kept.

    Raises:
        InputError: if no file can be used.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        decode: Callable[[Path], np.ndarray],
        memory: int = _MEMORY,
    ):
        self._paths = list(paths)
        self._decode = decode
        self._memory = memory
        self._images: dict[int, np.ndarray] = {}
        self._unusable: set[int] = set()
        self._lock = threading.Lock()
        self.load(0)

    def __len__(self) -> int:
        return len(self._paths)

    def load(self, index: int) -> np.ndarray:
        """Returns the image of the first usable file from `index` on, cyclically."""
        for step in range(len(self)):
            image = self.load_file((int(index) + step) % len(self))
            if image is not None:
                return image
        raise InputError(
            f"None of the {len(self)} image files can be used. The first is {self._paths[0]}."
        )

    def load_file(self, index: int) -> np.ndarray | None:
        """Returns the image of just this file, or None if it cannot be used."""
        if index in self._images:
            return self._images[index]
        if index in self._unusable:
            return None
        try:
            image = self._decode(self._paths[index])
        except (InputError, OSError) as error:
            self._skip(index, error)
            return None
        with self._lock:
            if index not in self._images and image.nbytes <= self._memory:
                self._images[index] = image
                self._memory -= image.nbytes
        return image

    def _skip(self, index: int, error: Exception) -> None:
        with self._lock:
            known = index in self._unusable
            self._unusable.add(index)
        if not known:
            path = str(self._paths[index])
            # Most errors name the file themselves.
            _LOG.warning("Skipping %s", error if path in str(error) else f"{path}: {error}")


def training_photos(config: DataConfig) -> list[Path]:
    """Lists the photos that training pairs are made from."""
    if config.photos is None:
        return find_images(_FOLDER / "photos")
    photos = find_photos(config.photos)
    if config.validation_photos is not None:
        return photos
    return split_photos(photos, config)[0]


def validation_photos(config: DataConfig) -> list[Path]:
    """Lists the photos that validation pairs are made from."""
    if config.validation_photos is not None:
        return find_photos(config.validation_photos)
    if config.photos is None:
        return find_images(_FOLDER / "photos_validation")
    return split_photos(find_photos(config.photos), config)[1]


def bundled_pair() -> tuple[Path, Path]:
    """Returns the paths (source, target) of two views of one scene that come with the package."""
    return _FOLDER / "pair" / "source.jpg", _FOLDER / "pair" / "target.jpg"


def photo_decoder(longest_short_side: int) -> Callable[[Path], np.ndarray]:
    """Returns a function that reads a photo and reduces it to a short side of at most so much."""

    def decode(photo: Path | Record | Given) -> np.ndarray:
        image = pixels(photo)
        height, width = image.shape[:2]
        if min(height, width) < SMALLEST_SIDE:
            raise InputError(
                f"it has {width}x{height} pixels, expected {SMALLEST_SIDE}x{SMALLEST_SIDE} or more"
            )
        longest = _LARGEST_ASPECT * min(height, width)
        top, left = max(height - longest, 0) // 2, max(width - longest, 0) // 2
        image = image[top : top + longest, left : left + longest]
        return resize(image, min(longest_short_side / min(height, width), 1.0))

    return decode


def cutout_decoder(side: int, margin: int) -> Callable[[Path], np.ndarray]:
    """Returns a function that reads a cut-out: RGB multiplied by alpha, and alpha.

    Args:
        side: height and width of the result; the cut-out is centred and brought to fill it.
        margin: transparent pixels that stay around it.
    """

    def decode(path: Path) -> np.ndarray:
        values, alpha = read_stored(path)
        if alpha is None:
            raise InputError("it is not an image with an alpha channel")
        rows, columns = (np.flatnonzero(alpha.any(axis=axis)) for axis in (1, 0))
        if not rows.size:
            raise InputError("it is transparent everywhere")
        # 16 bits by their whole range: a cut-out may be of one colour, with nothing to stretch.
        image = to_rgb(values >> 8 if values.dtype == np.uint16 else stretch(values))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        image, alpha = image[box], alpha[box][..., None]
        colour = np.round(image * (alpha / 255.0)).astype(np.uint8)
        image = np.concatenate([colour, alpha], axis=-1)
        image = resize(image, (side - 2 * margin) / max(image.shape[:2]))
        before = (side - np.array(image.shape[:2])) // 2
        after = side - np.array(image.shape[:2]) - before
        return np.pad(image, [*zip(before, after, strict=True), (0, 0)])

    return decode


def resize(image: np.ndarray, scale: float) -> np.ndarray:
    """Enlarges an image by bilinear interpolation, or reduces it by averaging."""
    height, width = image.shape[:2]
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def split_photos(photos: list, config: DataConfig) -> tuple[list, list]:
    """Splits into training and held-out photos: by a hash of the name, so that files that are
    added or renamed do not move the others."""
    if len(photos) == 1:
        _LOG.warning("%s has one photo: validation takes it too.", config.photos or photos[0])
        return photos, photos

    names = [_name(photo, config.photos) for photo in photos]
    held_out = hold_out(names, config.validation_share)
    sides = ([], [])
    for name, photo in zip(names, photos, strict=True):
        sides[name in held_out].append(photo)
    return sides


def _name(photo: Path | Record | Given, folder: str | None) -> str:
    if isinstance(photo, Given):
        return str(photo.number)
    if isinstance(photo, Record):
        return f"{photo.path.name}/{photo.number}"
    return photo.relative_to(folder).as_posix()


def hold_out(names: Iterable[str], share: float) -> set[str]:
    """Chooses a share of some names, at least one, by their hash alone."""

    def key(name: str) -> str:
        return hashlib.sha256(os.fsencode(name)).hexdigest()

    ordered = sorted(set(names), key=key)
    return set(ordered[: max(round(share * len(ordered)), 1)])
