"""Writes pairs of warped photos with their flow, as one's own ground truth: write_pairs.py DIR

python experiments/write_pairs.py pairs --count 5 --set seed=1

Each pair gets a folder with source.png, target.png and flow.npy, unknown (NaN) where there is no
match: what `configs/finetune.yaml` learns from and ``tfdense evaluate flow`` measures on.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np

from tfdense.config import load_config
from tfdense.data import training_pairs
from tfdense.errors import exit_status
from tfdense.images import write_image
from tfdense.options import one, positive

_BATCH = 4


def main() -> int:
    """Writes the pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--config", type=Path, metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--count", type=one(positive), default=40, help="of pairs (%(default)s)")
    arguments = parser.parse_args()
    return exit_status(parser.prog, lambda: _write(arguments))


def _write(arguments: argparse.Namespace) -> None:
    config = load_config(arguments.config, arguments.set)
    batches = training_pairs(config.data, _BATCH, config.seed)
    arguments.folder.mkdir(parents=True)
    pairs = itertools.chain.from_iterable(map(_single, batches))
    for number, pair in enumerate(itertools.islice(pairs, arguments.count)):
        folder = arguments.folder / f"{number:04d}"
        for name in ("source", "target"):
            write_image(folder / f"{name}.png", np.uint8(np.clip(np.rint(pair[name]), 0, 255)))
        flow = np.where(pair["mask"][..., None] > 0, pair["flow"], np.nan)
        np.save(folder / "flow.npy", flow.astype(np.float32))


def _single(batch: dict) -> list[dict]:
    batch = {name: values.numpy() for name, values in batch.items()}
    return [{name: values[i] for name, values in batch.items()} for i in range(_BATCH)]


if __name__ == "__main__":
    sys.exit(main())
