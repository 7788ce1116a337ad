"""What a job has done so far: a line of JSON for each pair."""

from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from tfdense.errors import InputError
from tfdense.job_folder import JobFolder
from tfdense.pairs.lists import MANIFEST, NamedPair

MATCHED, FAILED = "matched", "failed"


class Manifest:
    """The manifest of a job's folder.

    It holds an object for each pair that was tried, with ``source``, ``target`` and ``status``:
    "matched" with the ``files`` of the result, relative to the folder, or "failed" with the
    ``reason``. Of several lines of a pair the last one counts.

    Args:
        folder, settings: see `JobFolder`.

    Raises:
        InputError: if the folder holds results of other settings.
    """

    def __init__(self, folder: Path, settings: Mapping):
        self._job = JobFolder(folder, MANIFEST, settings)
        try:
            self._entries = {_pair(entry): entry for entry in self._job.entries}
        except (KeyError, TypeError):
            raise InputError(
                f"{folder / MANIFEST} is not what tfdense match-pairs writes."
            ) from None

    @property
    def folder(self) -> Path:
        """The folder of the job."""
        return self._job.folder

    def missing(
        self, pairs: Iterable[NamedPair], lost: Container[NamedPair] = ()
    ) -> list[NamedPair]:
        """Returns the pairs without a result; those that failed or were `lost` count among them."""
        return [pair for pair in pairs if pair in lost or not self._has(self._entries.get(pair))]

    def failures(self, pairs: Iterable[NamedPair]) -> list[dict]:
        """Returns the entries of those pairs that failed."""
        entries = (self._entries.get(pair) for pair in pairs)
        return [entry for entry in entries if entry and entry["status"] == FAILED]

    def add(self, entry: dict) -> None:
        """Adds the entry of a pair, once its result is written."""
        self._job.add(entry)
        self._entries[_pair(entry)] = entry

    def _has(self, entry: dict | None) -> bool:
        return (
            entry is not None
            and entry["status"] == MATCHED
            and all((self.folder / name).exists() for name in entry["files"])
        )


def failed(pair: NamedPair, reason: str) -> dict:
    """Returns the entry of a pair that cannot be matched."""
    return {**pair._asdict(), "status": FAILED, "reason": " ".join(reason.split())}


def _pair(entry: dict) -> NamedPair:
    return NamedPair(entry["source"], entry["target"])
