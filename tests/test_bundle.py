"""The script of a bundle: compressed photos, checkpoints, and files that are damaged."""

import copy
import gzip
import hashlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tfdense import bundle
from tfdense.data import bundled_pair
from tfdense.images import read_image

STATE = {
    "model/0000": np.arange(6, dtype=np.float32).reshape(2, 3),
    "model/0001": np.array(1.5, np.float32),
    "average/0000": np.full([2, 3], 0.25, np.float32),
    "optimizer/0000": np.array(2**40),
}


@pytest.fixture
def folder(tmp_path):
    """A bundle without programs."""
    folder = tmp_path / "bundle"
    (folder / "state").mkdir(parents=True)
    hashes = bundle.write_arrays(folder / "state", STATE)
    entries = {
        name: {"name": f"layer{i}/kernel", "shape": list(x.shape), "dtype": x.dtype.name}
        for i, (name, x) in enumerate(STATE.items())
    }
    manifest = {
        "format": bundle.FORMAT,
        "steps": 100,
        "state": entries,
        "programs": {},
        "data": [],
        "files": {f"state/{name}": value for name, value in hashes.items()},
    }
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest))
    return folder


def change_manifest(folder, **values):
    manifest = json.loads((folder / bundle.MANIFEST).read_bytes())
    (folder / bundle.MANIFEST).write_text(json.dumps({**manifest, **values}))


@pytest.mark.parametrize("shape", [(256, 240), (101, 83)])
def test_photos_are_as_good_and_nearly_as_small_as_jpeg(shape, tmp_path):
    photos = np.stack([read_image(path)[: shape[0], : shape[1]] for path in bundled_pair()])
    packed = bundle.pack(photos, quality=90)
    unpacked = bundle.unpack(packed)
    assert unpacked.shape == photos.shape and unpacked.dtype == np.uint8
    jpegs = [cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, 90])[1] for x in photos[..., ::-1]]
    theirs = np.stack([cv2.imdecode(x, cv2.IMREAD_COLOR)[..., ::-1] for x in jpegs])
    ours, jpeg = (np.abs(x.astype(float) - photos).mean() for x in (unpacked, theirs))
    assert ours < 1.3 * jpeg  # which smooths the halved colours
    np.savez_compressed(tmp_path / "photos.npz", **packed)
    assert (tmp_path / "photos.npz").stat().st_size < 1.7 * sum(map(len, jpegs)) + 2000


def test_the_weights_of_a_state_are_the_average_where_there_is_one():
    weights = bundle.Bundle.weights(STATE)
    assert list(weights) == ["model/0000", "model/0001"]
    np.testing.assert_array_equal(weights["model/0000"], STATE["average/0000"])
    np.testing.assert_array_equal(weights["model/0001"], STATE["model/0001"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"MLIR", "it is not compressed by gzip"),
        (b"", "it is not compressed by gzip"),
        (gzip.compress(b"MLIR")[:-9], "it is not compressed by gzip"),
        (gzip.compress(bytes(101)), "it unpacks to over"),
    ],
    ids=["other", "empty", "cut", "bomb"],
)
def test_a_program_that_cannot_be_unpacked_is_refused(folder, content, said, monkeypatch):
    monkeypatch.setattr(bundle, "_LARGEST_PROGRAM", 100)
    (folder / "step.stablehlo.gz").write_bytes(content)
    change_manifest(
        folder,
        programs={"step": {"file": "step.stablehlo.gz", "inputs": {}, "outputs": {}}},
        files={"step.stablehlo.gz": hashlib.sha256(content).hexdigest()},
    )
    with pytest.raises(bundle.BundleError, match=said):
        bundle.Bundle(folder).program("step")


NUMBER = {"shape": [], "dtype": "float32"}
TRAIN = {
    "file": "programs/train.stablehlo.gz",
    "inputs": {
        "data/photos": {"shape": [2, 8, 8, 3], "dtype": "uint8"},
        "step": {"shape": [], "dtype": "int64"},
        "model/0000": {"shape": [2, 3], "dtype": "float32"},
    },
    "outputs": {
        "loss": NUMBER,
        "gradient_norm": NUMBER,
        "model/0000": {"shape": [2, 3], "dtype": "float32"},
    },
    "size": 8,
    "batch_size": 2,
    "precision": "float32",
}
MAKE = {name: TRAIN[name] for name in ("file", "inputs", "outputs")}


def give_programs(folder, content=b"", **programs):
    """Adds programs, all of one content, to a bundle."""
    path = folder / TRAIN["file"]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    files = json.loads((folder / bundle.MANIFEST).read_bytes())["files"]
    files |= {TRAIN["file"]: hashlib.sha256(content).hexdigest()}
    change_manifest(folder, programs=programs, data=["data/photos"], files=files)


