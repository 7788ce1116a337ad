"""Building a network from its configuration, and loading it with its weights."""

import contextlib
import dataclasses
import importlib
import inspect
import threading
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfdense.config import Config, ModelConfig
from tfdense.errors import InputError, check_file, printable
from tfdense.models.keras_files import check_archive
from tfdense.networks import PRESETS, as_path, check_shipped, is_preset, read_run


def build(
    config: ModelConfig | str, precision: str = "float32", backbone_weights: bool = True
) -> keras.Model:
    """Builds a network with fresh weights and, where it has one, its pre-trained backbone.

    Args:
        config: names the preset and the options that differ from it; or the preset's name.
        precision: a Keras dtype policy.
        backbone_weights: whether to load those of the backbone; some have to be downloaded.

    Raises:
        InputError: if the preset or an option is unknown, or the backbone cannot be loaded.
    """
    if isinstance(config, str):
        config = ModelConfig(config)
    if config.preset not in PRESETS:
        raise InputError(
            f"Unknown preset {config.preset!r}. Expected one of {', '.join(sorted(PRESETS))}."
        )
    preset = PRESETS[config.preset]
    module, name = preset.network.split(":")
    network = getattr(importlib.import_module(f"tfdense.models.{module}"), name)
    try:
        with _SETTINGS_LOCK, _keras_settings(precision), tf.variable_creator_scope(_nameless):
            model = network(**{**preset.options, **config.options})
    except (TypeError, ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"Options of {config.preset}: {reason}") from None
    if backbone_weights and hasattr(model, "load_backbone_weights"):
        model.load_backbone_weights()
    return model


# The settings are the process's.
_SETTINGS_LOCK = threading.Lock()


@contextlib.contextmanager
def _keras_settings(policy: str) -> Iterator[None]:
    """Settings that layers take from Keras when they are made; the user's own are of no matter."""
    wanted = (
        (keras.config.dtype_policy, keras.config.set_dtype_policy, policy),
        (keras.config.floatx, keras.config.set_floatx, "float32"),
        (keras.config.image_data_format, keras.config.set_image_data_format, "channels_last"),
    )
    former = [get() for get, _, _ in wanted]
    try:
        for _, set_, value in wanted:
            set_(value)
        yield
    finally:
        for (_, set_, _), value in zip(wanted, former, strict=True):
            set_(value)


def _nameless(next_creator, **options) -> tf.Variable:
    # TensorFlow keeps 35 kB for ever for each new name of a variable, and Keras numbers those of
    # its layers; its own variables keep theirs.
    return next_creator(**{**options, "name": "variable/"})


def licence_of(name: str | Path) -> str | None:
    """Returns the licence of the weights that `load` loads; None if it is not known."""
    return PRESETS[name].licence if is_preset(name) else None


def load(name: str | Path) -> tuple[keras.Model, Config]:
    """Loads a trained network.

    Args:
        name: a preset whose weights ship with the package (a string), the folder of a run, a
            ``.weights.h5`` file in one, or a ``.keras`` file; `is_preset` tells them apart.

    Returns:
        The network and the configuration that it was trained with.

    Raises:
        InputError: if it is no name or path, there is no such run, or its weights do not fit or
            are not finite.
    """
    if is_preset(name):
        return _load_preset(name)
    path = as_path(name)
    if path.suffix == ".keras":
        return _load_keras(path)
    config, weights = read_run(path)
    model = build(config.model, backbone_weights=False)
    load_weights(model, weights)
    return model, config


def _load_preset(name: str) -> tuple[keras.Model, Config]:
    config = Config(name=name, model=as_shipped(ModelConfig(preset=name)))
    model = build(config.model, backbone_weights=False)
    load_shipped_weights(model, name)
    return model, config


def as_shipped(config: ModelConfig) -> ModelConfig:
    """Adds the options that the shipped weights of a preset were trained with.

    Raises:
        InputError: if none ship.
    """
    check_shipped(config.preset)
    preset = PRESETS.get(config.preset)
    trained = {} if preset is None else preset.trained_options
    return dataclasses.replace(config, options={**trained, **config.options})


def load_shipped_weights(model: keras.Model, name: str) -> None:
    """Loads the weights of a preset that come with tfdense."""
    with resources.as_file(resources.files("tfdense.weights") / PRESETS[name].weights) as path:
        load_weights(model, path)


def _load_keras(path: Path) -> tuple[keras.Model, Config]:
    check_file(path, "file")
    classes = {preset.network.split(":")[1]: name for name, preset in reversed(PRESETS.items())}
    try:
        check_archive(path, classes)
        with _keras_settings("float32"), tf.variable_creator_scope(_nameless):
            model = keras.models.load_model(path, compile=False, safe_mode=True)
        name = type(model).__name__
        preset = classes.get(name, name)  # a network of the reader's own has no other
    except InputError:
        raise
    except Exception as error:  # Keras and h5py raise errors of any type of what is damaged
        reason = printable((str(error).strip().splitlines() or [type(error).__name__])[0])
        raise InputError(f"{path} is not a network that Keras saved: {reason}") from None
    _refuse_not_finite(model, path)
    arguments = inspect.signature(type(model)).parameters
    options = {key: value for key, value in model.get_config().items() if key in arguments}
    return model, Config(name=path.stem, model=ModelConfig(preset=preset, options=options))


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Loads weights into a network.

    Raises:
        InputError: if the file is missing, belongs to another network or holds numbers that are
            not finite.
    """
    path = Path(path)
    check_file(path, "weights file")
    try:
        with warnings.catch_warnings():
            # Of another network's file Keras warns dozens of times before it raises.
            warnings.simplefilter("ignore")
            model.load_weights(path)
    except Exception as error:  # h5py raises errors of any type of what is damaged
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = printable(lines[0].partition(" Example error")[0])
        if reason.startswith("A total of"):  # which Keras says of layers, without their names
            reason = "its arrays are those of another network, or of other options"
        name = type(model).__name__
        raise InputError(f"{path} does not hold the weights of this {name}: {reason}") from None
    _refuse_not_finite(model, path)


def _refuse_not_finite(model: keras.Model, path: Path) -> None:
    for variable in model.variables:
        if not np.isfinite(variable.numpy()).all():
            raise InputError(f"{path}: {variable.path} holds values that are not finite (NaN).")
