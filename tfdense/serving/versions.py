"""The versions of a model in a folder: the newest answers, and a newer one takes its place."""

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
    its memory is freed when the last of them is answered.

    Args:
        folder: of the numbered versions, or one version.
        name: of the model.
        load: reads a version's folder, and warms it up.
        seconds: between two looks at the folder.
        loaded: is told each version that takes its place.

    Raises:
        InputError: if there is none, or it cannot be loaded.
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
        self._broken: dict[int, tuple[float, str]] = {}
        self._stop = threading.Event()
        newest = self._newest()
        if newest is None:
            raise InputError(f"Expected numbered versions of a SavedModel. Received: {folder}")
        self._current = newest[0], load(newest[1])
        loaded(newest[0])
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
        """Takes a newer version, if there is one."""
        newest = self._newest()
        if newest is None or newest[0] == self._current[0]:
            return
        version, path = newest
        changed = (path / "saved_model.pb").stat().st_mtime
        if self._broken.get(version, (None, ""))[0] == changed:
            return
        try:
            model = self._load(path)
        except Exception as error:  # the old one goes on whatever is wrong with the new
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self._broken[version] = changed, reason
            log("version refused", logging.ERROR, model=self.name, version=version, reason=reason)
            return
        self._broken.pop(version, None)
        former, self._current = self._current[0], (version, model)
        self._loaded(version)
        log("version changed", model=self.name, version=version, former=former)

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.look()
            except OSError as error:
                log("folder unreadable", logging.ERROR, reason=str(error))

    def _newest(self) -> tuple[int, Path] | None:
        if (self._folder / "saved_model.pb").is_file():
            name = self._folder.name
            return (int(name) if name.isdecimal() else 1), self._folder
        found = [
            (int(path.name), path)
            for path in self._folder.glob("*/")
            if path.name.isdecimal() and (path / "saved_model.pb").is_file()
        ]
        return max(found, default=None)