@pytest.mark.parametrize(
    "changes",
    [
        {"file": None},
        {"file": 3},
        {"file": "../step.gz"},
        {"file": "/step.gz"},
        {"inputs": None},
        {"inputs": []},
        {"outputs": {"loss": 1}},
        {"outputs": {"loss": {"shape": []}}},
        {"outputs": {"loss": {"dtype": "float32"}}},
        {"outputs": {"loss": {"shape": 3, "dtype": "float32"}}},
        {"outputs": {"loss": {"shape": [-1], "dtype": "float32"}}},
        {"outputs": {"loss": {"shape": [True], "dtype": "float32"}}},
        {"outputs": {"loss": {"shape": [1.0], "dtype": "float32"}}},
        {"outputs": {"loss": {"shape": [], "dtype": 4}}},
        {"outputs": {"loss": {"shape": [], "dtype": "float31"}}},
        {"batch_size": "2"},
        {"batch_size": 0},
        {"size": None},
        {"size": 8.5},
        {"precision": ["float32"]},
    ],
    ids=str,
)
def test_a_program_of_another_form_is_refused(folder, changes):
    give_programs(folder, train=TRAIN, pairs=MAKE)
    assert bundle.Bundle(folder).training() == ("train", TRAIN)
    give_programs(folder, train={**TRAIN, **changes}, pairs=MAKE)
    with pytest.raises(bundle.BundleError, match="its 'programs' is none"):
        bundle.Bundle(folder)


@pytest.mark.parametrize("key", ["file", "inputs", "outputs", "size", "precision"])
def test_a_program_that_lacks_something_is_refused(folder, key):
    give_programs(folder, train={name: value for name, value in TRAIN.items() if name != key})
    with pytest.raises(bundle.BundleError, match="its 'programs' is none"):
        bundle.Bundle(folder)


def renamed(kind, name):
    entry = copy.deepcopy(TRAIN)
    entry[kind][f"{name}0"] = entry[kind].pop(name)
    return entry


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("inputs", "step", "inputs of train its state, its data and step. Received: 'step0'"),
        ("inputs", "model/0000", "inputs of train .* Received: 'model/00000'"),
        ("inputs", "data/photos", "inputs of train .* Received: 'data/photos0'"),
        ("outputs", "model/0000", "outputs of train .* Received: 'model/00000'"),
        ("outputs", "loss", "expected 'loss' among the outputs of train"),
        ("outputs", "gradient_norm", "expected 'gradient_norm' among the outputs of train"),
    ],
)
def test_a_program_of_other_arrays_is_refused(folder, kind, name, message, capsys):
    give_programs(folder, train=renamed(kind, name))
    with pytest.raises(bundle.BundleError, match=message) as error:
        bundle.Bundle(folder).training("train")
    assert bundle.main(["--bundle", str(folder)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"error: {error.value}\n")


def test_a_program_whose_data_is_not_named_is_refused(folder):
    give_programs(folder, train=TRAIN)
    change_manifest(folder, data=[])
    with pytest.raises(bundle.BundleError, match="Received: 'data/photos'"):
        bundle.Bundle(folder).training()


@pytest.mark.parametrize(
    "content", [b"", b"\x00rubbish" * 99, b"ML\xefR"], ids=["nothing", "rubbish", "cut"]
)
def test_a_program_that_jax_cannot_read_is_refused(folder, content):
    pytest.importorskip("jax")
    give_programs(folder, gzip.compress(content), train=TRAIN)
    opened = bundle.Bundle(folder)
    with pytest.raises(bundle.BundleError, match=r"train.stablehlo.gz is no .*JAX runs") as error:
        bundle.Step(opened, "train", STATE, {"data/photos": np.zeros([2, 8, 8, 3], np.uint8)})
    assert "\n" not in str(error.value)


def test_a_program_of_other_inputs_is_refused(folder):
    pytest.importorskip("jax")
    give_programs(folder, gzip.compress(b"func.func @main() { return }"), train=TRAIN)
    data = {"data/photos": np.zeros([2, 8, 8, 3], np.uint8)}
    with pytest.raises(bundle.BundleError, match=r"train.stablehlo.gz is no program that JAX runs"):
        bundle.Step(bundle.Bundle(folder), "train", STATE, data)


def test_what_the_device_lacks_is_not_blamed_on_the_program(tmp_path):
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"), bundle._running(tmp_path):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")


def test_a_checkpoint_comes_back_exactly_and_takes_the_place_of_the_former(folder):
    opened, checkpoints = bundle.Bundle(folder), folder / "run"
    assert opened.checkpoint(checkpoints) is None
    bundle.save(checkpoints, STATE, 9, "one")
    later = {name: array + 1 for name, array in STATE.items()}
    bundle.save(checkpoints, later, 10, "other")
    description, state = opened.checkpoint(checkpoints)
    assert (description["step"], description["program"]) == (10, "other")
    assert list(state) == list(STATE)
    for name, array in later.items():
        np.testing.assert_array_equal(state[name], array)
        assert state[name].dtype == array.dtype
    assert [path.name for path in checkpoints.iterdir()] == ["0000010"]


def test_a_checkpoint_that_fails_leaves_the_former(folder, monkeypatch):
    bundle.save(folder / "run", STATE, 9, "one")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        bundle.save(folder / "run", STATE, 10, "one")
    assert [path.name for path in (folder / "run").iterdir()] == ["0000009"]
    assert bundle.Bundle(folder).checkpoint(folder / "run")[0]["step"] == 9


