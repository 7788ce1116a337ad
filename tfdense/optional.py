"""Packages that only some uses need: importing them with one clear line where they are absent."""

import contextlib
from collections.abc import Iterator

from tfdense.errors import InputError

_PACKAGES = {"cv2": "opencv-python-headless", "PIL": "pillow"}


@contextlib.contextmanager
def needed_for(use: str) -> Iterator[None]:
    """A context in which what a use needs is imported.

    Args:
        use: what for, as the first words of the message.

    Raises:
        InputError: if a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        package = _PACKAGES.get(name, name)
        raise InputError(
            f"{use} needs the package {package}, which is not installed: pip install {package}"
        ) from None
