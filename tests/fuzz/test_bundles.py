"""Training bundles and their checkpoints."""

import hashlib
import io
import json
import shutil

import numpy as np
import pytest
from hypothesis import strategies as st
from mutations import EDITS, apply, zipped
from oracle import evil_pickles, fuzz, small_answer

from tfdense import bundle

pytestmark = pytest.mark.fuzz

_STATE = {
    "model/0000": np.arange(6, dtype=np.float32).reshape(2, 3),
    "average/0000": np.full([2, 3], 0.25, np.float32),
    "optimizer/0000": np.array(2**40),
}


@pytest.fixture
def trial(trial):
    trial.refusals = (bundle.BundleError,)
    return trial


def _whole(trial) -> tuple:
    """Writes a bundle with one checkpoint; returns it, and the files of it."""
    folder, copy = trial.folder / "whole", trial.folder / "bundle"
    if not folder.exists():
        (folder / "state").mkdir(parents=True)
        hashes = bundle.write_arrays(folder / "state", _STATE)
        files = {f"state/{name}": value for name, value in hashes.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **bundle.pack(np.zeros([1, 32, 32, 3], np.uint8)))
        (folder / "photos.npz").write_bytes(buffer.getvalue())
        files["photos.npz"] = hashlib.sha256(buffer.getvalue()).hexdigest()
        state = {
            name: {"name": name, "shape": list(x.shape), "dtype": x.dtype.name}
            for name, x in _STATE.items()
        }
        manifest = {"format": bundle.FORMAT, "steps": 9, "state": state, "programs": {}}
        manifest |= {"data": ["photos"], "files": files}
        (folder / bundle.MANIFEST).write_text(json.dumps(manifest))
        bundle.save(folder / bundle.CHECKPOINTS, _STATE, 3, "train")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    return copy, sorted(p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file())


def _read(folder) -> None:
    opened = bundle.Bundle(folder)
    found = opened.checkpoint(folder / bundle.CHECKPOINTS)
    for values in (opened.initial_state(), opened.data(), found[1] if found else {}):
        for array in values.values():
            small_answer(array)
    if found:
        assert isinstance(found[0]["step"], int)


def _seal(folder, name: str) -> None:
    """Writes the right hash of a file into what lists it."""
    for path in (folder / bundle.MANIFEST, *folder.glob("checkpoints/*/checkpoint.json")):
        content = json.loads(path.read_bytes())
        key = name if path.name == bundle.MANIFEST else name.rpartition("/")[2]
        if key in content["files"] and (path.parent / key).is_file():
            content["files"][key] = hashlib.sha256((path.parent / key).read_bytes()).hexdigest()
            path.write_text(json.dumps(content))


@fuzz(st.tuples(st.integers(0, 9), EDITS, st.booleans()))
def test_files(trial, drawn):
    number, edits, sealed = drawn
    folder, names = _whole(trial)
    name = names[number % len(names)]
    (folder / name).write_bytes(apply((folder / name).read_bytes(), edits))
    if sealed and name.endswith(".npz"):
        _seal(folder, name)
    _read(folder)


_LEAVES = st.none() | st.booleans() | st.integers(-2, 2**40) | st.text(max_size=5)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
_PLACES = st.sampled_from(
    [
        ("format",),
        ("state",),
        ("state", "model/0000"),
        ("state", "model/0000", "shape"),
        ("data",),
        ("state", "model/0000", "dtype"),
        ("files",),
        ("files", "photos.npz"),
        ("programs",),
        (),
    ]
)
_NAMES = st.sampled_from([["../whole/photos"], ["/etc/passwd"], ["a\0b"], ["photos", "photos"]])


@fuzz(st.tuples(_PLACES, _TREES | _NAMES, st.booleans()))
def test_manifests(trial, drawn):
    place, value, of_checkpoint = drawn
    folder, _ = _whole(trial)
    path = folder / bundle.MANIFEST
    if of_checkpoint:
        (path,) = folder.glob("checkpoints/*/checkpoint.json")
        place = {"state": ("step",), "files": ("files",), "data": ("program",)}.get(
            place[0] if place else "", ()
        )
    content = json.loads(path.read_bytes())
    if not place:
        content = value
    else:
        group = content
        for name in place[:-1]:
            group = group[name]
        group[place[-1]] = value
    path.write_text(json.dumps(content))
    _read(folder)


_ARCHIVES = [
    zipped({"model/0000.npy": each}) for each in [*evil_pickles(), b"", b"\x93NUMPY", bytes(2**22)]
]


@fuzz(st.tuples(st.sampled_from(_ARCHIVES), st.sampled_from(["photos.npz", "state/model.npz"])))
def test_hostile_archives(trial, drawn):
    content, name = drawn
    folder, _ = _whole(trial)
    (folder / name).write_bytes(content)
    _seal(folder, name)
    _read(folder)
