"""Keeping native libraries from printing."""

import contextlib
import os
from collections.abc import Iterator


def import_tensorflow() -> None:
    """Imports TensorFlow, and keeps back what its native code prints meanwhile.

    It greets with several lines about the machine before any setting of its own can quieten it,
    and a one-line error message of ours would drown in them. Errors are raised as ever.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what the process prints to standard error; for where no other thread runs."""
    standard_error = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
        os.close(nowhere)
