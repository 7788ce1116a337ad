"""Matches in the forms that other programs read: one table of names, one module a form.

A writer takes a match, whatever computed it: of it, it reads `flow`, `confidence`, `radius`,
`source` and `target`, and asks `matches` for single ones. For many pairs of the same images, a
writer is opened once and takes one pair after the other::

    with tfdense.formats.open("colmap", "out") as writer:
        for source, target in pairs:
            if not writer.has(source, target):
                writer.add(source, target, matcher.match(source, target))

What `add` has written stays, whatever comes after; a writer that is opened again goes on.
"""

import functools
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from tfdense.errors import InputError
from tfdense.files import replacing_in
from tfdense.formats.file_per_pair import FilePerPair
from tfdense.results.spreading import DEFAULT_THRESHOLD


class Format(NamedTuple):
    """A form of results.

    Attributes:
        writer: ``module:name`` below ``tfdense.formats``: a function that writes a file of one
            match or, where all pairs go into the same files, a class that is a `PairWriter`.
        files: what it writes for one pair, names in the folder.
        content: what these hold.
    """

    writer: str
    files: tuple[str, ...]
    content: str

    def load(self):
        """Imports what writes it."""
        module, _, name = self.writer.partition(":")
        return getattr(importlib.import_module(f"tfdense.formats.{module}"), name)

    @property
    def gathers(self) -> bool:
        """Whether all pairs go into the same files."""
        return isinstance(self.load(), type)


FORMATS: dict[str, Format] = {
    "npz": Format("npz:write", ("match.npz",), "arrays of NumPy"),
    "flo": Format("flo:write", ("flow.flo",), "Middlebury's flow"),
    "kitti": Format("kitti:write", ("flow_kitti.png",), "KITTI's flow"),
    "confidence8": Format("confidence:write8", ("confidence_8bit.png",), "confidence, grey"),
    "confidence16": Format("confidence:write16", ("confidence_16bit.png",), "confidence, grey"),
    "csv": Format("table:write", ("matches.csv",), "the best matches"),
    "hloc": Format("hloc:HlocWriter", ("features.h5", "matches.h5"), "hloc's features and matches"),
    "colmap": Format("colmap:ColmapWriter", ("database.db",), "COLMAP's database"),
}
"""Every form by its name."""


class PairWriter(Protocol):
    """Writes the matches of pairs of images, one after the other, to a folder."""

    def add(self, source: str, target: str, match) -> list[Path]:
        """Writes one pair.

        Args:
            source, target: names of the images, as the reader of the files knows them.
            match: a `tfdense.results.match.Match`.

        Returns:
            The files that now hold it.

        Raises:
            InputError: if the pair is there already, or an image of this name had another size.
            OutputError: if it cannot be written; what was there before stays.
        """

    def has(self, source: str, target: str) -> bool:
        """Whether the folder holds this pair."""

    def close(self) -> None:
        """Ends the writing."""

    def __enter__(self) -> "PairWriter": ...

    def __exit__(self, *error) -> None: ...


def files(names: Iterable[str]) -> list[str]:
    """Returns the names of the files that `save` writes.

    Raises:
        InputError: if there is no such form.
    """
    for name in names:
        if name not in FORMATS:
            raise InputError(f"Expected a format of {', '.join(FORMATS)}. Received: {name!r}")
    return [file for name in names for file in FORMATS[name].files]


def open(name: str, folder: str | Path, **options) -> PairWriter:
    """Opens the writer of a form.

    Args:
        name: one of `FORMATS`.
        folder: is made if it does not exist. ``hloc`` and ``colmap`` gather all pairs in their
            files; the other forms have a file for each pair, named by both images.
        **options: of the form: `threshold` and `cycle`, what counts as matched, see
            `Match.matches`, for all; for others see the function or class.

    Raises:
        InputError: if there is no such form, or the folder holds something else by its files'
            names.
    """
    files([name])
    writer = FORMATS[name].load()
    if FORMATS[name].gathers:
        return writer(folder, **options)
    suffix = Path(FORMATS[name].files[0]).suffix
    ending = suffix if suffix[1:] == name else f".{name}{suffix}"
    selection = {name: options.pop(name) for name in ("threshold", "cycle") if name in options}
    return FilePerPair(folder, functools.partial(writer, **options), ending, **selection)


def save(match, folder: str | Path, names: Iterable[str], *images: str, **options) -> list[Path]:
    """Writes one match in several forms.

    Args:
        match: see `tfdense.results.match.Match`.
        folder: is made if it does not exist. Each file is replaced in one step; others stay.
        names: of `FORMATS`.
        *images, **options: see `write`.

    Returns:
        The files.

    Raises:
        InputError: if there is no such form.
        OutputError: if the files cannot be written.
    """
    names = [*names]
    written = [Path(folder, name) for name in files(names)]
    with replacing_in(folder) as temporary:
        write(match, temporary, names, *images, **options)
    return written


def write(
    match,
    folder: Path,
    names: Iterable[str],
    source: str = "source",
    target: str = "target",
    threshold: float = DEFAULT_THRESHOLD,
    cycle: float | None = None,
) -> None:
    """Writes as `save`, but straight to a folder, in which there must be no such files.

    Args:
        match, folder, names: see `save`.
        source, target: names of the images, for the forms that hold them.
        threshold, cycle: of what counts as matched, see `Match.matches`.
    """
    for form in (FORMATS[name] for name in names):
        writer = form.load()
        if form.gathers:
            with writer(folder, threshold=threshold, cycle=cycle) as pairs:
                pairs.add(source, target, match)
        else:
            (file,) = form.files
            writer(folder / file, match, threshold, cycle)
