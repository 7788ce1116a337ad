"""Finding the files of a pair."""

import glob
from pathlib import Path

import numpy as np

from tfdense.errors import InputError
from tfdense.images import SUFFIXES, read_image


def any_case(pattern: str) -> str:
    """Returns a pattern for `glob` whose suffix matches in small and in capital letters."""
    stem, dot, suffix = pattern.rpartition(".")
    letters = (f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in suffix)
    return f"{stem}{dot}{''.join(letters)}" if dot else pattern


def find_files(folder: Path, pattern: str) -> list[Path]:
    """Lists the files below a folder that match a pattern, in order; suffixes in any case."""
    return sorted(path for path in folder.glob(any_case(pattern)) if path.is_file())


def pair_folders(folder: Path, truth: str) -> list[Path]:
    """Lists the folders of pairs: with a ground truth of that name, or at least with a source.

    Without any ground truth below the folder none is one: it holds another kind of data.
    """
    complete = {path.parent for path in find_files(folder, f"*/{truth}")}
    started = {path.parent for path in find_files(folder, "*/source.*")}
    return sorted(complete | started) if complete else []


def file_in(folder: Path, name: str) -> Path:
    """Returns the path of the file of that name in a folder, its suffix in any case."""
    path = folder / name
    if path.is_file():
        return path
    return next(iter(find_files(folder, glob.escape(name))), path)


def read_source_and_target(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads ``source`` and ``target``, images of any format, from the folder of a pair."""
    source, target = (only_image(folder, stem) for stem in ("source", "target"))
    return read_image(source), read_image(target)


def only_image(folder: Path, stem: str, usual: str = ".jpg") -> Path:
    """Returns the path of the image of that name, whatever its format.

    Args:
        folder: in which it lies.
        stem: its name without the suffix; it may hold dots.
        usual: the suffix that is missed if there is none.

    Raises:
        InputError: if there are several.
    """
    images = sorted(
        path
        for path in folder.iterdir()
        if path.stem == stem and path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if len(images) > 1:
        names = " and ".join(path.name for path in images)
        raise InputError(f"Expected one image {stem} in {folder}. Received: {names}.")
    return images[0] if images else folder / f"{stem}{usual}"


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


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a text file: UTF-8, but for names of files, which may hold any bytes."""
    return path.read_text("utf-8-sig", "surrogateescape").splitlines()
