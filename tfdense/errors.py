"""The errors a user can mend."""

import reprlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message says what was received and what was expected. The command line prints it
    without a stack trace and exits with status 2.
    """


class OutputError(InputError):
    """A file cannot be written where the user wants it, as on a full disk."""


def exit_status(program: str, run: Callable[[], object]) -> int:
    """Does the work of a script, and tells of a mistake of the user in one line.

    Args:
        program: its name.
        run: does the work.

    Returns:
        The exit status: 0, or 2 after an InputError or OSError, which standard error names.
    """
    try:
        run()
    except (InputError, OSError) as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    return 0


def check_file(path: Path, what: str) -> None:
    """Makes sure that there is a file.

    Args:
        path: as the user gave it.
        what: it should be, such as "weights file".

    Raises:
        InputError: if there is none, or something else by that name.
    """
    name = printable(str(path))
    if path.is_dir():
        raise InputError(f"Expected a {what}. Received a folder: {name}")
    if not path.exists():
        raise InputError(f"There is no {what} {name}.")
    if not path.is_file():
        raise InputError(f"Expected a {what}. Received: {name}, which is no regular file.")


def printable(text: str) -> str:
    """Returns a text in one line, with escapes for what does not print."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def shown(value: object, most: int = 80) -> str:
    """Returns what was received in one line, and no more of it than helps."""
    try:
        # It abbreviates what is nested, however often it holds the same.
        text = reprlib.repr(value)
    except Exception:  # an object's own
        text = type(value).__name__
    text = " ".join(printable(text.replace("\n", " ")).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def listed(names: Iterable[str], most: int = 8) -> str:
    """Returns the first of some names in one line, and how many more there are."""
    names = list(names)
    shown = printable(", ".join(names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
