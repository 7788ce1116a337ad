"""Dense image matching with a calibrated confidence: PDC-Net in TensorFlow and Keras."""

from importlib import import_module as _import_module
from importlib import metadata as _metadata

from tfdense.keras_objects import announce as _announce

__all__ = ["__version__", "load"]

__version__ = _metadata.version("tfdense")

_announce()

# Loaded on use, as in `load`: TensorFlow takes seconds to import.
_PARTS = ("addons", "data", "formats", "layers", "losses", "metrics", "models", "ops")


def __getattr__(name: str):
    if name in _PARTS:
        return _import_module(f"tfdense.{name}")
    raise AttributeError(f"module 'tfdense' has no attribute {name!r}")


def load(
    name_or_path,
    max_side: int | None = None,
    mode: str | None = None,
    setting: str = "base",
    fill: bool | None = None,
    tiles: tuple[int, int] | bool | None = None,
):
    """Loads a network for matching.

    Args:
        name_or_path: a preset whose weights ship with the package, the folder of a run, a
            ``.weights.h5`` file in one, a ``.keras`` file, an exported SavedModel (its folder, or
            the folder above with numbered versions, of which the newest is taken) or an exported
            ``.tflite`` file.
            A preset goes before a folder of its name (give ``./NAME``), unless no weights of it
            ship and the folder is a run.
        max_side: the images are shrunk so far that the longer side of what the network sees is at
            most this, in px. A larger value needs more memory and time. A ``.tflite`` file has a
            size of its own. None takes the setting's.
        mode: "direct" runs the network once. "homography" runs it twice: the second time on the
            source warped by the homography that the first one found, for large changes of view.
            "multiscale" runs it eight times, to find the homography at several scales.
            "wide-baseline" runs it 13 to 25 times, twelve of them small, to find it for images that
            are turned or strongly enlarged. "plane" follows that homography everywhere. A network
            with a level at full resolution seeks without it, and runs once or twice more to answer.
            None takes the setting's.
        setting: a choice of these: "turbo" (320 px, direct, without the level at full resolution),
            "fast" (480 px, direct), "base" (640 px, direct) or "precise" (960 px, wide-baseline,
            filled).
        fill: whether pixels that the network is uncertain of get the flow of the certain ones
            around them. None takes the setting's.
        tiles: whether `match` matches a target that is larger than what the network sees a second
            time, in tiles that show it the target's own pixels; or their numbers (rows, columns).
            The time grows with the pixels, the memory hardly. None takes the setting's.

    Returns:
        A `tfdense.inference.matcher.Matcher`: ``tfdense.load(...).match(source, target)``. Threads
        may share it. Other processes may get it, if they are started with "spawn": after a fork,
        TensorFlow does not work.

    Raises:
        InputError: if there is no such network, mode, setting or tiles, or it cannot be loaded.
    """
    from tfdense.startup import check_keras

    check_keras()

    from tfdense.inference import matcher
    from tfdense.inference.settings import resolve

    return matcher.load(name_or_path, *resolve(setting, max_side, mode, fill, tiles))
