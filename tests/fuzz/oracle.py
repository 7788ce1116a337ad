"""What every target of the fuzzing is held to: the shared oracle.

An input is either taken or refused with a reason. While it is tried, nothing may start a program,
connect to the network, unpickle, unmarshal or write outside of the folder of the test. The process
may not die, hang or fill the memory; the input that it tries lies on the disk meanwhile.
"""

import contextlib
import faulthandler
import json
import marshal
import os
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np

from tfdense.errors import InputError

INPUTS = int(os.environ.get("FUZZ_INPUTS", "400"))
"""To try in each target."""
SECONDS = float(os.environ.get("FUZZ_SECONDS", "40"))
"""That each target may take; what was not tried by then is left out."""
RECORDS = Path(os.environ.get("FUZZ_RECORDS", "runs/fuzz")).absolute()
"""Folder of the input that is tried, and of how many were."""

_HANGS_AFTER = 30.0
_MOST_MEMORY = 3 * 2**30

# Events of Python's audit hooks that no reader of data causes.
_NEVER = frozenset(
    {"os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn"}
    | {"subprocess.Popen", "pickle.find_class", "socket.connect", "socket.getaddrinfo"}
    | {"urllib.Request", "ctypes.dlopen", "code.__new__", "function.__new__"}
)
_CHANGES = frozenset(
    {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
    | {"os.chmod", "shutil.rmtree", "shutil.move", "shutil.unpack_archive"}
)
_LOADERS = ("<frozen importlib", "<frozen zipimport")


class Finding(Exception):
    """What an input did that none may."""


class Watch:
    """Notes what is forbidden while it is armed; audit hooks stay for the life of the process."""

    def __init__(self):
        self.folder: Path | None = None
        self.seen: list[str] = []
        self.trusted: int | None = None
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if self.folder is None or threading.get_ident() == self.trusted:
            return
        if event in _NEVER or (event == "marshal.loads" and not _is_import(sys._getframe(1))):
            if not _is_import(sys._getframe(1)):
                self.seen.append(f"{event} {str(arguments)[:200]}")
        elif event == "import" and arguments[0] == CANARY:
            self.seen.append(f"import {CANARY}")
        elif event in _CHANGES or (event == "open" and _writes(arguments)):
            two = event in ("os.rename", "os.link", "os.symlink")
            # Of `shutil.rmtree`: a name in the folder of this descriptor.
            folder = arguments[-1] if event in ("os.remove", "os.rmdir") else -1
            for name in arguments[: 2 if two else 1]:
                if isinstance(name, (str, bytes, os.PathLike)):
                    name = os.fsdecode(name)
                    if folder not in (-1, None):
                        name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
                    if not self._is_inside(name):
                        self.seen.append(f"{event} {name!r}")

    def _is_inside(self, name: str) -> bool:
        path = os.path.realpath(name)
        return path.startswith((f"{self.folder}/", "/dev/null")) or path == str(self.folder)


def _is_import(frame) -> bool:
    """Whether a module that is imported late does this: by then it is one that is installed."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_LOADERS):
            return True
        frame = frame.f_back
    return False


def _writes(arguments: tuple) -> bool:
    _, mode, flags = (*arguments, None, None)[:3]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


CANARY = "tfdense_fuzz_canary"
"""A module that hostile files name: importing it, or calling what it holds, is a finding."""

_watch = Watch()


@contextlib.contextmanager
def by_the_test():
    """What this thread does meanwhile is the test's own: to connect to its server, say."""
    _watch.trusted = threading.get_ident()
    try:
        yield
    finally:
        _watch.trusted = None


def fuzz(strategy, *, prepare: Callable | None = None, inputs: int = INPUTS) -> Callable:
    """Makes a test of a target: a function of a fixture ``trial`` and of one drawn input.

    Args:
        strategy: of Hypothesis, of the inputs.
        prepare: makes of the folder of the test what the target finds as ``trial.whole``.
        inputs: how many at most.
    """

    def decorate(target: Callable) -> Callable:
        def test(trial):
            trial.whole = prepare and prepare(trial.folder)
            trial.begin(f"{target.__module__.rpartition('.')[2]}.{target.__name__}")

            @hypothesis.settings(
                max_examples=inputs,
                deadline=None,
                database=None,
                suppress_health_check=list(hypothesis.HealthCheck),
                phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
            )
            @hypothesis.given(strategy)
            def every(drawn):
                if trial.is_over():
                    return
                with trial.one(drawn):
                    target(trial, drawn)

            every()
            trial.end()

        test.__name__, test.__doc__ = target.__name__, target.__doc__
        test.__module__ = target.__module__
        return test

    return decorate


class Trial:
    """The inputs of one target, one after the other.

    Args:
        folder: the only one that may be written to.
        refusals: the errors that are refusals, each of which has to say something.

    Attributes:
        folder: the same.
    """

    def __init__(self, folder: Path, refusals: tuple[type[Exception], ...] = (InputError,)):
        self.folder = Path(os.path.realpath(folder))
        self.refusals = refusals
        RECORDS.mkdir(parents=True, exist_ok=True)

    def begin(self, name: str) -> None:
        """Starts to count."""
        self._name = name
        self._last = RECORDS / f"{name}.last"
        # Not the standard error, which pytest takes.
        self.trace = open(RECORDS / f"{name}.trace", "w")  # noqa: SIM115
        self._start = time.monotonic()
        self._tried = self._refused = 0
        self._failed = False

    def is_over(self) -> bool:
        """Whether the time is used up; what failed is still made small."""
        return not self._failed and time.monotonic() - self._start > SECONDS

    def one(self, drawn):
        """The context in which one input is tried; it takes refusals for what they are."""
        return _One(self, drawn)

    def end(self) -> None:
        """Writes down how many were tried, which were not found to do anything wrong."""
        self.trace.close()
        for path in (self._last, Path(self.trace.name)):
            path.unlink(missing_ok=True)
        line = {
            "target": self._name,
            "inputs": self._tried,
            "refused": self._refused,
            "seconds": round(time.monotonic() - self._start, 1),
        }
        with open(RECORDS / "counts.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        assert self._tried, "no input was tried"


class _One:
    def __init__(self, trial: Trial, drawn):
        self._trial = trial
        content = drawn if isinstance(drawn, bytes) else repr(drawn).encode(errors="replace")
        trial._last.write_bytes(content[: 2**24])

    def __enter__(self):
        trial = self._trial
        trial._tried += 1
        self._memory = _peak_memory()
        faulthandler.dump_traceback_later(_HANGS_AFTER, exit=True, file=trial.trace)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        _watch.seen, _watch.folder = [], trial.folder

    def __exit__(self, kind, error, traceback) -> bool:
        trial = self._trial
        _watch.folder, seen = None, _watch.seen
        self._warnings.__exit__(None, None, None)
        faulthandler.cancel_dump_traceback_later()
        grown = _peak_memory() - self._memory
        refused = isinstance(error, trial.refusals)
        if seen:
            reason = f"it did what no input may: {'; '.join(seen)}"
        elif grown > _MOST_MEMORY:
            reason = f"it took {grown / 2**30:.1f} GiB of memory"
        elif refused and not str(error).strip():
            reason = f"it was refused by {kind.__name__} without a reason"
        elif refused and len(str(error).splitlines()) > 1:
            reason = f"it was refused in more than one line: {error}"
        elif error is not None and not refused and isinstance(error, Exception):
            trial._failed = True
            return False
        else:
            trial._refused += refused
            return refused
        trial._failed = True
        raise Finding(reason) from error


def _peak_memory() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def small_answer(values: np.ndarray, most: int = 2**28) -> None:
    """What was read has to be an array of some plain type, and not a bomb."""
    if values.dtype.kind not in "buifc" or values.nbytes > most:
        raise Finding(f"it was read as {values.dtype} {values.shape}")


def evil_pickles() -> list[bytes]:
    """Pickles that call something when they are loaded as Python does."""
    return [
        b"cos\nsystem\n(S'touch hostile'\ntR.",
        f"c{CANARY}\nrun\n(tR.".encode(),
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
        b"cbuiltins\nexec\n(S'import tfdense_fuzz_canary'\ntR.",
    ]


def evil_code() -> str:
    """Base64 of marshalled code, as a Lambda layer of Keras holds it."""
    import base64

    code = compile(f"import {CANARY}", "hostile", "exec")
    return base64.b64encode(marshal.dumps(code)).decode()
