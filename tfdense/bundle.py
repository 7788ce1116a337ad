"""Trains a network of tfdense with NumPy and JAX alone, on any device that JAX knows.

python train.py                        # to the last step of its schedule; Ctrl-C stops it
python train.py --minutes 9            # as far as it comes, the compilation included
python train.py --program train-448x16-mixed_bfloat16
python train.py --list                 # what programs there are

Run again, it goes on from the last checkpoint. `tfdense export stablehlo` writes the bundle that
this script lies in, `tfdense train --from-bundle` takes weights and optimiser back to TensorFlow.
"""

import argparse
import contextlib
import dataclasses
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

FORMAT = 2
"""Of the bundle's files; another one is refused."""

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"

# Of one archive of arrays and of one program, unpacked, in bytes.
_LARGEST, _LARGEST_PROGRAM = 2**34, 2**30

# Steps are counted in 64 bits, and a schedule adds to them.
_MOST_STEPS = 2**62

# As a manifest names them; NumPy alone does not know the last.
_TYPES = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    + ["bfloat16"]
)

_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


# What a step gives beside the state that it changes.
_RESULTS = ("loss", "gradient_norm")


class BundleError(ValueError):
    """A bundle that cannot be used; the message says what was expected and what was found."""


class Bundle:
    """Reads the files of a bundle, each checked against the hash in the manifest.

    Args:
        folder: of the bundle.

    Attributes:
        folder: the same.
        manifest: ``programs`` by name, with the names of their inputs and outputs; ``state`` and
            ``data``, the arrays these are; ``files``, their hashes; ``versions``.

    Raises:
        BundleError: if it is no bundle, or of another format.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        try:
            self.manifest = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}.") from None
        except (ValueError, RecursionError):
            raise BundleError(f"{path} is cut or changed: it is not JSON.") from None
        if not isinstance(self.manifest, dict):
            raise BundleError(f"{path} is cut or changed: it is no object of JSON.")
        found = self.manifest.get("format")
        if found != FORMAT:
            raise BundleError(
                f"{folder} is a bundle of format {ascii(found)[:40]}, expected format {FORMAT}: "
                "export it again with the version of tfdense that shall read it."
            )
        if (wrong := _wrong(self.manifest)) is not None:
            raise BundleError(f"{path} is cut or changed: its {wrong!r} is none.")

    def read(self, name: str) -> bytes:
        """Returns the content of a file of the manifest."""
        if name not in self.manifest["files"]:
            raise BundleError(f"{self.folder / MANIFEST} does not list the file {name!r}.")
        return _read(self.folder / name, self.manifest["files"][name])

    def program(self, name: str) -> Callable[[dict], dict]:
        """Returns a program as a function of named arrays that returns named arrays.

        Raises:
            BundleError: if there is no such program, or its file is damaged.
        """
        programs = self.manifest["programs"]
        if name not in programs:
            raise self._no_program(name, programs)
        entry = programs[name]
        path = self.folder / entry["file"]
        artifact = _unzip(path, self.read(entry["file"]))
        with _running(path):
            return load_program(artifact, entry["inputs"], entry["outputs"])

    def training(self, name: str | None = None) -> tuple[str, dict]:
        """Returns a program that trains, or the first of them: its name, and its entry.

        Raises:
            BundleError: if there is no such program, it does not train, or it takes or gives other
                arrays than a step does.
        """
        programs = self.manifest["programs"]
        training = [key for key, entry in programs.items() if "batch_size" in entry]
        if name is None and not training:
            raise BundleError(f"{self.folder} holds no program that trains.")
        name = training[0] if name is None else name
        if name not in training:
            raise self._no_program(name, training, "that trains ")
        entry, state = programs[name], self.manifest["state"]
        path = self.folder / MANIFEST
        for result in _RESULTS:
            if result not in entry["outputs"]:
                raise BundleError(f"{path}: expected {result!r} among the outputs of {name}.")
        known = [
            ("inputs", {"step", *state, *self.manifest["data"]}, "its state, its data and step"),
            ("outputs", {*_RESULTS, *state}, f"its state, {' and '.join(_RESULTS)}"),
        ]
        for kind, names, expected in known:
            unknown = next((key for key in entry[kind] if key not in names), None)
            if unknown is not None:
                raise BundleError(
                    f"{path}: expected as {kind} of {name} {expected}. Received: {unknown!a}"
                )
        return name, entry

    def _no_program(self, name: str, expected, which: str = "") -> BundleError:
        shown = name if name.isprintable() else ascii(name)
        return BundleError(
            f"There is no program {shown} {which}in {self.folder}. Expected one of: "
            f"{', '.join(expected) or 'none'}."
        )

    def data(self) -> dict[str, np.ndarray]:
        """Returns what the pairs are made from, by name."""
        arrays = {}
        for name in self.manifest["data"]:
            path = self.folder / f"{name}.npz"
            files = _arrays(path, self.read(f"{name}.npz"))
            try:
                arrays[name] = unpack(files) if "luminance" in files else files["values"]
            except (KeyError, ValueError, TypeError, IndexError, MemoryError):
                raise BundleError(f"{path} holds neither photos nor values.") from None
        return arrays

    @staticmethod
    def weights(state: dict) -> dict:
        """Returns the network's weights of a state: of what is averaged, the average."""
        return {
            name: state.get(name.replace("model/", "average/"), array)
            for name, array in state.items()
            if name.startswith("model/")
        }

    def initial_state(self) -> dict[str, np.ndarray]:
        """Returns the state before the first step, by name."""
        return self._state(self.folder / "state", self.manifest["files"], "state/")

    def checkpoint(self, folder: Path) -> tuple[dict, dict[str, np.ndarray]] | None:
        """Returns the latest checkpoint: what is said of it (`save`), and the state.

        Args:
            folder: of the checkpoints.

        Returns:
            None if there is none.

        Raises:
            BundleError: if a file of it is missing or damaged, or belongs to another bundle.
        """
        numbers = (p.name for p in folder.glob("*/") if p.name.isdecimal())
        latest = max(numbers, key=int, default=None)
        if latest is None:
            return None
        path = folder / latest
        try:
            description = json.loads((path / "checkpoint.json").read_bytes())
            kinds = {"step": int, "program": str, "files": dict}
            whole = all(type(description[name]) is kind for name, kind in kinds.items())
            step = description["step"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            whole = False
        if not whole:
            raise BundleError(f"{path} is damaged: expected a checkpoint.json in it.")
        if not 0 <= step < _MOST_STEPS:
            raise BundleError(
                f"{path} is damaged: expected a step from 0 to below 2**62. Received: "
                f"{str(step)[:40]}"
            )
        return description, self._state(path, description["files"])

    def _state(self, folder: Path, hashes: dict, prefix: str = "") -> dict[str, np.ndarray]:
        expected = self.manifest["state"]
        state = {}
        for group in dict.fromkeys(name.split("/")[0] for name in expected):
            path = folder / f"{group}.npz"
            name = f"{prefix}{path.name}"
            if name not in hashes:
                raise BundleError(f"{path} is not among the files written down for {folder}.")
            state.update(_arrays(path, _read(path, hashes[name])))
        for name, entry in expected.items():
            if name not in state:
                raise BundleError(f"{folder} lacks the array {name} ({entry['name']}).")
            if list(state[name].shape) != entry["shape"] or state[name].dtype != entry["dtype"]:
                raise BundleError(
                    f"{folder}: expected {name} as {entry['dtype']} {entry['shape']}. Received: "
                    f"{state[name].dtype} {list(state[name].shape)}"
                )
        return {name: state[name] for name in expected}


def write_arrays(
    folder: Path, arrays: dict[str, np.ndarray], compress: bool = False
) -> dict[str, str]:
    """Writes arrays, one file for each part of the names before the slash.

    Args:
        folder: that exists.
        arrays: by name.
        compress: takes time; it pays where most numbers are zero, as before the first step.

    Returns:
        The SHA-256 of each file by its name.
    """
    hashes = {}
    for group in dict.fromkeys(name.split("/")[0] for name in arrays):
        buffer = io.BytesIO()
        write = np.savez_compressed if compress else np.savez
        write(buffer, **{n: a for n, a in arrays.items() if n.split("/")[0] == group})
        (folder / f"{group}.npz").write_bytes(buffer.getvalue())
        hashes[f"{group}.npz"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    return hashes


def save(folder: Path, state: dict[str, np.ndarray], step: int, program: str) -> None:
    """Writes a checkpoint beside the former ones, then deletes these: one is always whole.

    Args:
        folder: of the checkpoints; this one becomes a folder in it, named by the step.
        state: all arrays.
        step: how many steps were taken.
        program: which took them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{os.getpid()}"
    temporary.mkdir()
    place = folder / f"{step:07d}"
    former = [path for path in folder.iterdir() if path.name.isdecimal() and path != place]
    try:
        hashes = write_arrays(temporary, state)
        description = {"step": step, "program": program, "files": hashes}
        (temporary / "checkpoint.json").write_text(json.dumps(description, indent=1))
        if place.exists():  # of the same step of a run that was broken off
            shutil.rmtree(place)
        os.replace(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for path in former:
        shutil.rmtree(path)


def pack(images: np.ndarray, quality: int = 90) -> dict[str, np.ndarray]:
    """Makes photos small, as JPEG does, but in arrays: rounded cosine coefficients.

    Deflated, they take 1.3 times what JPEG takes, and NumPy alone reads them.

    Args:
        images: uint8 [count, height, width, 3].
        quality: from 50 to 99, JPEG's.

    Returns:
        ``luminance`` int16 [8, 8, count, rows, columns], of blocks of 8x8 pixels, the ``colour``s
        blue and red, int16 [2, 8, 8, count, rows / 2, columns / 2], of 16x16, the ``steps`` float32
        [8, 8] that they count, and the ``size`` (height, width).
    """
    steps = np.maximum(np.round(_LUMINANCE * ((100 - quality) / 50)), 1.0).astype(np.float32)
    rest = [(0, -side % 16) for side in images.shape[1:3]]
    padded = np.pad(images, [(0, 0), *rest, (0, 0)], "edge")
    planes = [_counts(image, steps) for image in padded]
    luminance, blue, red = (np.stack(plane, axis=2) for plane in zip(*planes, strict=True))
    size = np.array(images.shape[1:3])
    return {"luminance": luminance, "colour": np.stack([blue, red]), "steps": steps, "size": size}


def unpack(packed: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the images that `pack` was given, about: uint8 [count, height, width, 3]."""
    height, width = packed["size"]
    images = np.empty([packed["luminance"].shape[2], height, width, 3], np.uint8)
    for i, image in enumerate(images):
        counts = [packed["luminance"][:, :, i], *packed["colour"][:, :, :, i]]
        luminance, blue, red = (_plane(plane, packed["steps"]) for plane in counts)
        blue, red = (plane.repeat(2, axis=0).repeat(2, axis=1) for plane in (blue, red))
        green = luminance - (0.114 * 1.772 * blue + 0.299 * 1.402 * red) / 0.587
        colours = np.stack([luminance + 1.402 * red, green, luminance + 1.772 * blue], axis=-1)
        image[:] = np.clip(np.round(colours + 128.0), 0, 255)[:height, :width]
    return images


def _counts(image: np.ndarray, steps: np.ndarray) -> list[np.ndarray]:
    """Returns the coefficients of luminance, blue and red, int16 [8, 8, rows, columns]."""
    image = image.astype(np.float32) - 128.0
    luminance = image @ np.array([0.299, 0.587, 0.114], np.float32)
    colours = ((image[..., 2] - luminance) / 1.772, (image[..., 0] - luminance) / 1.402)
    height, width = luminance.shape
    halved = [c.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)) for c in colours]
    transformed = [_transform(_blocks(plane)) for plane in (luminance, *halved)]
    return [np.round(x / steps[:, :, None, None]).astype(np.int16) for x in transformed]


