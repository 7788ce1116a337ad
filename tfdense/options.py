"""Values of the command line's options: how a text is read, and several of them."""

import argparse
from collections.abc import Callable, Collection
from typing import TypeVar

from tfdense.errors import InputError, printable, shown

Value = TypeVar("Value")

_MOST_DIGITS = 18


def one(read: Callable[[str], Value]) -> Callable[[str], Value]:
    """Returns the `type` of an option for `argparse.ArgumentParser.add_argument`.

    Args:
        read: returns the value of a text, or raises an InputError, whose message is shown.
    """

    def parse(text: str) -> Value:
        try:
            return read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def positive(text: str) -> int:
    """Reads a whole number of at least 1.

    Raises:
        InputError: if the text is none.
    """
    # Thousands of digits are no number to int().
    if not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) < 1:
        raise InputError(f"Expected a whole number of at least 1. Received: {shown(text)}")
    return int(text)


def several(read: Callable[[str], object]) -> dict:
    """Returns what makes an option take several values, joined by commas or by repeating it.

    With `nargs` it would take the words that stand behind it, too.

    Args:
        read: see `one`.

    Returns:
        Keyword arguments of `argparse.ArgumentParser.add_argument`. The values are a list, after
        those of the default.
    """
    return {"type": one(lambda text: [read(word) for word in text.split(",")]), "action": "extend"}


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """Returns what refuses, with an InputError, each text but some names."""

    def read(text: str) -> str:
        if text not in names:
            raise InputError(f"Expected any of {', '.join(names)}. Received: {printable(text)}")
        return text

    return read
