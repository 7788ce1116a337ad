"""Putting pictures together to a film."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from tfdense.errors import OutputError
from tfdense.files import replacing
from tfdense.images import read_image

LINES, PICTURES, ARRAYS, TRACKS = "frames.jsonl", "frames", "arrays", "tracks.csv"
VIEW, STABILISED = "view", "stabilised"
FILES = (f"{VIEW}.mp4", f"{STABILISED}.mp4", TRACKS, LINES)
"""The names of what is written of a film, beside the folders `ARRAYS` and `PICTURES`."""

_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80"}


def write_film(path: Path, pictures: Iterable[Path], rate: float) -> None:
    """Writes a film of pictures, which are brought to the size of the first one.

    Args:
        path: ends in .mp4, .avi or .webm.
        pictures: image files, at least one.
        rate: frames a second.

    Raises:
        OutputError: if it cannot be written.
    """
    with replacing(path, cv2.error) as temporary:
        writer = None
        try:
            for picture in map(read_image, pictures):
                if writer is None:
                    # Codecs halve the resolution of colour.
                    size = tuple(max(2, side // 2 * 2) for side in picture.shape[1::-1])
                    codec = cv2.VideoWriter_fourcc(*_CODECS[path.suffix])
                    writer = cv2.VideoWriter(str(temporary), codec, rate, size)
                    if not writer.isOpened():
                        raise OutputError(f"Cannot write to {path}: OpenCV lacks its codec.")
                writer.write(cv2.cvtColor(_fitted(picture, size), cv2.COLOR_RGB2BGR))
        finally:
            if writer is not None:
                writer.release()
        if not temporary.is_file() or not temporary.stat().st_size:
            raise OutputError(f"Cannot write to {path}: OpenCV wrote nothing.")


def _fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    width, height = size
    if picture.shape[0] - height in (0, 1) and picture.shape[1] - width in (0, 1):
        return picture[:height, :width]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
