"""Shows training pairs and says what they are like: pairs.py PICTURE.png

python experiments/pairs.py pairs.png --set data.photos=DIR --set data.worlds.share=0.4
python experiments/pairs.py pairs.png --config experiments/pdcnet_lite/larger.yaml --count 2000

The picture has source, target, the source pulled to the target, the flow, and what the match is:
white where it is known and seen, grey where nothing is known, black where there is none.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from tfdense.config import load_config
from tfdense.data import training_pairs
from tfdense.errors import exit_status
from tfdense.images import write_image
from tfdense.ops import warping
from tfdense.options import one, positive
from tfdense.visualize import flow_color

_PICTURED, _PAIRS_A_ROW, _SIDE, _BATCH = 24, 2, 128, 8
_PERCENTILES = (10, 50, 90)


def main() -> int:
    """Writes the picture and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--config", type=Path, metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--count",
        type=one(positive),
        default=_PICTURED,
        help="of the pairs that are measured, in batches (%(default)s)",
    )
    arguments = parser.parse_args()
    return exit_status(parser.prog, lambda: _show(arguments))


def _show(arguments: argparse.Namespace) -> None:
    config = load_config(arguments.config, arguments.set)
    rows, pictures = [], []
    for batch in training_pairs(config.data, _BATCH, config.seed):
        batch = {name: value.numpy() for name, value in batch.items()}
        if len(pictures) < _PICTURED:
            pictures += _pictures(batch)
        rows += _figures(batch)
        if len(rows) >= arguments.count:
            break
    pictures = pictures[:_PICTURED]
    lines = [pictures[i : i + _PAIRS_A_ROW] for i in range(0, len(pictures), _PAIRS_A_ROW)]
    write_image(arguments.picture, np.concatenate([np.concatenate(line, 1) for line in lines]))
    print(f"| of {len(rows)} pairs | " + " | ".join(f"{p} %" for p in _PERCENTILES) + " |")
    print("|---" * (1 + len(_PERCENTILES)) + "|")
    for name in rows[0]:
        values = np.nanpercentile([row[name] for row in rows], _PERCENTILES)
        print(f"| {name} | " + " | ".join(f"{value:.3g}" for value in values) + " |")


def _pictures(batch: dict) -> list[np.ndarray]:
    """Returns a strip of five images for each pair."""
    warped = warping.bilinear(batch["source"], batch["flow"]).numpy()
    match = np.where(batch["mask"] > 0, 255, np.where(batch["unmatched"] > 0, 0, 128))
    every = -(-batch["flow"].shape[1] // _SIDE)
    strips = []
    for i, flow in enumerate(batch["flow"]):
        images = [batch["source"][i], batch["target"][i], warped[i], flow_color(flow)]
        images.append(np.repeat(match[i][..., None], 3, axis=-1))
        small = [np.clip(image, 0, 255).astype(np.uint8)[::every, ::every] for image in images]
        strips.append(np.pad(np.concatenate(small, 1), [(1, 1), (3, 3), (0, 0)]))
    return strips


def _figures(batch: dict) -> list[dict[str, float]]:
    """Returns what is said of each pair."""
    found = []
    for source, target, flow, mask, unmatched in zip(
        *(batch[name] for name in ("source", "target", "flow", "mask", "unmatched")), strict=True
    ):
        length = np.linalg.norm(flow, axis=-1)[mask > 0]
        found.append(
            {
                "flow, median, px": np.median(length) if length.size else np.nan,
                "flow, standard deviation, px": np.std(flow[mask > 0]) if length.size else np.nan,
                "overlap, % of the pixels": 100 * mask.mean(),
                "without a match, %": 100 * unmatched.mean(),
                "brightness of the target": target.mean(),
                "contrast of the target": target.std(),
                "brightness, source less target": source.mean() - target.mean(),
                "sharpness of the target": np.abs(np.diff(target.mean(-1), axis=1)).mean(),
            }
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
