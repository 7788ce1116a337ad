"""Measures one network in Keras, LiteRT, ONNX Runtime and OpenVINO, by turns in one run.

python -m bench.runtimes pdcnet.onnx pdcnet.tflite --model pdcnet-lite

Both files must have been exported of that network, for one size. OpenVINO is measured where it is
installed.
"""

import argparse
import functools
import importlib.util
import os
import time
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from tfdense.exporting.signatures import match_fixed
from tfdense.exporting.verification import Run, read_pair
from tfdense.lite import LiteMatcher
from tfdense.models import load

_ANSWERS = ("flow", "confidence")


def keras_graph(name: str, size: tuple[int, int], threads: int) -> Run:
    """Returns what a network computes in TensorFlow, as one graph."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    spec = tf.TensorSpec([1, *size, 3], tf.uint8)
    function = functools.partial(match_fixed, load(name)[0])
    graph = tf.function(function, autograph=False).get_concrete_function(spec, spec)

    def run(source, target):
        answers = graph(tf.constant(source[None]), tf.constant(target[None]))
        return {name: answers[name][0].numpy() for name in _ANSWERS}

    return run


def onnx_runtime(path: Path, threads: int) -> tuple[Run, tuple[int, int]]:
    """Returns what a .onnx file computes in ONNX Runtime, and its (height, width)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(source, target):
        answers = session.run(_ANSWERS, {"source": source[None], "target": target[None]})
        return dict(zip(_ANSWERS, (answer[0] for answer in answers), strict=True))

    return run, tuple(session.get_inputs()[0].shape[1:3])


def openvino(path: Path, threads: int) -> Run:
    """Returns what a .onnx file computes in OpenVINO, in float32 throughout."""
    import openvino

    properties = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    program = openvino.Core().compile_model(path, "CPU", properties)

    def run(source, target):
        answers = program({"source": source[None], "target": target[None]})
        return {name: answers[name][0] for name in _ANSWERS}

    return run


def measure(runs: Mapping[str, Run], images, rounds: int) -> dict[str, np.ndarray]:
    """Returns the times of each in ms, by turns, after a round that does not count."""
    times = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run(*images)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: np.array(values[1:]) for name, values in times.items()}


def main() -> None:
    """Prints the time of a pair, and how far each answers from Keras."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx", type=Path, help="what tfdense export onnx wrote")
    parser.add_argument("tflite", type=Path, help="what tfdense export tflite wrote")
    parser.add_argument("--model", default="pdcnet-lite", help="of both (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    arguments = parser.parse_args()
    threads = arguments.threads
    onnx, size = onnx_runtime(arguments.onnx, threads)
    runs = {
        "Keras": keras_graph(arguments.model, size, threads),
        "LiteRT": LiteMatcher(arguments.tflite, threads, size=size).run,
        "ONNX Runtime": onnx,
    }
    if importlib.util.find_spec("openvino"):
        runs["OpenVINO"] = openvino(arguments.onnx, threads)
    images = read_pair(size)
    expected = runs["Keras"](*images)
    matched = expected["confidence"] >= 0.5
    print(f"{size[0]}x{size[1]}, {threads} threads, {arguments.rounds} rounds")
    for name, times in measure(runs, images, arguments.rounds).items():
        answer = runs[name](*images)
        error = np.linalg.norm(answer["flow"] - expected["flow"], axis=-1)
        print(
            f"{name:13}{np.median(times):8.0f} ms a pair (fastest {times.min():.0f}); from Keras: "
            f"flow {np.median(error):.1e} px in the median, at most {error[matched].max():.1e} px "
            "where P_1 >= 0.5; confidence at most "
            f"{np.abs(answer['confidence'] - expected['confidence']).max():.1e}"
        )


if __name__ == "__main__":
    main()
