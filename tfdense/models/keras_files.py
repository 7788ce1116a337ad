"""What is looked at in Keras' files before Keras reads them.

An archive (``.keras``) names the objects that Keras makes of it, and Python code among them where a
layer is a ``Lambda``; HDF5 may take arrays from other files, and few bytes of either may stand for
more than there is memory. What a network of tfdense does not need is refused.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from tfdense.errors import InputError, shown
from tfdense.models.network import MatchingNetwork
from tfdense.models.weight_files import check_size, count_arrays

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {_CONFIG, _WEIGHTS, "metadata.json"}
_LARGEST_CONFIG = 2**20
# Beside what is registered: what computes nothing, or only numbers to start from.
_KERAS = {"keras.initializers", "keras.regularizers", "keras.constraints"}
_POLICIES = {"DTypePolicy", "FloatDTypePolicy", "DTypePolicyMap"}


def check_archive(path: Path, presets: Mapping[str, str]) -> None:
    """Makes sure that an archive holds a network, and nothing that Keras would execute.

    Args:
        path: of the archive.
        presets: names of the networks that it may hold, by their classes. It may also hold one of
            the reader's own, whose class is registered.

    Raises:
        InputError: if it holds another network.
        ValueError: if it does not hold any, or more.
    """
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if {_CONFIG, _WEIGHTS} - members.keys():
            raise ValueError(f"it has no {_CONFIG} or no {_WEIGHTS}")
        if others := sorted(members.keys() - _MEMBERS):
            raise ValueError(f"it holds {others[0]}, which a network does not need")
        size = path.stat().st_size
        check_size(sum(member.file_size for member in members.values()), size)
        if members[_CONFIG].file_size > _LARGEST_CONFIG:
            raise ValueError(f"its {_CONFIG} has more than {_LARGEST_CONFIG >> 20} MiB")
        try:
            config = json.loads(archive.read(_CONFIG))
        except RecursionError:
            raise ValueError(f"its {_CONFIG} is nested too deep") from None
        if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
            raise ValueError(f"its {_CONFIG} describes no network")
        name = config.get("class_name")
        known = isinstance(name, str) and _is_registered(config)
        if not known or not (name in presets or _is_own(config)):
            raise InputError(
                f"{path} should hold one of the networks of {', '.join(sorted(presets.values()))}, "
                "or a MatchingNetwork of your own whose class is registered: import its module "
                f"first. Received: a {shown(name).strip(chr(39))}"
            )
        # How it was compiled is not read.
        _check_objects([config["config"], config.get("build_config")])
        count_arrays(io.BytesIO(archive.read(_WEIGHTS)), size)


def _check_objects(value: Any) -> None:
    """Refuses objects that Keras would make, unless they are known to compute nothing."""
    if isinstance(value, list):
        for each in value:
            _check_objects(each)
    elif isinstance(value, dict):
        if "class_name" in value and not (_is_registered(value) or _is_plain(value)):
            name = f"{value.get('module')}.{value['class_name']}"
            raise ValueError(f"it would make a {name}, which no network of tfdense needs")
        for each in value.values():
            _check_objects(each)


def _is_registered(value: dict) -> bool:
    # Keras finds a class by the one name, a function by the other.
    name = value.get("registered_name")
    registered = isinstance(name, str) and keras.saving.get_registered_object(name) is not None
    return registered and value["class_name"] == name.rpartition(">")[2]


def _is_own(value: dict) -> bool:
    kind = keras.saving.get_registered_object(value["registered_name"])
    return isinstance(kind, type) and issubclass(kind, MatchingNetwork)


def _is_plain(value: dict) -> bool:
    module, name = value.get("module"), value["class_name"]
    if value.get("registered_name") is not None or not isinstance(name, str):
        return False
    return module in _KERAS or (module == "keras" and name in _POLICIES)
