"""What can run a .tflite file: each gives a function of {"source", "target"}, uint8 batches."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tfdense.lite_runners import CompiledRunner, InterpreterRunner
from tfdense.tflite_files import SIGNATURE, open_file

Run = Callable[[Mapping[str, np.ndarray]], object]


def interpreter(path: Path, threads: int) -> Run:
    """LiteRT's Interpreter."""
    file = open_file(path, num_threads=threads)
    size = tuple(file.metadata["size"])
    runner = InterpreterRunner(file.interpreter, {size: SIGNATURE})
    return lambda images: runner.run(size, images)


def compiled_model(path: Path, threads: int) -> Run:
    """LiteRT's CompiledModel, on the CPU."""
    size = tuple(open_file(path).metadata["size"])
    runner = CompiledRunner(path, {size: SIGNATURE}, "cpu", threads)
    return lambda images: runner.run(size, images)


def openvino(path: Path, threads: int) -> Run:
    """OpenVINO, which reads .tflite files of one size."""
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    model = core.compile_model(core.read_model(path), "CPU", options)
    names = [each.get_any_name() for each in model.inputs]
    return lambda images: model([images[_role(name)] for name in names])


def onnx_runtime(path: Path, threads: int) -> Run:
    """ONNX Runtime, with the .onnx file beside a .tflite."""
    import onnxruntime

    path = path.with_suffix(".onnx")
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = {each.name: _role(each.name) for each in session.get_inputs()}
    return lambda images: session.run(None, {name: images[role] for name, role in names.items()})


RUNTIMES: dict[str, Callable[[Path, int], Run]] = {
    "LiteRT Interpreter": interpreter,
    "LiteRT CompiledModel": compiled_model,
    "OpenVINO": openvino,
    "ONNX Runtime": onnx_runtime,
}


def _role(name: str) -> str:
    """Returns which image an input is: run-times lengthen the names."""
    return "source" if "source" in name else "target"
