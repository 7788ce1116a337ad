"""The frames of a film, a camera or a folder of images."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tfdense.errors import InputError, printable
from tfdense.images import find_images, read_image
from tfdense.startup import quiet

# Of what does not say it, in frames a second.
_USUAL_RATE = 25.0
# Of a film, by which another one of its name is noticed.
_BEGINNING = 2**20
_TEXT = cv2.VideoWriter_fourcc(*"ansi")


class Film(NamedTuple):
    """Frames in their order.

    Attributes:
        source: what `open_film` was given.
        rate: frames a second.
        count: how many there are, as far as the file says; None of a camera.
        is_camera: whether it is live: nothing of it can be read again.
    """

    source: str
    rate: float
    count: int | None
    is_camera: bool

    def frames(self) -> Iterator[np.ndarray]:
        """Yields the frames, uint8 [height, width, 3], RGB."""
        if Path(self.source).is_dir():
            yield from map(read_image, _images(self.source))
            return
        capture = _open(self.source)
        try:
            while True:
                more, frame = capture.read()
                if not more:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()

    def fingerprint(self) -> str | None:
        """Returns a hash of how it begins; None of a camera.

        Of a folder it is that of the first image, so that further ones may come.
        """
        if self.is_camera:
            return None
        path = Path(self.source)
        beginning = _images(path)[0] if path.is_dir() else path
        with beginning.open("rb") as file:
            return hashlib.sha256(file.read(_BEGINNING)).hexdigest()[:16]


def open_film(source: str) -> Film:
    """Looks at a file, a folder of images, in the order of their names, or a camera by its number.

    Numbers in the names count as such: 10.png comes after 9.png. Folders within are left out.

    Raises:
        InputError: if it cannot be opened or holds no frame.
    """
    if not source:
        raise InputError("Expected a film, a folder of images or a camera's number. Received: ''")
    if Path(source).is_dir():
        return Film(source, _USUAL_RATE, len(_images(source)), False)
    is_camera = _is_camera(source)
    with quiet():  # OpenCV's libraries print of a file that is none
        capture = _open(source)
        try:
            # FFmpeg makes a film of a text, too.
            is_text = int(capture.get(cv2.CAP_PROP_FOURCC)) == _TEXT
            if not is_camera and (is_text or not capture.grab()):
                raise _unreadable(source)
            rate = capture.get(cv2.CAP_PROP_FPS)
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        finally:
            capture.release()
    known = not is_camera and count > 0
    plausible = np.isfinite(rate) and 0 < rate <= 1000
    return Film(source, rate if plausible else _USUAL_RATE, count if known else None, is_camera)


def _images(folder: str | Path) -> list[Path]:
    images = [path for path in find_images(folder) if path.parent == Path(folder)]
    if not images:
        raise InputError(f"No images in {folder} itself. Expected those of a film, not in folders.")
    return sorted(images, key=_by_numbers)


def _by_numbers(path: Path) -> list:
    """Returns what to sort names by: texts and numbers in turns."""
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _is_camera(source: str) -> bool:
    return source.isdecimal() or source.startswith("/dev/video")


def _open(source: str) -> cv2.VideoCapture:
    if not _is_camera(source) and not Path(source).exists():
        raise InputError(
            f"There is no film {printable(source)}. Expected a file, a folder of images or a "
            "camera's number."
        )
    # Of broken frames, too; FFmpeg looks at this when it is first used.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not capture.isOpened():
        raise _unreadable(source)
    return capture


def _unreadable(source: str) -> InputError:
    what = "no camera that can be opened" if _is_camera(source) else "no film that can be read"
    return InputError(f"{printable(source)} is {what}.")
