"""Running a .tflite file's signatures by either of LiteRT's two APIs.

On a CPU both give the same numbers in the same time, since both hand the work to XNNPACK. There the
Interpreter is taken: it maps the file into memory, allocates a signature only when it is first run,
and says nothing on standard error. Accelerators are what only CompiledModel has.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tfdense.errors import InputError, printable
from tfdense.files import utf8_path

ACCELERATORS = ("cpu", "gpu", "npu")

_ROLES = ("source", "target")
_OUTPUTS = ("flow", "confidence", "log_variance", "logits")

Size = tuple[int, int]


class InterpreterRunner:
    """Runs a file on the CPU by LiteRT's Interpreter.

    Args:
        interpreter: of the file.
        signatures: the name of that for each size.

    Raises:
        ValueError: if the file has no such signatures.
    """

    def __init__(self, interpreter: Interpreter, signatures: Mapping[Size, str]):
        for name in signatures.values():
            signature = interpreter.get_signature_list().get(name, {"inputs": (), "outputs": ()})
            if {*signature["inputs"]} != {*_ROLES} or not {*signature["outputs"]} >= {*_OUTPUTS}:
                raise ValueError(f"it has no signature {name} of two images")
        self._interpreter, self._signatures = interpreter, signatures
        self._runners = {}

    def run(self, size: Size, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the signature of a size.

        Args:
            size: (height, width).
            images: uint8 [1, height, width, 3], by role.

        Returns:
            The outputs, float32 [1, height, width, ...], by name.

        Raises:
            ValueError, RuntimeError: if LiteRT cannot run it.
        """
        if size not in self._runners:
            runner = self._interpreter.get_signature_runner(self._signatures[size])
            for role, details in runner.get_input_details().items():
                _check_shape(role, details["shape"], size)
            self._runners[size] = runner
        return self._runners[size](**images)


class CompiledRunner:
    """Runs a file by LiteRT's CompiledModel, which can use accelerators.

    What an accelerator does not take, the CPU does.

    Args:
        path: of the file.
        signatures: the name of that for each size.
        accelerator: one of `ACCELERATORS`.
        threads: of the CPU; None leaves them to LiteRT.

    Raises:
        InputError: if there is no such accelerator.
    """

    def __init__(
        self, path: Path, signatures: Mapping[Size, str], accelerator: str, threads: int | None
    ):
        from ai_edge_litert.compiled_model import (
            CompiledModel,
            CpuOptions,
            HardwareAccelerator,
            Options,
        )

        kind = HardwareAccelerator[accelerator.upper()]
        options = Options(kind | HardwareAccelerator.CPU, CpuOptions(num_threads=threads or 0))
        try:
            with utf8_path(path) as reachable:
                self._model = CompiledModel.from_file(str(reachable), options=options)
        except (RuntimeError, ValueError) as error:
            reason = printable(str(error).strip().splitlines()[0])
            raise InputError(
                f"LiteRT cannot use accelerator {accelerator!r} here ({reason}). "
                "Expected 'cpu', or a driver that it finds."
            ) from None
        self._signatures = signatures
        self._buffers = {}

    def run(self, size: Size, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `InterpreterRunner.run`."""
        name = self._signatures[size]
        if size not in self._buffers:
            self._buffers[size] = self._allocate(name, size)
        inputs, outputs, shapes = self._buffers[size]
        for role, image in images.items():
            inputs[role].write(np.ascontiguousarray(image))
        self._model.run_by_name(name, inputs, outputs)
        return {
            output: buffer.read(int(np.prod(shapes[output])), np.float32).reshape(shapes[output])
            for output, buffer in outputs.items()
        }

    def _allocate(self, name: str, size: Size) -> "_Buffers":
        model = self._model
        for role, details in model.get_input_tensor_details(name).items():
            _check_shape(role, details["shape"], size)
        details = model.get_output_tensor_details(name)
        return _Buffers(
            {role: model.create_input_buffer_by_name(name, role) for role in _ROLES},
            {output: model.create_output_buffer_by_name(name, output) for output in details},
            {output: tuple(each["shape"]) for output, each in details.items()},
        )


class _Buffers(NamedTuple):
    """Of a signature, used again by each run."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


def _check_shape(role: str, shape, size: Size) -> None:
    if tuple(shape) != (1, *size, 3):
        raise ValueError(f"its signature takes a {role} of shape {tuple(map(int, shape))}")
