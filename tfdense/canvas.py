"""Putting images and lines of text together to a picture.

Images and pictures are RGB, uint8 [height, width, 3], on white.
"""

from collections.abc import Sequence

import cv2
import numpy as np

INK = (40, 40, 40)
GAP = 12

_BACKGROUND = (255, 255, 255)
_LINE_HEIGHT = 22
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT_SCALE = 0.5
_LARGEST_ASPECT = 4.0


def blank(width: int, height: int) -> np.ndarray:
    """Returns an empty picture."""
    return np.full((height, width, 3), _BACKGROUND, np.uint8)


def box_for(image: np.ndarray, area: float) -> tuple[int, int]:
    """Returns (width, height) of a box of that area and, within 1:4 to 4:1, the image's aspect."""
    aspect = image.shape[1] / image.shape[0]
    aspect = min(max(aspect, 1 / _LARGEST_ASPECT), _LARGEST_ASPECT)
    return round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)


def fit(image: np.ndarray, box: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales an image into the middle of a box (width, height).

    Returns:
        The picture, the scale (x, y) and the image's offset (x, y) in the box.
    """
    size = np.array(image.shape[1::-1])
    fitted = np.maximum(1, np.round(size * (np.array(box) / size).min())).astype(int)
    x, y = offset = (np.array(box) - fitted) // 2
    method = cv2.INTER_AREA if fitted[0] < size[0] else cv2.INTER_LINEAR
    picture = blank(*box)
    scaled = cv2.resize(image, fitted.tolist(), interpolation=method)
    picture[y : y + fitted[1], x : x + fitted[0]] = scaled
    return picture, fitted / size, offset


def row(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Puts pictures side by side, aligned at the top."""
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] + GAP for picture in pictures) - GAP
    result, x = blank(width, height), 0
    for picture in pictures:
        result[: picture.shape[0], x : x + picture.shape[1]] = picture
        x += picture.shape[1] + GAP
    return result


def stack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Puts pictures one below the other, aligned at the left."""
    return row([picture.swapaxes(0, 1) for picture in pictures]).swapaxes(0, 1)


def framed(picture: np.ndarray) -> np.ndarray:
    """Adds a margin."""
    return cv2.copyMakeBorder(picture, *[GAP] * 4, cv2.BORDER_CONSTANT, value=_BACKGROUND)


def titled(picture: np.ndarray, title: str) -> np.ndarray:
    """Adds a line of text above."""
    return np.concatenate([text_line(title, picture.shape[1]), picture])


def panel(image: np.ndarray, box: tuple[int, int], title: str) -> np.ndarray:
    """Scales an image into a box (width, height) and adds a title."""
    return titled(fit(image, box)[0], title)


def text_line(text: str, width: int) -> np.ndarray:
    """Writes a line of ASCII, in smaller letters where `width` does not suffice."""
    text = text.encode("ascii", "replace").decode()  # OpenCV dies of what is not UTF-8.
    line = blank(width, _LINE_HEIGHT)
    (natural, _), _ = cv2.getTextSize(text, _FONT, _TEXT_SCALE, 1)
    scale = _TEXT_SCALE * min(1.0, width / natural)
    cv2.putText(line, text, (0, 15), _FONT, scale, INK, 1, cv2.LINE_AA)
    return line
