"""Where LiteRT spends its time, by the profiler of its C library, which Python does not offer."""

import collections
import contextlib
import ctypes
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest import mock

import ai_edge_litert
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from bench.device_runtimes import interpreter
from bench.timing import in_turns
from tfdense.exporting.tflite import convert
from tfdense.models import load
from tfdense.ops import correlation, warping

WHOLE = "convolutions and matrix products"

_CPU, _WRITE = 1, 1
# Bytes that hold any of LiteRT's types of tensors.
_TENSOR_TYPE = 256
_KINDS = {
    WHOLE: r"Convolution|Fully Connected|Batch Matrix|^CONV|FULLY_CONNECTED|BATCH_MATMUL",
    "gathers": r"GATHER",
    "moving data": r"Slice|Copy|Pad|Reshape|Transpose|Depth|Space|PACK|CONCAT|STRIDED|SPLIT|CAST",
    "resizing and pooling": r"Resize|Pooling",
    "softmax": r"Softmax",
    "sums and means": r"Mean|Sum|Normalize|Reduce",
}
# Type, start, first, average in ms, shares, memory, calls and name of an operation.
_ROW = re.compile(r"\s*(\S.*?)\s+[\d.]+\s+[\d.]+\s+([\d.]+)\s+[\d.]+%.*?\s(\d+)\s+\[.*")
_OTHER = "other arithmetic"
_CALLS = (
    (correlation, "local"),
    (correlation, "all_pairs"),
    (warping, "bilinear"),
    (warping, "plane"),
)


def profile(path: Path, images: Mapping[str, np.ndarray], rounds: int) -> dict[str, float]:
    """Returns the fastest time of each kind of operation on one thread, in ms.

    Args:
        path: of a .tflite file.
        images: uint8 [1, height, width, 3], "source" and "target".
        rounds: how often it is run.
    """
    # Of each operation by itself: whatever else the machine does seldom meets the same one again.
    fastest = collections.defaultdict(lambda: np.inf)
    for summary in _summaries(path, images, rounds):
        in_order = summary.partition("Run Order")[2].partition("\n\n")[0]
        for number, line in enumerate(in_order.splitlines()):
            found = _ROW.fullmatch(line)
            if found:
                name, average, calls = found.groups()
                operation = number, name
                fastest[operation] = min(fastest[operation], float(average) * int(calls))
    times = collections.Counter()
    for (_, name), time in fastest.items():
        times[_kind(name)] += time
    return dict(times)


def matching_share(preset: str, size: tuple[int, int], path: Path, rounds: int) -> float:
    """Returns the time of all correlations and warps alone as a share of the whole network's.

    What the network hands to `tfdense.ops` is recorded, and just these operations are exported to a
    file of their own, which is run on one thread in turns with the whole.

    Args:
        preset: of the network.
        size: (height, width) of the images.
        path: of the exported network at that size.
        rounds: how often both are run.
    """
    calls = _record(preset, size)
    specs = {
        f"input_{number}_{position}": tf.TensorSpec(shape, tf.float32)
        for number, (_, shapes, _) in enumerate(calls)
        for position, shape in enumerate(shapes)
    }

    def function(**inputs):
        outputs = {}
        for number, (call, shapes, rest) in enumerate(calls):
            tensors = [inputs[f"input_{number}_{position}"] for position in range(len(shapes))]
            outputs[f"output_{number}"] = tf.nest.flatten(call(*tensors, *rest))[0]
        return outputs

    alone = Interpreter(model_content=convert(function, specs), num_threads=1)
    runner = alone.get_signature_runner()
    random = np.random.default_rng(0)
    features = {name: np.float32(random.normal(size=spec.shape)) for name, spec in specs.items()}
    images = dict(
        zip(("source", "target"), random.integers(0, 256, (2, 1, *size, 3), np.uint8), strict=True)
    )
    whole = interpreter(path, 1)
    times = in_turns({"alone": lambda: runner(**features), "whole": lambda: whole(images)}, rounds)
    return float(times["alone"].min() / times["whole"].min())


def _record(preset: str, size: tuple[int, int]) -> list[tuple]:
    """Returns each call of `_CALLS` in a network: function, shapes of its tensors, the rest."""
    network, _ = load(preset)
    calls = []
    with contextlib.ExitStack() as stack:
        for module, name in _CALLS:
            noted = functools.partial(_note, calls, getattr(module, name))
            stack.enter_context(mock.patch.object(module, name, noted))
        image = tf.zeros([1, *size, 3])
        network({"source": image, "target": image})
    return calls


