"""Writes a training bundle: all that trains a network where TensorFlow is not installed.

A program of the bundle is the very step that `Trainer` takes, with the making of its pairs.
"""

import dataclasses
import gzip
import hashlib
import json
import shutil
import tempfile
import types
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdense import bundle
from tfdense.config import Config, save_config
from tfdense.errors import InputError
from tfdense.exporting.bundled_pairs import Pairs
from tfdense.exporting.signatures import match_fixed
from tfdense.exporting.stablehlo import Program, lower, versions
from tfdense.files import replacing
from tfdense.training.trainer import Trainer

_STEP = tf.TensorSpec([], tf.int64)


class Variant(NamedTuple):
    """One of the programs that train.

    Attributes:
        size: of the images of a pair.
        batch_size: pairs in a step.
        precision: a Keras dtype policy, see `TrainConfig`.
    """

    size: int
    batch_size: int
    precision: str

    def configure(self, config: Config) -> Config:
        """Returns the configuration with which TensorFlow does the same."""
        data = dataclasses.replace(config.data, size=self.size)
        train = dataclasses.replace(
            config.train, batch_size=self.batch_size, precision=self.precision
        )
        return dataclasses.replace(config, data=data, train=train)


def export_bundle(
    config: Config,
    folder: str | Path,
    pairs: Pairs,
    variants: Sequence[Variant] = (),
    match_sizes: Sequence[tuple[int, int]] = (),
    further: Mapping[str, tuple[Program, dict]] = types.MappingProxyType({}),
    begin: Callable[[str], object] = lambda name: None,
) -> dict:
    """Writes a bundle, which `tfdense.bundle` describes.

    Args:
        config: the experiment.
        folder: of the bundle; nothing may be there yet.
        pairs: what it trains on.
        variants: of the program, the first by default; none means that of the configuration. For
            each batch there is a program, too, that only makes it.
        match_sizes: (height, width) of images, for each of which there is a program that matches.
        further: other programs by name, each with what its entry in the manifest says beside.
        begin: is called with the name of each program before it is lowered, which takes a while.

    Returns:
        The manifest.

    Raises:
        InputError: if the folder exists, JAX is missing or the configuration does not fit.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"Expected a new folder for the bundle. {folder} exists already.")
    made_with = versions()
    if not variants:
        variants = [Variant(config.data.size, config.train.batch_size, config.train.precision)]
    with replacing(folder) as temporary:
        programs = {}
        for variant in variants:
            batch = f"{variant.size}x{variant.batch_size}"
            name = f"train-{batch}-{variant.precision}"
            begin(name)
            trainer = new_trainer(variant.configure(config))
            entry = write_program(temporary, name, lower_step(trainer, pairs))
            programs[name] = {**entry, **variant._asdict()}
            if f"pairs-{batch}" not in programs:
                begin(f"pairs-{batch}")
                program = lower_pairs(trainer.config, pairs)
                programs[f"pairs-{batch}"] = write_program(temporary, f"pairs-{batch}", program)
        for size in match_sizes:
            name = "match-{}x{}".format(*size)
            begin(name)
            programs[name] = write_program(temporary, name, lower_match(trainer, size))
        for name, (program, entry) in further.items():
            programs[name] = {**write_program(temporary, name, program), **entry}
        state = {name: variable.numpy() for name, variable in trainer.state.items()}
        (temporary / "state").mkdir()
        bundle.write_arrays(temporary / "state", state, compress=True)
        for name, array in pairs.arrays.items():
            _write_data(temporary / f"{name}.npz", array)
        save_config(temporary / "config.yaml", variants[0].configure(config))
        shutil.copy(bundle.__file__, temporary / "train.py")
        manifest = {
            "format": bundle.FORMAT,
            "versions": {"tfdense": metadata.version("tfdense"), **made_with},
            "steps": config.train.steps,
            "programs": programs,
            "state": {name: _describe(variable) for name, variable in trainer.state.items()},
            "data": list(pairs.arrays),
            "files": _hashes(temporary),
        }
        content = json.dumps(manifest, indent=1)
        (temporary / bundle.MANIFEST).write_text(content, encoding="utf-8")
    return manifest


def new_trainer(config: Config) -> Trainer:
    """Returns a trainer at its first step, which leaves nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        return Trainer(config, Path(folder))


def lower_step(trainer: Trainer, pairs: Pairs) -> Program:
    """Returns the program of a training step.

    It takes the arrays of the pairs, the number of the ``step`` and the trainer's state, and gives
    the ``loss``, the ``gradient_norm`` and what of the state has changed.
    """
    take = trainer.build_step()

    def step(arguments: dict) -> dict:
        loss, norm = take(_make(pairs, arguments, trainer.config))
        return {"loss": loss, "gradient_norm": norm}

    return lower(step, _arguments(pairs), trainer.state)


def lower_pairs(config: Config, pairs: Pairs) -> Program:
    """Returns the program that only makes a batch, of the same arrays."""
    return lower(lambda arguments: _make(pairs, arguments, config), _arguments(pairs), {})


def lower_match(trainer: Trainer, size: tuple[int, int]) -> Program:
    """Returns the program that matches two images, see `match_fixed`.

    Args:
        trainer: of the network.
        size: (height, width) of the images.
    """
    image = tf.TensorSpec([1, *size, 3], tf.uint8)

    def match(arguments: dict) -> dict:
        return match_fixed(trainer.model, arguments["source"], arguments["target"])

    return lower(match, {"source": image, "target": image}, trainer.state)


def write_program(folder: Path, name: str, program: Program) -> dict:
    """Writes a program to the ``programs`` of a bundle; returns its entry of the manifest."""
    file = Path("programs") / f"{name}.stablehlo.gz"
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(gzip.compress(program.content, mtime=0))
    inputs, outputs = (
        {key: _describe(spec) for key, spec in specs.items()}
        for specs in (program.inputs, program.outputs)
    )
    return {"file": file.as_posix(), "inputs": inputs, "outputs": outputs}


def _describe(spec) -> dict:
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype.name}


def _arguments(pairs: Pairs) -> dict[str, tf.TensorSpec]:
    specs = {name: tf.TensorSpec(x.shape, x.dtype) for name, x in pairs.arrays.items()}
    return {**specs, "step": _STEP}


def _make(pairs: Pairs, arguments: dict, config: Config) -> dict:
    return pairs.make({name: arguments[name] for name in pairs.arrays}, arguments["step"], config)


def _write_data(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    photos = array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] == 3
    np.savez_compressed(path, **(bundle.pack(array) if photos else {"values": array}))


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
