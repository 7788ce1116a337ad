"""Weights and checkpoints: PyTorch's files, Keras' HDF5, and what a training goes on from."""

import io
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from mutations import EDITS, apply, members_mutated, mutated, zipped
from oracle import evil_pickles, fuzz, small_answer

from tfdense.models.presets import load_weights
from tfdense.torch_files import read_state_dict
from tfdense.training.checkpoints import restored

pytestmark = pytest.mark.fuzz

_TORCH = Path(__file__).resolve().parents[1] / "torch_files"
_SEQUENCES = [(_TORCH / f"{name}.pth").read_bytes() for name in ("sequence", "unsigned")]
_ARCHIVES = [(_TORCH / "archive.pth").read_bytes()]


def _zips_of_pickles() -> list[bytes]:
    return [
        zipped({"a/data.pkl": each, "a/version": b"3\n", "a/data/0": bytes(8)})
        for each in evil_pickles()
    ]


_ZIP_BOMB = zipped({"a/data.pkl": bytes(2**22), "a/data/0": bytes(2**22)}, 8)


def _read_torch(trial, content: bytes) -> None:
    path = trial.folder / "network.pth"
    path.write_bytes(content)
    for values in read_state_dict(path).values():
        small_answer(values)


@fuzz(mutated(_SEQUENCES))
def test_torch_sequences(trial, content):
    _read_torch(trial, content)


@fuzz(mutated(_ARCHIVES) | members_mutated(_ARCHIVES))
def test_torch_archives(trial, content):
    _read_torch(trial, content)


_HOSTILE = [*evil_pickles(), *_zips_of_pickles(), _ZIP_BOMB]


@fuzz(st.sampled_from(_HOSTILE) | mutated(_HOSTILE))
def test_hostile_torch_files(trial, content):
    _read_torch(trial, content)


def _network() -> keras.Model:
    layers = [keras.layers.Conv2D(2, 3, name="a"), keras.layers.BatchNormalization(name="b")]
    return keras.Sequential([keras.Input((8, 8, 3)), *layers], name="network")


_NETWORK = _network()


def _weights(tmp: Path) -> bytes:
    _NETWORK.save_weights(tmp / "network.weights.h5")
    return (tmp / "network.weights.h5").read_bytes()


def _load(trial, content: bytes) -> None:
    path = trial.folder / "network.weights.h5"
    path.write_bytes(content)
    load_weights(_NETWORK, path)


@fuzz(EDITS, prepare=_weights)
def test_weights(trial, edits):
    _load(trial, apply(trial.whole, edits))


_KERNEL = "layers/conv2d/vars/0"
_STRUCTURES = {
    "external link": lambda file: _put(file, h5py.ExternalLink("/etc/hostname", "/x")),
    "soft link to itself": lambda file: _put(file, h5py.SoftLink(f"/{_KERNEL}")),
    "link to nothing": lambda file: _put(file, h5py.SoftLink("/nowhere")),
    "external storage": lambda file: _data(
        file, shape=(3, 3, 3, 2), dtype="f4", external=[("/etc/passwd", 0, 216)]
    ),
    "huge": lambda file: _data(file, shape=(2**20, 2**20), dtype="f4", chunks=(64, 64)),
    "huge and right in rank": lambda file: _data(
        file, shape=(2**14, 2**14, 3, 2**10), dtype="f4", chunks=(1, 1, 1, 8)
    ),
    "packed": lambda file: _data(file, data=np.zeros((2**12, 2**12), "f4"), compression="gzip"),
    "strings": lambda file: _data(file, data=["a", "b"]),
    "objects": lambda file: _data(file, shape=(2,), dtype=h5py.special_dtype(vlen=np.uint8)),
    "complex": lambda file: _data(file, data=np.zeros((3, 3, 3, 2), "c8")),
    "empty": lambda file: _data(file, data=h5py.Empty("f4")),
    "not finite": lambda file: _data(file, data=np.full((3, 3, 3, 2), np.nan, "f4")),
    "a group": lambda file: (file.pop(_KERNEL), file.create_group(_KERNEL)),
    "nothing": lambda file: file.pop("layers"),
    "deep": lambda file: file.create_group("/".join("a" * 900)),
}


def _put(file, link) -> None:
    file.pop(_KERNEL)
    file[_KERNEL] = link


def _data(file, **options) -> None:
    file.pop(_KERNEL)
    file.create_dataset(_KERNEL, **options)


@fuzz(st.tuples(st.sampled_from(sorted(_STRUCTURES)), EDITS), prepare=_weights)
def test_structures_of_weights(trial, drawn):
    name, edits = drawn
    buffer = io.BytesIO(trial.whole)
    with h5py.File(buffer, "r+") as file:
        _STRUCTURES[name](file)
    _load(trial, apply(buffer.getvalue(), edits[:2]))


def _checkpoint() -> tf.train.Checkpoint:
    return tf.train.Checkpoint(model=[tf.Variable(tf.ones([4, 5]))], step=tf.Variable(3))


@fuzz(
    st.tuples(st.sampled_from(["index", "data-00000-of-00001", "checkpoint"]), EDITS),
    prepare=lambda folder: tf.train.CheckpointManager(_checkpoint(), str(folder / "whole"), 2).save(
        7
    ),
)
def test_checkpoints_of_a_training(trial, drawn):
    name, edits = drawn
    whole, folder = trial.folder / "whole", trial.folder / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    path = folder / ("checkpoint" if name == "checkpoint" else f"ckpt-7.{name}")
    path.write_bytes(apply(path.read_bytes(), edits))
    restored(_checkpoint(), folder, "network")
