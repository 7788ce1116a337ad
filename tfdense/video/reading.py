"""The frames of a film, a camera or a folder of images."""

import os
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
            yield from map(read_image, find_images(self.source))
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


def open_film(source: str) -> Film:
    """Looks at a file, a folder of images, in the order of their names, or a camera by its number.

    Raises:
        InputError: if it cannot be opened or holds no frame.
    """
    if Path(source).is_dir():
        return Film(source, _USUAL_RATE, len(find_images(source)), False)
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
