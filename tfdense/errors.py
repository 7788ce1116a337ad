"""The errors a user can mend."""

from collections.abc import Iterable


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message says what was received and what was expected. The command line prints it
    without a stack trace and exits with status 2.
    """


class OutputError(InputError):
    """A file cannot be written where the user wants it, as on a full disk."""


def printable(text: str) -> str:
    """Returns a text in one line, with escapes for what does not print."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def listed(names: Iterable[str], most: int = 8) -> str:
    """Returns the first of some names in one line, and how many more there are."""
    names = list(names)
    shown = printable(", ".join(names[:most]))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