def test_a_step_saved_twice_is_there_once(folder):
    bundle.save(folder / "run", STATE, 9, "one")
    bundle.save(folder / "run", STATE, 9, "one")
    assert bundle.Bundle(folder).checkpoint(folder / "run")[0]["step"] == 9


def cut(path: Path):
    path.write_bytes(path.read_bytes()[:-100])


def without_array(folder):
    entries = json.loads((folder / bundle.MANIFEST).read_bytes())["state"]
    entry = {"name": "head/bias", "shape": [3], "dtype": "float32"}
    change_manifest(folder, state={**entries, "model/0002": entry})


def of_another_shape(folder):
    entries = json.loads((folder / bundle.MANIFEST).read_bytes())["state"]
    change_manifest(folder, state={**entries, "model/0001": entries["model/0000"]})


DAMAGES = [
    (lambda folder: shutil.rmtree(folder), "is not a bundle: it has no manifest.json"),
    (lambda folder: cut(folder / "manifest.json"), "manifest.json is cut or changed"),
    (lambda folder: change_manifest(folder, format=99), "of format 99, expected format 2"),
    (lambda folder: cut(folder / "state/model.npz"), "model.npz is cut or changed"),
    (lambda folder: (folder / "state/average.npz").unlink(), "no file .*average.npz"),
    (without_array, r"lacks the array model/0002 \(head/bias\)"),
    (of_another_shape, r"expected model/0001 as float32 \[2, 3\]. Received: float32 \[\]"),
    (lambda folder: change_manifest(folder, files={}), "model.npz is not among the files"),
    (lambda folder: (folder / "manifest.json").write_text("[]"), "it is no object of JSON"),
    (lambda folder: (folder / "manifest.json").write_text("[" * 10**5), "it is not JSON"),
    (lambda folder: change_manifest(folder, state=[]), "its 'state' is none"),
    (lambda folder: change_manifest(folder, state={"a": {"name": "a"}}), "its 'state' is none"),
    (lambda folder: change_manifest(folder, data=["../photos"]), "its 'data' is none"),
    (lambda folder: change_manifest(folder, programs={"a": 1}), "its 'programs' is none"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_damaged_bundle_is_refused_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(bundle.BundleError, match=message) as error:
        bundle.Bundle(folder).initial_state()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [("checkpoint.json", "expected a checkpoint.json"), ("optimizer.npz", "is cut or changed")],
)
def test_a_damaged_checkpoint_is_refused(folder, name, message):
    bundle.save(folder / "run", STATE, 9, "one")
    cut(folder / "run" / "0000009" / name)
    with pytest.raises(bundle.BundleError, match=message):
        bundle.Bundle(folder).checkpoint(folder / "run")


def test_mistakes_are_told_in_one_line(folder, capsys):
    assert bundle.main(["--bundle", str(folder), "--program", "train-9x9"]) == 2
    assert "There is no program train-9x9" in capsys.readouterr().err
    assert bundle.main(["--bundle", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no program that trains" in line


@pytest.mark.parametrize("name", ["nope", "pairs", ""])
def test_only_programs_that_train_are_offered(folder, name, capsys):
    give_programs(folder, pairs=MAKE, train=TRAIN, other=TRAIN)
    assert bundle.main(["--bundle", str(folder), "--program", name]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert f"no program {name} that trains" in line
    assert line.endswith("Expected one of: train, other.")


@pytest.mark.parametrize("step", [-7, 2**62, 10**400], ids=["negative", "large", "long"])
def test_a_step_out_of_range_is_refused(folder, step):
    bundle.save(folder / "run", STATE, 3, "train")
    path = folder / "run" / "0000003" / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "step": step}))
    with pytest.raises(bundle.BundleError, match=r"expected a step from 0") as error:
        bundle.Bundle(folder).checkpoint(folder / "run")
    assert len(str(error.value)) < 100 + len(str(path))


@pytest.mark.parametrize(
    ("members", "message"),
    [({"other": b"1"}, "it holds other files"), ({"other.npy": b"1"}, "no archive of arrays")],
)
def test_an_archive_of_something_else_is_refused(members, message, folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "photos.npz").write_bytes(buffer.getvalue())
    files = {"data/photos.npz": hashlib.sha256(buffer.getvalue()).hexdigest()}
    change_manifest(folder, data=["data/photos"], files=files)
    with pytest.raises(bundle.BundleError, match=message):
        bundle.Bundle(folder).data()


@pytest.mark.parametrize("description", [[], {"step": "3", "program": "a", "files": {}}, {}])
def test_a_checkpoint_of_another_form_is_refused(description, folder):
    bundle.save(folder / "run", STATE, 3, "train")
    (folder / "run" / "0000003" / "checkpoint.json").write_text(json.dumps(description))
    with pytest.raises(bundle.BundleError, match="is damaged"):
        bundle.Bundle(folder).checkpoint(folder / "run")
