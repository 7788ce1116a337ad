"""Measures how fast training pairs are made.

python bench/data.py                 the bundled photos
python bench/data.py FOLDER          the photos below a folder
python bench/data.py --objects DIR   with cut-outs as moving objects
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfdense.config import DataConfig, ObjectConfig
from tfdense.data import training_pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="?", help="folder of photos (default: the bundled ones)")
    parser.add_argument("--objects", help="folder of cut-outs with an alpha channel")
    parser.add_argument("--size", type=int, default=256, help="side of the images, in pixels")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batches", type=int, default=50, help="how many are timed")
    arguments = parser.parse_args()

    objects = ObjectConfig(folder=arguments.objects)
    config = DataConfig(photos=arguments.photos, size=arguments.size, objects=objects)
    batches = iter(training_pairs(config, arguments.batch_size, seed=0))
    began = time.perf_counter()
    for _ in range(5):
        next(batches)
    print(f"{arguments.photos or 'the bundled photos'}, {arguments.size}x{arguments.size}")
    print(f"first 5 batches of {arguments.batch_size}: {time.perf_counter() - began:.2f} s")
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(arguments.batches):
        next(batches)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    pairs = arguments.batches * arguments.batch_size
    print(
        f"then {pairs} pairs: {pairs / wall:.1f} pairs/s, {1000 * wall / pairs:.1f} ms wall and "
        f"{1000 * cpu / pairs:.1f} ms CPU a pair, on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
