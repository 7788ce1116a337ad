"""What published protocols do to images before they are matched."""

import numpy as np


def short_side_size(shape: tuple, side: int, multiple: int) -> tuple[int, int]:
    """Returns the (height, width) of an image resized to a shorter side.

    Args:
        shape: of the image, (height, width, ...).
        side: the shorter side, in px.
        multiple: each side is rounded to px and then lowered to a multiple of this.
    """
    scale = side / min(shape[:2])
    height, width = (round(length * scale) // multiple * multiple for length in shape[:2])
    return height, width


def pad_alike(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pads images [height, width, 3] with black, at the right and below, to a common size."""
    height, width = np.maximum(source.shape[:2], target.shape[:2])
    return tuple(
        np.pad(image, [(0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)])
        for image in (source, target)
    )


def resize_lanczos(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image to (height, width) by Lanczos' filter of three lobes, as Pillow does.

    Where the image shrinks, the filter is as much wider, so that nothing aliases.

    Args:
        image: uint8 [height, width, 3].
        size: (height, width).
    """
    rows, columns = (_lanczos_matrix(n, m) for n, m in zip(image.shape[:2], size, strict=True))
    resized = np.einsum("iy,yxc,jx->ijc", rows, image, columns, optimize=True)
    return np.rint(resized).clip(0, 255).astype(np.uint8)


def _lanczos_matrix(size: int, new_size: int) -> np.ndarray:
    """Returns the weights of the old pixels in each new one, [new_size, size]."""
    step = size / new_size
    width = max(step, 1.0)
    centres = (np.arange(new_size) + 0.5) * step - 0.5
    distance = (np.arange(size) - centres[:, None]) / width
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return weights / weights.sum(axis=1, keepdims=True)
