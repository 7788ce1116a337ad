"""Measures the local correlation, forward and backward, beside plain automatic differentiation.

python bench/correlation.py

The two are timed by turns in one run, since the ratio says more than the seconds of one machine.
"""

import argparse
import itertools
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from tfdense.ops import correlation

_SHAPES = ((8, 64, 64, 32), (8, 32, 32, 64))


def plain(target, source, radius: int) -> tf.Tensor:
    """Multiplies slices and takes their mean, and leaves the gradient to TensorFlow."""
    height, width = target.shape[1:3]
    padded = tf.pad(source, [[0, 0], [radius, radius], [radius, radius], [0, 0]])
    means = [
        tf.reduce_mean(target * padded[:, y : y + height, x : x + width], axis=-1)
        for y in range(2 * radius + 1)
        for x in range(2 * radius + 1)
    ]
    return tf.stack(means, axis=-1)


def step_of(correlate, shape, radius: int, backward: bool):
    """Returns a function that computes the correlation of fixed features, or both gradients too."""
    generator = np.random.default_rng(0)
    target, source = (tf.constant(generator.normal(size=shape), tf.float32) for _ in range(2))

    @tf.function
    def step():
        if not backward:
            return [correlate(target, source, radius)]
        with tf.GradientTape() as tape:
            tape.watch([target, source])
            output = correlate(target, source, radius)
        return tape.gradient(output, [target, source], output_gradients=output)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--radius", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5, help="the median of so many is printed")
    arguments = parser.parse_args()

    print(f"radius {arguments.radius}, {os.cpu_count()} cores, TensorFlow {tf.__version__}")
    print(f"{'shape':>16}  {'':>8}  {'':>8}  {'CPU s':>7}  {'wall s':>7}")
    for shape, backward in itertools.product(_SHAPES, (False, True)):
        steps = {
            name: step_of(function, shape, arguments.radius, backward)
            for name, function in (("plain", plain), ("tfdense", correlation.local))
        }
        results = [step() for step in steps.values()]  # compiles, too
        for ours, theirs in zip(*results, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)

        seconds = {name: [] for name in steps}
        for _ in range(arguments.repeats):
            for name, step in steps.items():
                wall, cpu = time.perf_counter(), time.process_time()
                step()
                seconds[name].append((time.process_time() - cpu, time.perf_counter() - wall))
        medians = {name: np.median(values, axis=0) for name, values in seconds.items()}
        rows = {**medians, "ratio": medians["plain"] / medians["tfdense"]}
        what = "training" if backward else "forward"
        for name, (cpu, wall) in rows.items():
            print(f"{'x'.join(map(str, shape)):>16}  {what:>8}  {name:>8}  {cpu:7.3f}  {wall:7.3f}")


if __name__ == "__main__":
    main()
