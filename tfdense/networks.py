"""The networks by name, and the files that they are read from; without importing TensorFlow."""

import os
import types
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tfdense.config import Config, load_config
from tfdense.errors import InputError, printable, shown


class Preset(NamedTuple):
    """A network by name.

    Attributes:
        network: ``module:class`` below ``tfdense.models``.
        options: keyword arguments of the class.
        weights: name of the trained weights in ``tfdense.weights``, or None if none ship.
        licence: of these weights, as SPDX names it.
        trained_options: those in which the network of these weights differs from what a training
            starts with.
        smallest_side: of images that it takes, in px.
    """

    network: str
    options: dict
    weights: str | None = None
    licence: str | None = None
    trained_options: Mapping = types.MappingProxyType({})
    smallest_side: int = 1


PRESETS: dict[str, Preset] = {
    "pdcnet": Preset("pdcnet:PDCNet", {}, smallest_side=256),
    "pdcnet-plus": Preset("pdcnet:PDCNet", {"separate_pyramids": True}, smallest_side=256),
    "pdcnet-lite": Preset(
        "pdcnet_lite:PDCNetLite",
        {},
        "pdcnet_lite.weights.h5",
        "Apache-2.0",
        {"refinement_passes": 1},
        smallest_side=32,
    ),
    "pwc-unet": Preset("pwc_unet:PWCUNet", {}, smallest_side=64),
}


_EXPORTED = ", which is exported already and can be neither exported nor trained"


def is_preset(name: str | Path) -> bool:
    """Says whether a preset is meant rather than a file or folder: the one rule, used everywhere.

    A `Path` is always a path. A string that is a preset's name means the preset if its weights
    ship, whatever lies in the working directory; a preset without weights gives way to what is
    there by its name, since nothing else could be loaded. Any other string is a path.
    """
    if not isinstance(name, str) or name not in PRESETS:
        return False
    return PRESETS[name].weights is not None or not os.path.lexists(name)


def check_network(name: str, max_side: int | None = None) -> None:
    """Refuses a network that `tfdense.load` would refuse, as far as names and small files tell.

    Args:
        name: what `tfdense.load` takes.
        max_side: how much of an image the network is to see, in px.

    Raises:
        InputError: if there is no such network, the side is smaller than it takes, or given for
            one that has sizes of its own.
    """
    if is_preset(name):
        check_shipped(name)
        preset = name
    else:
        path = existing(name)
        if path.suffix == ".tflite" and max_side is not None:
            raise InputError(
                "Expected no max_side with a .tflite file, which has sizes of its own. "
                f"Received: {max_side}"
            )
        if path.suffix in (".tflite", ".keras") or newest_saved_model(path):
            return
        preset = read_run(path)[0].model.preset
    if max_side is not None and preset in PRESETS:
        check_max_side(max_side, PRESETS[preset].smallest_side)


def check_shipped(name: str) -> None:
    """Refuses a preset whose weights do not ship.

    Raises:
        InputError: which says how to come by some.
    """
    if name in PRESETS and PRESETS[name].weights is None:
        raise InputError(
            f"No trained weights of {name} ship with tfdense. Train it (python train.py), "
            "or, for PDC-Net, convert the authors' checkpoint (tfdense convert), and give the "
            f"folder, which may be called {name}."
        )


def check_max_side(max_side: int, least: int) -> None:
    """Refuses to show a network less than it takes.

    Raises:
        InputError: if `max_side` is below `least`, both in px.
    """
    if max_side < least:
        raise InputError(
            f"Expected max_side to be at least {least}, the smallest side that the network "
            f"takes. Received: {max_side}"
        )


def as_path(name: str | Path) -> Path:
    """Returns the path of a network that is no preset.

    Raises:
        InputError: if it is neither a text nor a path.
    """
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"Expected a preset's name or a path. Received: {shown(name)}")
    return Path(name)


def existing(name: str | Path) -> Path:
    """Returns the path of a network that is there.

    Raises:
        InputError: if it is no path, or nothing is there.
    """
    path = as_path(name)
    if not path.exists():
        raise InputError(
            f"There is no model {printable(str(path))}. Expected a preset "
            f"({', '.join(sorted(PRESETS))}), as a string, the folder of a run, its .weights.h5, a "
            ".keras file, an exported SavedModel or a .tflite file."
        )
    return path


def newest_saved_model(folder: Path) -> Path | None:
    """Finds a SavedModel: the folder itself, or the highest numbered version in it."""
    versions = [path for path in folder.glob("*/") if path.name.isdecimal()]
    for path in (folder, *sorted(versions, key=lambda path: int(path.name), reverse=True)):
        if (path / "saved_model.pb").is_file():
            return path
    return None


def read_run(path: Path) -> tuple[Config, Path]:
    """Reads the configuration of a run, and finds its weights.

    Args:
        path: the folder of the run, or a ``.weights.h5`` file in it.

    Returns:
        The configuration and the file of the weights.

    Raises:
        InputError: if there is no such run, or its configuration is none.
    """
    folder = path.parent if path.name.endswith(".weights.h5") else path
    if not (folder / "config.yaml").is_file():
        exported = path.is_file() and path.suffix in (".tflite", ".onnx")
        raise InputError(
            f"Expected a preset ({', '.join(sorted(PRESETS))}), as a string, or the folder of a "
            f"run, with config.yaml and weights in it. Received: {path}"
            f"{_EXPORTED if exported or newest_saved_model(path) else ''}"
        )
    config = load_config(folder / "config.yaml")
    return config, path if path != folder else _find_weights(folder)


def run_files(name: str | Path) -> list[Path]:
    """Lists the files that `load` may read of a run: its configuration and its weights.

    Args:
        name: the folder of a run or a file in one, which need not exist, or a preset, which is in
            none.
    """
    if is_preset(name):
        return []
    path = Path(name)
    if path.is_dir():
        return [path / "config.yaml", *sorted(path.glob("*.weights.h5"))]
    return [path, path.with_name("config.yaml")]


def _find_weights(folder: Path) -> Path:
    for name in ("best.weights.h5", "last.weights.h5"):
        if (folder / name).is_file():
            return folder / name
    files = list(folder.glob("*.weights.h5"))
    if len(files) == 1:
        return files[0]
    raise InputError(f"{folder} holds neither best.weights.h5 nor last.weights.h5.")
