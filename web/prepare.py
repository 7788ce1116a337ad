"""Puts into web/page/built/ what the page needs beside its own files: python -m web.prepare FILE...

LiteRT.js comes by npm, at a pinned version whose checksum is known; the rest is of this project.
"""

import argparse
import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tfdense.errors import InputError, exit_status
from tfdense.files import replacing
from tfdense.masking import NOISE
from tfdense.tflite_files import open_file

PAGE = Path(__file__).resolve().parent / "page"
PAIR = Path(__file__).resolve().parents[1] / "tfdense" / "data" / "pair"
_ROLES = ("source", "target")
_COMPRESSED = {".js", ".wasm", ".tflite"}


class Package(NamedTuple):
    """An npm package.

    Attributes:
        name, version: of the package.
        checksum: SHA-512 of its archive in base64, as npm states it.
        files: those that the page needs, and the names it has for them.
    """

    name: str
    version: str
    checksum: str
    files: dict[str, str]


_WASM = ("", "_compat", "_jspi", "_threaded")
LITERT = Package(
    "@litertjs/core",
    "2.5.3",
    "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    {"dist/index.js": "litert.js"}
    | {
        f"wasm/litert_wasm{kind}_internal.{suffix}": f"wasm/litert_wasm{kind}_internal.{suffix}"
        for kind in _WASM
        for suffix in ("js", "wasm")
    },
)
WASM_UTILS = Package(
    "@litertjs/wasm-utils",
    "2.5.3",
    "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
    {"dist/index.js": "wasm-utils.js"},
)
_LITERT_FOLDER = f"litert-{LITERT.version}"


def prepare(models: Sequence[str | Path], built: Path = PAGE / "built") -> dict:
    """Fills the folder that the page reads from; what is there and right is left as it is.

    Args:
        models: .tflite files that tfdense exported; the first is the one that the page takes.
        built: the folder.

    Returns:
        What stands in ``models.json``: LiteRT's folder and, by model, its file, size (height,
        width), preset and bytes.

    Raises:
        InputError: if a model is none, or LiteRT.js cannot be fetched or is not what it should be.
    """
    described = [_describe(Path(model)) for model in models]
    if not (built / _LITERT_FOLDER).is_dir():
        with replacing(built / _LITERT_FOLDER) as folder:
            for package in (LITERT, WASM_UTILS):
                unpack(package, fetch(package), folder)
            _link(folder / "litert.js", {WASM_UTILS.name: "./wasm-utils.js"})
            _compress(folder)
    for path, description in described:
        if not (built / description["file"]).is_file():
            with replacing(built / description["file"]) as temporary:
                shutil.copyfile(path, temporary)
    kept = {description["file"] for _, description in described}
    for former in built.glob("*.tflite"):
        if former.name not in kept:
            former.unlink()
    for role in _ROLES:
        with replacing(built / f"{role}.jpg") as temporary:
            shutil.copyfile(PAIR / f"{role}.jpg", temporary)
        with replacing(built / f"noise-{role}.bin") as temporary:
            temporary.write_bytes(NOISE[role].tobytes())
    manifest = {"litert": _LITERT_FOLDER, "models": [each for _, each in described]}
    with replacing(built / "models.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=1), "utf-8")
    return manifest


def fetch(package: Package) -> bytes:
    """Returns the archive of a package, fetched by npm.

    Raises:
        InputError: if there is no npm, it fails, or gives another archive than was expected.
    """
    name = f"{package.name}@{package.version}"
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(f"npm fetches {name}, and was not found: install Node.js.")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", name, "--silent", "--ignore-scripts", "--pack-destination", folder]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        archives = [*Path(folder).glob("*.tgz")]
        if done.returncode or len(archives) != 1:
            reason = (done.stderr.strip() or done.stdout.strip() or "no archive").splitlines()[-1]
            raise InputError(f"npm could not fetch {name}: {reason}")
        content = archives[0].read_bytes()
    checksum = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if checksum != package.checksum:
        raise InputError(f"Expected {name} of SHA-512 {package.checksum}. Received: {checksum}")
    return content


def unpack(package: Package, archive: bytes, folder: Path) -> None:
    """Writes those files of a package's archive that the page needs."""
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:gz") as members:
            for name, place in package.files.items():
                path = folder / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(members.extractfile(f"package/{name}").read())


def _link(script: Path, places: dict[str, str]) -> None:
    """Replaces names of packages in a script's imports by places: workers know no import maps."""
    text = script.read_text("utf-8")
    for name, place in places.items():
        text, count = re.subn(rf"""(from ["']){re.escape(name)}(["'])""", rf"\g<1>{place}\2", text)
        assert count == 1, f"{count} imports of {name}"
    text = re.sub(r"\n//# sourceMappingURL=.*", "", text)
    script.write_text(text, "utf-8")


def _compress(folder: Path) -> None:
    """Writes beside each large file what the server sends in its place."""
    for path in [*folder.rglob("*")]:
        if path.suffix in _COMPRESSED and path.stat().st_size > 2**14:
            with gzip.GzipFile(f"{path}.gz", "wb", mtime=0) as file:
                file.write(path.read_bytes())


def _describe(path: Path) -> tuple[Path, dict]:
    """Returns what the page has to know of a model. Its name holds its hash: it never changes."""
    metadata, content = open_file(path)[1:]
    height, width = metadata["size"]
    digest = hashlib.sha256(content).hexdigest()
    return path, {
        "file": f"{metadata['preset']}-{height}x{width}-{digest[:12]}.tflite",
        "size": [height, width],
        "preset": metadata["preset"],
        "precision": metadata.get("precision", "float32"),
        "bytes": len(content),
    }


def main() -> int:
    """Prepares the page and says what it will load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", metavar="FILE", help="a .tflite; the first is taken")
    arguments = parser.parse_args()
    return exit_status(parser.prog, lambda: _show(prepare(arguments.models)))


def _show(manifest: dict) -> None:
    for model in manifest["models"]:
        print(f"{model['file']}: {model['bytes'] / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
