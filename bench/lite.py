"""Measures a .tflite file in LiteRT: python -m bench.lite FILE --threads 2"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

from tfdense.errors import exit_status
from tfdense.lite import LiteMatcher
from tfdense.tflite_files import count_operations, read_operations


def measure(matcher: LiteMatcher, repetitions: int) -> np.ndarray:
    """Returns the time of each run, in ms, after three that do not count.

    The images are noise: how long the network takes does not depend on them.
    """
    noise = np.random.default_rng(0)
    source, target = noise.integers(0, 256, (2, *matcher.size, 3), np.uint8)
    times = []
    for _ in range(repetitions + 3):
        start = time.perf_counter()
        matcher.run(source, target)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times[3:])


def main() -> int:
    """Prints size, operations, time a pair and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="what tfdense export tflite wrote")
    parser.add_argument("--threads", type=int, default=2, help="for LiteRT (%(default)s)")
    parser.add_argument("--repetitions", type=int, default=30, help="(%(default)s)")
    arguments = parser.parse_args()
    return exit_status(parser.prog, lambda: _show(arguments))


def _show(arguments: argparse.Namespace) -> None:
    matcher = LiteMatcher(arguments.file, arguments.threads)
    content = arguments.file.read_bytes()
    times = measure(matcher, arguments.repetitions)
    height, width = matcher.size
    print(f"{arguments.file}: {len(content) / 1e6:.2f} MB, {matcher.metadata['preset']}")
    for name, count in count_operations(read_operations(content)).items():
        print(f"  {count:4d} {name}")
    print(
        f"{height}x{width}, {arguments.threads} threads: median {np.median(times):.1f} ms a pair "
        f"(fastest {times.min():.1f}, slowest {times.max():.1f}, {len(times)} runs)"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory of the process: {peak / 1e9:.2f} GB")


if __name__ == "__main__":
    sys.exit(main())
