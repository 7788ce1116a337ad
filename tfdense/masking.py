"""Pixels that do not count: no-data, what a mask excludes, transparent ones. Needs numpy alone.

A mask is bool [height, width], True where a pixel counts; None says that all do. What is masked is
shown to the network as noise, another in each image, so that nothing matches it whatever was there;
and where the target is masked, or its match in the source, the confidence is 0.
"""

import numpy as np

from tfdense.errors import InputError

# What is shown in the place of masked pixels, repeated over the image.
NOISE = {
    role: np.random.default_rng(seed).integers(0, 256, (61, 67, 3), np.uint8)
    for seed, role in enumerate(("source", "target"))
}
# A network that sees at most so many pixels a side shrinks a larger image, and with it its noise,
# which is therefore as coarse as what the network will see.
CELLS = 640
# Of a pixel of which nothing is known, in log px².
UNKNOWN_LOG_VARIANCE = np.float32(np.log(1e6))


def as_mask(mask, size: tuple[int, int], name: str) -> np.ndarray:
    """Returns a mask given as an array.

    Args:
        mask: numbers or bool [height, width]; what is above half of the largest counts, be that 1
            or 255.
        size: (height, width) of the image.
        name: what it is, for the message.

    Raises:
        InputError: if it is no such array.
    """
    mask = np.asarray(mask)
    numbers = mask.dtype.kind in "buif"
    if not numbers or not np.isfinite(mask).all():
        received = mask[~np.isfinite(mask)][0] if numbers else mask.dtype
        raise InputError(
            f"Expected the {name} to be of finite numbers or booleans. Received: {received}"
        )
    if mask.shape != tuple(size):
        raise InputError(
            f"Expected the {name} to have the image's height and width, {tuple(size)}. "
            f"Received: {mask.shape}"
        )
    return mask > mask.max() / 2


def hide(image: np.ndarray, mask: np.ndarray | None, role: str) -> np.ndarray:
    """Puts noise in the place of what is masked.

    Of black, the mean colour, noise and what goes on smoothly from the border, noise changes the
    flow of the other pixels least.

    Args:
        image: uint8 [height, width, 3].
        mask: its mask.
        role: "source" or "target", whose noises differ.

    Returns:
        uint8 [height, width, 3]; the image itself where all of it counts.
    """
    if mask is None:
        return image
    height, width = mask.shape
    cell = -(-max(height, width) // CELLS)
    rows, columns = np.arange(height)[:, None] // cell, np.arange(width) // cell
    noise = NOISE[role][rows % NOISE[role].shape[0], columns % NOISE[role].shape[1]]
    return np.where(mask[..., None], image, noise)


def is_masked(
    flow: np.ndarray, source_mask: np.ndarray | None, target_mask: np.ndarray | None
) -> np.ndarray:
    """Tells where the target is masked, or the place in the source that its match needs.

    A place between pixels needs all that surround it. One outside of the source is not masked.

    Args:
        flow: (dx, dy) in px of the source, [height, width, 2].
        source_mask: of the source, of any size.
        target_mask: of the target, [height, width].

    Returns:
        bool [height, width].
    """
    masked = np.zeros(flow.shape[:2], bool) if target_mask is None else ~target_mask
    if source_mask is None:
        return masked
    height, width = source_mask.shape
    x = flow[..., 0] + np.arange(flow.shape[1], dtype=flow.dtype)
    y = flow[..., 1] + np.arange(flow.shape[0], dtype=flow.dtype)[:, None]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    for row in (np.floor(y), np.ceil(y)):
        for column in (np.floor(x), np.ceil(x)):
            masked = masked | (inside & ~source_mask[row.astype(int), column.astype(int)])
    return masked
