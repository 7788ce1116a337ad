"""Measures the drop-ins for TensorFlow Addons beside what they replace, by turns in one run.

.venv-addons/bin/python bench/addons.py

It runs in the environment that `make test-addons` builds, TensorFlow 2.15, on a CPU.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

from tfdense import addons


def cases() -> dict:
    """Returns, by name: what takes a module's function or layer, their names, and the inputs."""
    generator = np.random.default_rng(0)

    def normal(*shape):
        return tf.constant(generator.normal(size=shape), tf.float32)

    def correlation(*arguments):
        def build(module):
            layer = module.layers.CorrelationCost(*arguments)
            return lambda a, b: layer([a, b])

        return build

    features = [normal(1, 64, 64, 64) for _ in range(2)]
    first = [tf.transpose(x, [0, 3, 1, 2]) for x in features]
    coarse = [normal(1, 48, 64, 256) for _ in range(2)]
    image, flow = normal(4, 256, 256, 3), 5 * normal(4, 256, 256, 2)
    positions = tf.constant(generator.uniform(-5, 260, (4, 256, 256, 2)), tf.float32)
    points = tf.reshape(positions, [4, -1, 2])
    return {
        "CorrelationCost, radius 4, 64x64x64": (
            correlation(1, 4, 1, 1, 4, "channels_last"),
            features,
        ),
        "the same, channels first": (correlation(1, 4, 1, 1, 4, "channels_first"), first),
        "CorrelationCost of FlowNetC, 48x64x256": (
            correlation(1, 20, 1, 2, 20, "channels_last"),
            coarse,
        ),
        "CorrelationCost, 3x3 patches, radius 4": (
            correlation(3, 4, 1, 1, 5, "channels_last"),
            features,
        ),
        "dense_image_warp, 4x256x256x3": (lambda m: m.image.dense_image_warp, [image, flow]),
        "interpolate_bilinear": (lambda m: m.image.interpolate_bilinear, [image, points]),
        "resampler": (lambda m: m.image.resampler, [image, positions]),
    }


class _DropIns:
    """Named as TensorFlow Addons is."""

    layers = image = addons


def step(function, inputs, backward: bool, by_xla: bool):
    """Returns a traced function that computes the value and, if asked for, its gradients."""

    @tf.function(jit_compile=by_xla)
    def run():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        return tape.gradient(value, inputs, output_gradients=value) if backward else [value]

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="the median of so many is printed")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)

    print(
        f"TensorFlow {tf.__version__}, {arguments.threads} threads; wall ms, and ratios to Addons"
    )
    print("| | Addons | tfdense | ratio | tfdense, compiled by XLA | ratio |")
    print("|---|---|---|---|---|---|")
    for name, (build, inputs) in cases().items():
        for backward in (False, True):
            steps = [
                step(build(module), inputs, backward, by_xla)
                for module, by_xla in ((tfa, False), (_DropIns, False), (_DropIns, True))
            ]
            expected, *found = ([tf.convert_to_tensor(x) for x in run()] for run in steps)
            for values in found:
                for one, other in zip(values, expected, strict=True):
                    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
            seconds = [[], [], []]
            for _ in range(arguments.repeats):
                for times, run in zip(seconds, steps, strict=True):
                    start = time.perf_counter()
                    run()
                    times.append(time.perf_counter() - start)
            addons_ms, *own = (1e3 * np.median(times) for times in seconds)
            cells = [f"{ms:.0f} | {addons_ms / ms:.1f}" for ms in own]
            what = "the same, with gradients" if backward else name
            print(f"| {what} | {addons_ms:.0f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
