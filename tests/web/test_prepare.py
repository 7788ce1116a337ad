import base64
import hashlib
import io
import json
import os
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.exporting.flatbuffer import add_metadata
from tfdense.exporting.tflite import convert
from tfdense.masking import NOISE
from web import prepare


@pytest.fixture(scope="module")
def plain():
    return convert(lambda x: {"y": x + 1}, {"x": tf.TensorSpec([1], tf.float32)})


@pytest.fixture
def model(plain, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(add_metadata(plain, {"size": [32, 48], "preset": "known"}))
    return path


def archive(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as members:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            members.addfile(member, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture
def registry(monkeypatch):
    """Stands in for npm: archives with the files of the packages, and what was asked for."""
    asked = []
    scripts = {
        "dist/index.js": b'import { f } from "@litertjs/wasm-utils";\n//# sourceMappingURL=a.map\n'
    }

    def fetch(package):
        asked.append(package.name)
        return archive({name: scripts.get(name, b"0" * 20000) for name in package.files})

    monkeypatch.setattr(prepare, "fetch", fetch)
    return asked


def test_prepares(model, registry, tmp_path):
    built = tmp_path / "built"
    manifest = prepare.prepare([model], built)
    assert registry == ["@litertjs/core", "@litertjs/wasm-utils"]
    assert json.loads((built / "models.json").read_text()) == manifest
    (described,) = manifest["models"]
    assert described["size"] == [32, 48] and described["preset"] == "known"
    assert (built / described["file"]).read_bytes() == model.read_bytes()
    assert described["bytes"] == model.stat().st_size
    litert = built / manifest["litert"]
    assert (litert / "litert.js").read_text() == 'import { f } from "./wasm-utils.js";\n'
    assert (litert / "wasm" / "litert_wasm_threaded_internal.wasm.gz").is_file()
    for role, noise in NOISE.items():
        np.testing.assert_array_equal(
            np.fromfile(built / f"noise-{role}.bin", np.uint8), noise.ravel()
        )


def test_keeps_what_is_there(model, plain, registry, tmp_path):
    built = tmp_path / "built"
    (former,) = prepare.prepare([model], built)["models"]
    registry.clear()
    model.write_bytes(add_metadata(plain, {"size": [64, 48], "preset": "other"}))
    (described,) = prepare.prepare([model], built)["models"]
    assert registry == []
    assert [path.name for path in built.glob("*.tflite")] == [described["file"]]
    assert described["file"] != former["file"]


def test_refuses_what_is_no_model(tmp_path):
    with pytest.raises(InputError, match=r"There is no \.tflite file"):
        prepare.prepare([tmp_path / "absent.tflite"], tmp_path / "built")
    assert not (tmp_path / "built").exists()


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Puts a program in the place of npm."""

    def install(program):
        path = tmp_path / "bin" / "npm"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")

    return install


def test_checks_what_npm_fetches(npm, tmp_path):
    content = archive({"a.js": b"1"})
    (tmp_path / "a.tgz").write_bytes(content)
    npm(
        f'test "$*" = "pack a@1 --silent --ignore-scripts --pack-destination $6" && '
        f"cp {tmp_path}/a.tgz $6"
    )
    checksum = base64.b64encode(hashlib.sha512(content).digest()).decode()
    assert prepare.fetch(prepare.Package("a", "1", checksum, {})) == content
    with pytest.raises(InputError, match=r"Expected a@1 of SHA-512 other\. Received: "):
        prepare.fetch(prepare.Package("a", "1", "other", {}))


def test_says_why_npm_fails(npm, monkeypatch, tmp_path):
    npm("echo 'npm error: no network' >&2; exit 1")
    with pytest.raises(InputError, match="could not fetch a@1: npm error: no network"):
        prepare.fetch(prepare.Package("a", "1", "", {}))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"was not found: install Node\.js"):
        prepare.fetch(prepare.Package("a", "1", "", {}))
