"""The folder of a long job: what it was asked for, and a line of JSON for each part done."""

import json
import os
import weakref
from collections.abc import Mapping
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # on Windows, where nothing keeps two processes apart
    fcntl = None

from tfdense.errors import InputError
from tfdense.files import append, reporting, write_text

CONTENT = "what the network's files and tfdense hold"
"""The setting that is a hash of both."""

_SETTINGS = "settings.json"


class JobFolder:
    """Keeps what a job has done, so that it can be broken off at any moment and go on.

    One process at a time adds to it.

    Attributes:
        folder: of the job.
        entries: what was added, in this run and in former ones.

    Args:
        folder: is made, or read if it is there.
        name: of the file with a line for each entry.
        settings: all that the results depend on, what can be read first: of several that differ
            from those of a former run, an error names the first. ``settings.json`` keeps them.

    Raises:
        InputError: if the folder holds results of other settings, or something else by that name,
            or another process is at work there.
    """

    def __init__(self, folder: Path, name: str, settings: Mapping):
        self.folder = folder
        self._path = folder / name
        settings = json.loads(json.dumps(settings))
        former = _read_settings(folder / _SETTINGS)
        # Written with the first entry: what fails before leaves nothing.
        self._unwritten = settings if former is None else None
        if former not in (None, settings):
            name = next(k for k in settings | former if former.get(k) != settings.get(k))
            raise InputError(
                f"{folder} holds results of other settings: {name} was {former.get(name)!r}, is "
                f"{settings.get(name)!r}. Choose another output."
            )
        self._locked = False
        if self._path.is_file():
            self._lock()
        self.entries = _read_lines(self._path)

    def add(self, entry: dict) -> None:
        """Adds an entry, once what it speaks of is written.

        Raises:
            InputError: if another process has begun the same job meanwhile.
        """
        if not self._locked:
            self._lock()
            if self._path.stat().st_size:
                raise _occupied(self.folder)
        if self._unwritten is not None:
            content = json.dumps(self._unwritten, indent=2) + "\n"
            write_text(self.folder / _SETTINGS, content)
            self._unwritten = None
        append(self._path, json.dumps(entry, ensure_ascii=False) + "\n")
        self.entries.append(entry)

    def _lock(self) -> None:
        """Keeps other processes away as long as this object is there."""
        with reporting(self._path):
            self.folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        weakref.finalize(self, os.close, file)
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _occupied(self.folder) from None
            except OSError:
                pass  # Some file systems know no locks.
        self._locked = True


def _occupied(folder: Path) -> InputError:
    return InputError(
        f"Another process is at work in {folder}. Wait for its end, or choose another output."
    )


def _read_settings(path: Path) -> dict | None:
    try:
        settings = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise InputError(f"{path} is not what tfdense writes. Choose another output.")
    return settings


def _read_lines(path: Path) -> list[dict]:
    """Reads the entries; what a process that was killed left of a last line is cut off."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    whole, end, rest = content.rpartition(b"\n")
    if rest:
        with path.open("r+b") as file:
            file.truncate(len(whole) + len(end))
    entries = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            entries.append(json.loads(line))
        except ValueError:
            entries.append(None)
        if not isinstance(entries[-1], dict):
            raise InputError(
                f"{path}, line {number}, is not what tfdense writes. Remove the line, or choose "
                "another output."
            )
    return entries
