"""Measures how fast training pairs are made, and how fast training takes them.

    python bench/data.py                 the bundled photos
    python bench/data.py FOLDER          the photos below a folder
    python bench/data.py --objects DIR   with cut-outs as moving objects
    python bench/data.py --config FILE   the pairs of an experiment, but for photos and size
    python bench/data.py --worlds 0 0.5 1    only makes pairs, with these shares of worlds
    python bench/data.py --uncompiled        only makes pairs, by turns with XLA and without

What is measured has all cores to itself.
"""

import argparse
import dataclasses
import functools
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from tfdense.config import Config, load_config
from tfdense.data import training_pairs
from tfdense.data.assembly import make_pairs, mixed
from tfdense.data.canvases import Canvases, pair_seed
from tfdense.data.photos import training_photos
from tfdense.data_config import DataConfig, WorldsConfig
from tfdense.models import build
from tfdense.training.optimizer import build_optimizer
from tfdense.training.step import build_train_step

_WARM_UP = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="?", help="folder of photos (default: the bundled ones)")
    parser.add_argument("--objects", help="folder of cut-outs with an alpha channel")
    parser.add_argument("--config", help="of a training (YAML), whose pairs are made")
    parser.add_argument(
        "--worlds", nargs="+", type=float, metavar="SHARE", help="only makes pairs, for each share"
    )
    parser.add_argument(
        "--uncompiled", action="store_true", help="only makes pairs, without XLA beside with it"
    )
    parser.add_argument("--size", type=int, default=256, help="side of the images, in pixels")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batches", type=int, default=50, help="how many are timed")
    parser.add_argument("--steps", type=int, default=10, help="how many training steps are timed")
    arguments = parser.parse_args()

    config = load_config(arguments.config).data
    objects = dataclasses.replace(config.objects, folder=arguments.objects)
    config = dataclasses.replace(
        config, photos=arguments.photos, size=arguments.size, objects=objects
    )
    print(
        f"{arguments.photos or 'the bundled photos'}, {arguments.size}x{arguments.size}, "
        f"batches of {arguments.batch_size}, {os.cpu_count()} cores"
    )
    for share in arguments.worlds or ():
        worlds = dataclasses.replace(config, worlds=WorldsConfig(share=share))
        batches = iter(training_pairs(worlds, arguments.batch_size, seed=0))
        name = f"pairs made, {share:.0%} of them worlds"
        _measure(name, functools.partial(next, batches), arguments.batches, arguments.batch_size)
        del batches
    if arguments.worlds:
        return
    if arguments.uncompiled:
        _compare(config, arguments.batch_size, arguments.batches)
        return
    batches = iter(training_pairs(config, arguments.batch_size, seed=0))
    made = _measure("pairs made", lambda: next(batches), arguments.batches, arguments.batch_size)
    # Nothing makes pairs ahead while training is measured: the prefetched ones are there by then.
    train = _train(next(batches))
    trained = _measure("pairs trained", train, arguments.steps, arguments.batch_size)
    print(f"making pairs is {trained[0] / made[0]:.1f} times as fast as training on them, ", end="")
    print(f"and takes {made[1] / trained[1]:.0%} of its CPU time")


def _compare(config: DataConfig, batch_size: int, count: int) -> None:
    """Measures both ways twice, by turns, so that a change of the machine's load shows."""
    ways = {
        "with XLA": training_pairs(config, batch_size, 0),
        "without": _plainly(config, batch_size),
    }
    seconds = {name: [] for name in ways}
    for _ in range(2):
        for name, dataset in ways.items():
            # What is prefetched belongs to nobody's time.
            batches = iter(dataset)
            run = functools.partial(next, batches)
            seconds[name].append(_measure(f"pairs made {name}", run, count, batch_size))
            del batches
    for clock, kind in enumerate(("on the clock", "of CPU time")):
        with_xla, without = (sum(turn[clock] for turn in turns) for turns in seconds.values())
        print(f"with XLA {without / with_xla:.2f} times as fast {kind}")


def _plainly(config: DataConfig, batch_size: int) -> tf.data.Dataset:
    """Makes the same pairs from TensorFlow's own operations, a batch at a time."""
    canvases = Canvases(training_photos(config), config)

    def read(number):
        own = tf.numpy_function(lambda i: pair_seed(0, 0, i), [number], tf.int32, stateful=False)
        own = tf.ensure_shape(own, [2])
        return *canvases.read(number % len(canvases), own), own

    def make(*parts):
        return mixed(make_pairs(*parts, config, 1.0), parts[-1], config)

    numbers = tf.data.Dataset.range(tf.int64.max)
    parts = numbers.map(read, num_parallel_calls=tf.data.AUTOTUNE)
    parts = parts.batch(batch_size, drop_remainder=True)
    make = tf.autograph.experimental.do_not_convert(make)
    return parts.map(make, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _train(batch: dict) -> Callable[[], tf.Tensor]:
    """Returns a function that does one training step of the default network."""
    config = Config()
    model = build(config.model, config.train.precision)
    optimizer = build_optimizer(config.train, model.trainable_variables)
    step = build_train_step(model, optimizer, None, config.loss, tf.distribute.get_strategy())
    return lambda: step(batch)[0].numpy()


def _measure(name: str, run: Callable, count: int, batch_size: int) -> tuple[float, float]:
    """Prints and returns the seconds a pair takes: on the clock, and of all cores together."""
    for _ in range(_WARM_UP):
        run()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        run()
    pairs = count * batch_size
    wall, cpu = (time.perf_counter() - wall) / pairs, (time.process_time() - cpu) / pairs
    print(
        f"{name}: {1 / wall:.1f} pairs/s, {1000 * wall:.1f} ms a pair; "
        f"{1000 * cpu:.1f} ms CPU a pair",
        flush=True,
    )
    return wall, cpu


if __name__ == "__main__":
    main()