def _plane(counts: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Returns the pixels of what `_counts` made of one plane."""
    blocks = _transform(counts * steps[:, :, None, None], inverse=True)
    return blocks.transpose(2, 0, 3, 1).reshape(8 * counts.shape[2], 8 * counts.shape[3])


def _blocks(plane: np.ndarray) -> np.ndarray:
    """Cuts [height, width] into [8, 8, rows, columns]."""
    height, width = plane.shape
    return plane.reshape(height // 8, 8, width // 8, 8).transpose(1, 3, 0, 2)


def _transform(blocks: np.ndarray, inverse: bool = False) -> np.ndarray:
    """Transforms blocks [8, 8, ...] into cosines and back, orthonormally."""
    frequency, position = np.mgrid[:8, :8]
    cosines = 0.5 * np.cos((2 * position + 1) * frequency * np.pi / 16)
    cosines = (cosines / np.where(frequency, 1.0, np.sqrt(2.0))).astype(np.float32)
    once = np.tensordot(cosines.T if inverse else cosines, blocks, 1)
    return np.tensordot(cosines.T if inverse else cosines, once, (1, 1)).swapaxes(0, 1)


def _read(path: Path, expected: str) -> bytes:
    try:
        content = path.read_bytes()
    except (OSError, ValueError):
        raise BundleError(f"There is no file {path}, which the bundle needs.") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise BundleError(f"{path} is cut or changed: its SHA-256 is not the one written down.")
    return content


def _unzip(path: Path, content: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as file:
            artifact = file.read(_LARGEST_PROGRAM + 1)
        # To gzip, an empty file is whole.
        compressed = content != b""
    except (OSError, EOFError, zlib.error):
        compressed = False
    if not compressed:
        raise BundleError(f"{path} is no program: it is not compressed by gzip.")
    if len(artifact) > _LARGEST_PROGRAM:
        raise BundleError(f"{path} is no program: it unpacks to over {_LARGEST_PROGRAM >> 30} GiB.")
    return artifact


def _arrays(path: Path, content: bytes) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST:
                raise ValueError(f"it unpacks to more than {_LARGEST >> 30} GiB")
        with np.load(io.BytesIO(content)) as file:
            arrays = {name: file[name] for name in file.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("it holds other files")
        return arrays
    except Exception as error:  # NumPy raises errors of any type of what is damaged
        raise BundleError(f"{path} is no archive of arrays: {_reason(error)}") from None


@contextlib.contextmanager
def _running(path: Path):
    """Tells in one line what JAX does not like about a program, whose errors are of any type."""
    try:
        yield
    except Exception as error:
        # This the device lacks, not the program.
        if isinstance(error, BundleError | ImportError) or "RESOURCE_EXHAUSTED" in str(error):
            raise
        raise BundleError(f"{path} is no program that JAX runs: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Returns the first line of an error's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ascii((lines or [type(error).__name__])[0])[1:-1]


def _wrong(manifest: dict) -> str | None:
    """Returns the key of what in a manifest has another form than a bundle needs."""
    kinds = {"steps": int, "state": dict, "programs": dict, "data": list, "files": dict}
    for key, kind in kinds.items():
        if type(manifest.get(key)) is not kind:
            return key
    for entry in manifest["state"].values():
        if not _is_array(entry) or not isinstance(entry.get("name"), str):
            return "state"
    # Files below the bundle's folder, and nowhere else.
    if not all(isinstance(name, str) and _is_below(name) for name in manifest["data"]):
        return "data"
    if not all(_is_program(entry) for entry in manifest["programs"].values()):
        return "programs"
    return None


def _is_array(entry) -> bool:
    """Whether this describes an array: its shape, and the type of its numbers."""
    return (
        isinstance(entry, dict)
        and isinstance(shape := entry.get("shape"), list)
        and all(type(side) is int and side >= 0 for side in shape)
        and isinstance(dtype := entry.get("dtype"), str)
        and dtype in _TYPES
    )


def _is_program(entry) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        return False
    if not _is_below(entry["file"]):
        return False
    for arrays in (entry.get("inputs"), entry.get("outputs")):
        if not isinstance(arrays, dict) or not all(map(_is_array, arrays.values())):
            return False
    if "batch_size" not in entry:  # it does not train
        return True
    numbers = (entry["batch_size"], entry.get("size"))
    whole = all(type(number) is int and number > 0 for number in numbers)
    return whole and isinstance(entry.get("precision"), str)


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


def load_program(artifact: bytes, inputs: dict, outputs: dict) -> Callable[[dict], dict]:
    """Returns a portable artifact of StableHLO as a function that JAX compiles.

    Args:
        artifact: without custom calls, so that every device runs it.
        inputs, outputs: ``shape`` and ``dtype`` of each, by name, in order.

    Returns:
        A function of a dict of at least the inputs to a dict of the outputs.

    Raises:
        Exception: of some type of JAX's, if it is no artifact.
    """
    import jax
    from jax import export

    # The state counts steps in 64 bits.
    jax.config.update("jax_enable_x64", True)
    arguments, results = (
        [jax.ShapeDtypeStruct(entry["shape"], entry["dtype"]) for entry in entries.values()]
        for entries in (inputs, outputs)
    )

    def stand_in(*_):
        return [jax.numpy.zeros(result.shape, result.dtype) for result in results]

    # JAX exports a function of the same inputs and outputs; then its module becomes ours.
    exported = dataclasses.replace(
        export.export(jax.jit(stand_in))(*arguments),
        mlir_module_serialized=artifact,
        module_kept_var_idx=tuple(range(len(arguments))),
    )
    exported.mlir_module()  # which fails now rather than in the first call

    def call(arrays: dict) -> dict:
        return dict(zip(outputs, exported.call(*(arrays[name] for name in inputs)), strict=True))

    return call


class Step:
    """A program that trains, compiled, and its state on the device.

    Args:
        bundle: of the program.
        name: of the program.
        state: all arrays before the next step, see `Bundle.initial_state`.
        data: what the pairs are made from, see `Bundle.data`.

    Attributes:
        batch_size: pairs in a step.

    Raises:
        BundleError: if there is no such program, it does not train, or JAX cannot run it.
    """

    def __init__(self, bundle: Bundle, name: str, state: dict, data: dict):
        import jax

        keep_compiled(bundle)
        _, entry = bundle.training(name)
        program = bundle.program(name)
        self.batch_size = entry["batch_size"]
        changing = {key: state[key] for key in entry["outputs"] if key in state}
        self._constant = {key: value for key, value in state.items() if key not in changing}
        used = {k: v for k, v in (self._constant | data).items() if k in entry["inputs"]}
        self._changing, self._inputs = jax.device_put((changing, used))

        def take(changing, inputs, step):
            outputs = program({**changing, **inputs, "step": step})
            return outputs, {key: outputs.pop(key) for key in changing}

        arguments = (self._changing, self._inputs, np.int64(0))
        with _running(bundle.folder / entry["file"]):
            self._take = jax.jit(take, donate_argnums=0).lower(*arguments).compile()

    def __call__(self, number: int) -> dict:
        """Takes the step of this number; returns ``loss`` and ``gradient_norm``, of JAX."""
        outputs, self._changing = self._take(self._changing, self._inputs, np.int64(number))
        return outputs

    @property
    def state(self) -> dict[str, np.ndarray]:
        """All arrays after the last step."""
        changed = {key: np.asarray(value) for key, value in self._changing.items()}
        return {**self._constant, **changed}


def keep_compiled(bundle: Bundle) -> None:
    """Lets JAX keep in the bundle what it compiles, for the next time."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str((bundle.folder / ".cache").resolve()))


def train(
    bundle: Bundle,
    name: str,
    folder: Path,
    steps: int | None = None,
    minutes: float | None = None,
    log_every: int = 20,
    checkpoint_minutes: float = 1.0,
) -> int:
    """Trains, from the latest checkpoint on.

    Args:
        bundle: what to train.
        name: of the program.
        folder: of the checkpoints.
        steps: stop there; the schedule's last step if None.
        minutes: stop after so many, compilation included.
        log_every: so many steps a line is printed.
        checkpoint_minutes: between checkpoints; the last step gets one in any case.

    Returns:
        The step reached.
    """
    start = time.monotonic()
    bundle.training(name)
    import jax

    found = bundle.checkpoint(folder)
    step, state = (found[0]["step"], found[1]) if found else (0, bundle.initial_state())
    last = min(bundle.manifest["steps"], steps or bundle.manifest["steps"])
    print(f"{name} on {jax.devices()[0].device_kind}, from step {step} to {last}", flush=True)
    data = bundle.data()
    print("compiling, which takes minutes where JAX has not kept it", flush=True)
    take = Step(bundle, name, state, data)
    logged = saved = time.monotonic()
    print(f"compiled after {logged - start:.0f} s", flush=True)
    logged_step = first = step
    with _asked_to_stop() as asked:
        while step < last and not asked:
            outputs = take(step)
            step += 1
            if step % log_every == 0 or step == last:
                loss, norm = float(outputs["loss"]), float(outputs["gradient_norm"])
                now = time.monotonic()
                rate = (step - logged_step) * take.batch_size / (now - logged)
                logged, logged_step = now, step
                print(
                    f"step {step}/{last}  loss {loss:.4f}  gradient {norm:.2f}  "
                    f"{rate:.1f} pairs/s  {now - start:.0f} s",
                    flush=True,
                )
            if minutes is not None and time.monotonic() - start >= 60 * minutes:
                break
            if time.monotonic() - saved >= 60 * checkpoint_minutes:
                save(folder, take.state, step, name)
                saved = time.monotonic()
    if step > first:
        save(folder, take.state, step, name)
        print(f"step {step} is in {folder}", flush=True)
    return step


@contextlib.contextmanager
def _asked_to_stop():
    """Yields a list that holds something once Ctrl-C or SIGTERM came."""
    asked: list[int] = []
    former = {
        number: signal.signal(number, lambda number, frame: asked.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def main(arguments: list[str] | None = None) -> int:
    """Trains the bundle that this script lies in; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).resolve().parent
    parser.add_argument("--bundle", type=Path, default=here, help="(the folder of this script)")
    parser.add_argument("--program", metavar="NAME", help="which to run; the first that trains")
    parser.add_argument("--list", action="store_true", help="name the programs and end")
    parser.add_argument("--steps", type=int, metavar="N", help="stop at step N")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after M minutes")
    parser.add_argument(
        "--log-every", type=int, default=20, metavar="N", help="steps (%(default)s)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="of the checkpoints (BUNDLE/checkpoints)"
    )
    options = parser.parse_args(arguments)
    try:
        bundle = Bundle(options.bundle)
        if options.list:
            print("\n".join(bundle.manifest["programs"]))
            return 0
        name, _ = bundle.training(options.program)
        folder = options.output or bundle.folder / CHECKPOINTS
        train(bundle, name, folder, options.steps, options.minutes, options.log_every)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
