"""Dense image matching with a calibrated confidence: PDC-Net in TensorFlow and Keras."""

from importlib import import_module as _import_module
from importlib import metadata as _metadata

from tfdense.keras_objects import announce as _announce

__all__ = ["__version__", "load"]

__version__ = _metadata.version("tfdense")

_announce()

# Loaded on use, as in `load`: TensorFlow takes seconds to import.
_PARTS = (
    "addons",
    "config",
    "data",
    "formats",
    "layers",
    "losses",
    "metrics",
    "mixture",
    "models",
    "ops",
    "photometric",
)


def __getattr__(name: str):
    if name in _PARTS:
        return _import_module(f"tfdense.{name}")
    raise AttributeError(f"module 'tfdense' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_PARTS})


def load(
    name_or_path,
    setting: str = "base",
    *,
    max_side: int | None = None,
    fill: bool | None = None,
    tiles: tuple[int, int] | bool | None = None,
    mode: str | None = None,
):
    """Loads a network for matching.

    Args:
        name_or_path: a preset whose weights ship with the package, the folder of a run, a
            ``.weights.h5`` file in one, a ``.keras`` file, an exported SavedModel (its folder, or
            the folder above with numbered versions, of which the newest is taken) or an exported
            ``.tflite`` file.
            A preset goes before a folder of its name (give ``./NAME``), unless no weights of it
            ship and the folder is a run.
        setting: how the network is used, of which the others give single parts. "turbo", "fast" and
            "base" match once, from fast to exact. "precise" also finds large changes of view, at
            any turn and scale, and gives every pixel a flow. "plane" follows one homography
            everywhere: documents, maps, panoramas.
        max_side: the images are shrunk so far that the longer side of what the network sees is at
            most this, in px. A larger value needs more memory and time. A ``.tflite`` file has a
            size of its own.
        fill: whether pixels that the network is uncertain of get the flow of the certain ones
            around them.
        tiles: whether `match` matches a target that is larger than what the network sees a second
            time, in tiles that show it the target's own pixels; or their numbers (rows, columns),
            from 1 to 100 each. The time grows with the pixels, the memory hardly.
        mode: "direct", "multiscale" (the mode of PDC-Net's authors), "wide-baseline" or "plane",
            see `tfdense.inference.modes`.

    Returns:
        A `tfdense.matcher.Matcher`: ``tfdense.load(...).match(source, target)``. Threads
        may share it. Other processes may get it, if they are started with "spawn": after a fork,
        TensorFlow does not work.

    Raises:
        InputError: if there is no such network, mode, setting or tiles, `max_side` is no whole
            number, `fill` neither True nor False, or the network cannot be loaded.
    """
    from tfdense.startup import check_keras

    check_keras()

    from tfdense import matcher
    from tfdense.inference.settings import resolve

    return matcher.load(name_or_path, *resolve(setting, max_side, mode, fill, tiles))
