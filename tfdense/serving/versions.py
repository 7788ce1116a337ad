"""The versions of a model in a folder: the newest answers, and a newer one takes its place."""

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfdense.errors import InputError
from tfdense.serving.logs import log
from tfdense.serving.refusal import Refusal


class Versions:
    """Loads the newest version of a folder, and each that is published later.

    A new version is loaded and warmed up while the old one answers. Requests that run keep theirs;
    its memory is freed when the last of them is answered. One that cannot be loaded is reported,
    and tried again when its files have changed; the next older one is taken in its place.

    Args:
        folder: of the numbered versions, or one version.
        name: of the model.
        load: reads a version's folder, and warms it up.
        seconds: between two looks at the folder.
        loaded: is told each version that takes its place.

    Raises:
        InputError: if there is none, or none can be loaded.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        load: Callable[[Path], Any],
        seconds: float = 2.0,
        loaded: Callable[[int], None] = lambda version: None,
    ):
        self.name = name
        self._folder, self._load, self._seconds, self._loaded = folder, load, seconds, loaded
        self._current: tuple[int, Any] | None = None
        self._broken: dict[int, tuple[list, str]] = {}
        self._stop = threading.Event()
        self.look()
        if self._current is None:
            if not self._broken:
                raise InputError(f"Expected numbered versions of a SavedModel. Received: {folder}")
            _, reason = self._broken[max(self._broken)]
            raise InputError(f"No version in {folder} can be loaded: {reason}")
        self._thread = threading.Thread(target=self._watch, daemon=True, name="versions")
        self._thread.start()

    def get(self, version: int | None = None) -> tuple[int, Any]:
        """Returns the version that answers, and its model.

        Raises:
            Refusal: if another version is asked for.
        """
        current = self._current
        if version is not None and version != current[0]:
            raise Refusal(
                404, f"{self.name} is served in version {current[0]}. Received: version {version}"
            )
        return current

    def states(self) -> dict[int, str]:
        """Returns what is wrong with each version that was looked at; nothing of the current."""
        broken = {version: reason for version, (_, reason) in self._broken.items()}
        return {**broken, self._current[0]: ""}

    def close(self) -> None:
        """Looks for no more versions."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Takes the newest version that can be loaded, unless it answers already."""
        for version, path in self._found():
            if self._current is not None and version == self._current[0]:
                return
            if self._take(version, path):
                return

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.look()
            except OSError as error:
                log("folder unreadable", logging.ERROR, reason=str(error))

    def _take(self, version: int, path: Path) -> bool:
        """Lets a version answer; returns whether it can be loaded."""
        state = _state(path)
        if self._broken.get(version, (None, ""))[0] == state:
            return False
        try:
            model = self._load(path)
        except Exception as error:  # the old one goes on whatever is wrong with the new
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self._broken[version] = state, reason
            log("version refused", logging.ERROR, model=self.name, version=version, reason=reason)
            return False
        self._broken.pop(version, None)
        former, self._current = self._current, (version, model)
        self._loaded(version)
        if former is not None:
            log("version changed", model=self.name, version=version, former=former[0])
        return True

    def _found(self) -> list[tuple[int, Path]]:
        """Returns the versions in the folder, the newest first."""
        if (self._folder / "saved_model.pb").is_file():
            name = self._folder.name
            return [(int(name) if name.isdecimal() else 1, self._folder)]
        found = [
            (int(path.name), path)
            for path in self._folder.glob("*/")
            if path.name.isdecimal() and (path / "saved_model.pb").is_file()
        ]
        return sorted(found, reverse=True)


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """Returns what tells whether the files in a folder have changed: their sizes and times."""
    state = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # gone since it was listed
            status = path.stat()
            state.append((str(path), status.st_size, status.st_mtime_ns))
    return state
