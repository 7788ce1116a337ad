"""Forms that have a file of their own for each pair of images."""

from collections.abc import Callable
from pathlib import Path

from tfdense.errors import InputError
from tfdense.files import check_folder, replacing
from tfdense.results.spreading import DEFAULT_THRESHOLD

# What a name of a file cannot hold, or would make the names of two pairs equal.
_ESCAPED = str.maketrans({each: f"%{ord(each):02X}" for each in "%+/\\"})


class FilePerPair:
    """Writes ``SOURCE+TARGET.suffix`` for each pair, see `tfdense.formats.PairWriter`.

    Args:
        folder: for the files.
        write: takes path, match, threshold and cycle.
        ending: of the files' names.
        threshold, cycle: of what counts as matched, see `Match.matches`.
    """

    def __init__(
        self,
        folder: str | Path,
        write: Callable[..., None],
        ending: str,
        threshold: float = DEFAULT_THRESHOLD,
        cycle: float | None = None,
    ):
        check_folder(folder)
        self._folder, self._write, self._ending = Path(folder), write, ending
        self._threshold, self._cycle = threshold, cycle

    def add(self, source: str, target: str, match) -> list[Path]:
        """Writes the file of one pair; one that is there is replaced."""
        path = self._path(source, target)
        with replacing(path) as temporary:
            self._write(temporary, match, self._threshold, self._cycle)
        return [path]

    def has(self, source: str, target: str) -> bool:
        """Whether there is the file of a pair."""
        return self._path(source, target).is_file()

    def close(self) -> None:
        """Does nothing: each file is complete."""

    def __enter__(self) -> "FilePerPair":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def _path(self, source: str, target: str) -> Path:
        if not source or not target:
            raise InputError(f"Expected names of two images. Received: {source!r} and {target!r}")
        names = (name.translate(_ESCAPED) for name in (source, target))
        return self._folder / f"{'+'.join(names)}{self._ending}"
