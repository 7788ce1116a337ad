"""The folder of a long job: what it was asked for, and a line of JSON for each part done."""

import json
from collections.abc import Mapping
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # on Windows, where nothing keeps two processes apart
    fcntl = None

from tfdense.errors import InputError
from tfdense.files import append, reporting, write_text

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
        settings: all that the results depend on; ``settings.json`` keeps it.

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
            name = min(k for k in former | settings if former.get(k) != settings.get(k))
            raise InputError(
                f"{folder} holds results of other settings: {name} was {former.get(name)!r}, is "
                f"{settings.get(name)!r}. Choose another output."
            )
        self._lock = _locked(self._path) if self._path.is_file() else None
        self.entries = _read_lines(self._path)

    def add(self, entry: dict) -> None:
        """Adds an entry, once what it speaks of is written.

        Raises:
            InputError: if another process has begun the same job meanwhile.
        """
        if self._unwritten is not None:
            content = json.dumps(self._unwritten, indent=2) + "\n"
            write_text(self.folder / _SETTINGS, content)
            self._unwritten = None
        if self._lock is None:
            self._lock = _locked(self._path)
            if self._path.stat().st_size:
                raise _occupied(self.folder)
        append(self._path, json.dumps(entry, ensure_ascii=False) + "\n")
        self.entries.append(entry)


def _locked(path: Path):
    """Keeps other processes away from a file as long as what this returns is there."""
    with reporting(path):
        file = open(path, "ab")  # noqa: SIM115 - stays open
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _occupied(path.parent) from None
        except OSError:
            pass  # Some file systems know no locks.
    return file


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
    try:
        entries = [json.loads(line) for line in whole.splitlines()]
    except ValueError:
        entries = [None]
    if not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path} is not what tfdense writes. Choose another output.")
    return entries
