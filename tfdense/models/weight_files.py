"""What is looked at in files of weights before Keras reads them."""

from collections.abc import Iterator
from typing import Any

import h5py

# So much larger than the file may be what is read of it, beside what is little.
_MOST_TIMES, _LITTLE = 100, 2**20
_OPTIMIZER = "optimizer"


def count_arrays(file: Any, size: int) -> int:
    """Returns how many arrays a file of weights holds, beside those of an optimiser.

    Args:
        file: its path, or it itself, open.
        size: of it, in bytes.

    Raises:
        ValueError: if it takes them from other files, or they are far larger than it.
    """
    with h5py.File(file) as opened:
        sizes = list(_sizes(opened))
        # A network that is compiled has its optimiser written, too.
        others = opened.get(_OPTIMIZER)
        count = len(sizes) - (0 if others is None else len(list(_sizes(others))))
    check_size(sum(sizes), size)
    return count


def check_size(found: int, size: int) -> None:
    """Refuses a file of which more bytes would be read than its own size lets expect.

    Raises:
        ValueError: if it stands for far more than it holds.
    """
    if found > _MOST_TIMES * size + _LITTLE:
        raise ValueError(f"its {size} bytes stand for {found}")


def _sizes(group: h5py.Group) -> Iterator[int]:
    """Yields the bytes of each array."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"its {name} is a link")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _sizes(item)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ValueError(f"its array {name} lies in another file")
            yield (item.size or 0) * item.dtype.itemsize