def _note(calls: list, call: Callable, *arguments):
    tensors = [argument for argument in arguments if tf.is_tensor(argument)]
    calls.append((call, [tuple(tensor.shape) for tensor in tensors], arguments[len(tensors) :]))
    return call(*arguments)


def _kind(name: str) -> str:
    return next((kind for kind, pattern in _KINDS.items() if re.search(pattern, name)), _OTHER)


def _summaries(path: Path, images: Mapping[str, np.ndarray], rounds: int) -> Iterator[str]:
    """Yields the profiler's summary of each run."""
    litert = _Library()
    environment = litert.make("CreateEnvironment", 0, None)
    model = litert.make("CreateModelFromFile", environment, bytes(path))
    options = litert.make("CreateOptions")
    litert.call("SetOptionsHardwareAccelerators", options, _CPU)
    litert.add_options(options, "runtime_options_string", "enable_profiling = true")
    litert.add_options(options, "xnnpack", "num_threads = 1")
    compiled = litert.make("CreateCompiledModel", environment, model, options)
    signature = litert.make("GetModelSignature", model, _size(0))
    inputs = litert.buffers("Input", environment, compiled, signature)
    outputs = litert.buffers("Output", environment, compiled, signature)
    for name, buffer in inputs.items():
        address = litert.make("LockTensorBuffer", buffer, last=_WRITE)
        ctypes.memmove(address, images[name].ctypes.data, images[name].nbytes)
        litert.call("UnlockTensorBuffer", buffer)
    run = (compiled, _size(0), *_array(inputs), *_array(outputs))
    litert.call("RunCompiledModel", *run)
    profiler = litert.make("CompiledModelGetProfiler", compiled)
    for _ in range(rounds):
        litert.call("ResetProfiler", profiler)
        litert.call("StartProfiler", profiler)
        litert.call("RunCompiledModel", *run)
        litert.call("StopProfiler", profiler)
        summary = ctypes.c_char_p()
        litert.call("GetProfileSummary", profiler, compiled, ctypes.byref(summary))
        yield (summary.value or b"").decode()


class _Library:
    """LiteRT's C library, whose functions answer a status and write what they make."""

    def __init__(self):
        folder = Path(ai_edge_litert.__file__).parent
        self._functions = ctypes.CDLL(str(folder / "libLiteRt.so"))
        self._kept = []

    def call(self, name: str, *arguments) -> None:
        status = getattr(self._functions, f"LiteRt{name}")(*arguments)
        if status:
            raise RuntimeError(f"LiteRt{name} answers status {status}")

    def make(self, name: str, *arguments, last=None) -> ctypes.c_void_p:
        """Returns what a function writes behind its other arguments, or before the last."""
        made = ctypes.c_void_p()
        behind = () if last is None else (last,)
        self.call(name, *arguments, ctypes.byref(made), *behind)
        return made

    def add_options(self, options: ctypes.c_void_p, name: str, text: str) -> None:
        """Adds options in TOML."""
        destroy = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: None)
        data = ctypes.create_string_buffer(text.encode())
        self._kept += [destroy, data]
        payload = ctypes.cast(data, ctypes.c_void_p)
        made = self.make("CreateOpaqueOptions", name.encode(), payload, destroy)
        self.call("AddOpaqueOptions", options, made)

    def buffers(self, kind: str, environment, compiled, signature) -> dict[str, ctypes.c_void_p]:
        """Allocates a tensor for each input or output of a signature, by name."""
        count = _size(0)
        self.call(f"GetNumSignature{kind}s", signature, ctypes.byref(count))
        made = {}
        for index in map(_size, range(count.value)):
            name, tensor_type = ctypes.c_char_p(), ctypes.create_string_buffer(_TENSOR_TYPE)
            self.call(f"GetSignature{kind}Name", signature, index, ctypes.byref(name))
            tensor = self.make(f"GetSignature{kind}TensorByIndex", signature, index)
            self.call("GetRankedTensorType", tensor, tensor_type)
            needs = self.make(
                f"GetCompiledModel{kind}BufferRequirements", compiled, _size(0), index
            )
            made[name.value.decode()] = self.make(
                "CreateManagedTensorBufferFromRequirements", environment, tensor_type, needs
            )
        return made


_size = ctypes.c_size_t


def _array(buffers: Mapping[str, ctypes.c_void_p]) -> tuple:
    """Returns their number and an array of them."""
    return _size(len(buffers)), (ctypes.c_void_p * len(buffers))(
        *(buffer.value for buffer in buffers.values())
    )
