"""Importing TensorFlow and Keras: quietly, and as this package needs them."""

import contextlib
import os
from collections.abc import Iterator

from tfdense.errors import InputError

_OTHER_BACKENDS = ("jax", "numpy", "openvino", "torch")


def import_tensorflow() -> None:
    """Imports TensorFlow, and keeps back what its native code prints meanwhile.

    It greets with several lines about the machine before any setting of its own can quieten it,
    and a one-line error message of ours would drown in them. Errors are raised as ever.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        check_keras()
        import tensorflow  # noqa: F401


def check_keras() -> None:
    """Imports Keras.

    Raises:
        InputError: if a package is not installed, it runs on another backend than TensorFlow, or
            cannot be imported as it is set up, which its own messages do not say.
    """
    try:
        import keras

        problem = ""
        backend = keras.config.backend()
    except (ImportError, AttributeError, AssertionError, ValueError) as error:
        _refuse_missing(error)
        problem = f" ({error or type(error).__name__})"
        backend = None
    if backend != "tensorflow":
        variable = os.environ.get("KERAS_BACKEND")
        folder = os.environ.get("KERAS_HOME", os.path.join("~", ".keras"))
        file = os.path.join(folder, "keras.json")
        setting = f"KERAS_BACKEND={variable}" if variable else f"what {file} says"
        raise InputError(
            "Expected Keras with TensorFlow as its backend. Received: "
            f"{setting}{problem}. Set the environment variable KERAS_BACKEND=tensorflow"
            f"{'' if variable else f', or mend {file}'}."
        )


def _refuse_missing(error: Exception) -> None:
    if not isinstance(error, ModuleNotFoundError):
        return
    package = (error.name or "").partition(".")[0]
    # Another backend is not missing, but set up.
    if package not in _OTHER_BACKENDS:
        raise InputError(
            f"This needs the package {package}, which is not installed: pip install {package}. "
            "With a .tflite file, tfdense.lite.LiteMatcher matches without TensorFlow and Keras."
        ) from None


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
