"""Finding the images of a pair."""

from pathlib import Path

import numpy as np

from tfdense.images import SUFFIXES, read_image


def read_source_and_target(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads ``source`` and ``target``, images of any format, from the folder of a pair."""
    source, target = (only_image(folder, stem) for stem in ("source", "target"))
    return read_image(source), read_image(target)


def only_image(folder: Path, stem: str) -> Path:
    """Returns the path of the image of that name, whatever its format."""
    images = (path for path in folder.glob(f"{stem}.*") if path.suffix.lower() in SUFFIXES)
    return min(images, default=folder / f"{stem}.jpg")


def image_places(folder: Path) -> list[Path]:
    """Returns where the images may be that a list in a folder names: there, or one level below."""
    return [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]


def read_listed_image(places: list[Path], name: str, scene: str = "") -> np.ndarray:
    """Reads an image, given relative to one of some folders or to the scene's folder in them.

    Raises:
        InputError: if none of them holds it.
    """
    paths = (path for place in places for path in (place / name, place / scene / name))
    return read_image(next((path for path in paths if path.is_file()), places[0] / name))
