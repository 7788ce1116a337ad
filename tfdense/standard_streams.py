"""Standard output and error as they come: of any encoding, closed, a full disk, a broken pipe."""

import contextlib
import os
import sys
from typing import TextIO

from tfdense.errors import OutputError


def prepare() -> None:
    """Makes printing safe: it raises neither for a character nor because a stream is closed.

    What the encoding does not have is written as in Python's source, such as ``\\u0432``: a Windows
    console and a redirected output often have few characters, and names of files any.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # It gets this number, the lowest free one, which the next file would have got.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def complain(message: str) -> None:
    """Prints to standard error, if that can be written to."""
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def flush() -> None:
    """Writes what was printed to standard output.

    Raises:
        BrokenPipeError: if nobody reads it any more.
        OutputError: if it cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"Cannot write to standard output: {error.strerror}.") from None


def _discard(stream: TextIO) -> None:
    """Drops what could not be written; else Python tries again at its end, and complains."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
