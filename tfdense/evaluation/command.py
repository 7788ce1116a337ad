"""``tfdense evaluate``: measures a network and classical methods on a public data set."""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tfdense
from tfdense.errors import InputError
from tfdense.evaluation.baselines import BASELINES
from tfdense.evaluation.measuring import measure, summarize
from tfdense.evaluation.pairs import EvaluationPair
from tfdense.evaluation.readers import DATASETS, read_pairs
from tfdense.files import replacing
from tfdense.inference.checks import output_folder
from tfdense.inference.modes import MODES
from tfdense.startup import import_tensorflow

_NETWORK = "network"
_SMALLEST_SIDE = 64
# Name of a value, heading in the table, decimals.
_TABLE = (
    ("aepe", "AEPE", 2),
    ("pck_1", "PCK-1", 1),
    ("pck_3", "PCK-3", 1),
    ("pck_5", "PCK-5", 1),
    ("pck_10", "PCK-10", 1),
    ("fl", "Fl", 1),
    ("ause", "AUSE", 3),
    ("seconds", "seconds", 3),
)
# Name of figures that not every method has, title, what stands before their keys, decimals.
_DETAILS = (
    ("corner_error_auc", "homography, corner error in px, AUC", "@", 1),
    ("pose_auc", "pose, error in degrees, AUC", "@", 1),
    ("pose_map", "pose, error in degrees, mAP", "@", 1),
    ("expected_calibration_error", "expected calibration error", "P_", 3),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    layouts = "\n".join(f"  {name}: {dataset.layout}" for name, dataset in DATASETS.items())
    parser.epilog = f"data sets and the layouts of their folders:\n{layouts}"
    parser.add_argument("dataset", metavar="NAME", help="data set, see below")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="its folder")
    parser.add_argument(
        "--model",
        help="what `tfdense match` takes; without it, only the classical methods are measured",
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="direct",
        help="how the network is used, see `tfdense match` (%(default)s)",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="evaluation",
        metavar="DIR",
        help="folder to write to (%(default)s)",
    )
    parser.add_argument(
        "--max-side",
        type=int,
        metavar="N",
        help="shrink images, and ground truth along, to a longer side of N px; the network sees "
        "640 px at most without it",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints a table and writes ``results.json`` and ``pairs.csv``."""
    if arguments.max_side is not None and arguments.max_side < _SMALLEST_SIDE:
        raise InputError(
            f"Expected --max-side to be at least {_SMALLEST_SIDE}. Received: {arguments.max_side}"
        )
    pairs = read_pairs(arguments.dataset, arguments.data)
    folder = output_folder(arguments.output)

    methods, mixture = dict(BASELINES), None
    if arguments.model is not None:
        import_tensorflow()
        network = tfdense.load(arguments.model, arguments.max_side, arguments.mode)
        methods[_NETWORK], mixture = network, network.mixture
    if arguments.max_side is not None:
        pairs = (pair.limited(arguments.max_side) for pair in pairs)
    measurements = list(measure(methods, _counted(pairs), mixture))
    if not measurements:
        raise InputError(f"{arguments.data} holds no pair of {arguments.dataset}.")

    summary = summarize(measurements)
    count = len(measurements) // len(methods)
    _write(folder, arguments, count, measurements, summary)
    title = f"{arguments.dataset}, number of pairs: {count}"
    if arguments.max_side is not None:
        title += f", longer side at most {arguments.max_side} px"
    if arguments.model is not None:
        title += f", network: {arguments.model} ({arguments.mode})"
    print(f"{title}; mean over pairs")
    print(_table(summary))
    print(f"wrote to {folder}: results.json, pairs.csv")
    return 0


def _counted(pairs: Iterable[EvaluationPair]) -> Iterator[EvaluationPair]:
    """Shows how far it is, if somebody watches."""
    for number, pair in enumerate(pairs, 1):
        if sys.stderr.isatty():
            print(f"\rpair {number} ", end="", file=sys.stderr, flush=True)
        yield pair
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)


def _table(summary: dict) -> str:
    width = max(map(len, summary))
    known = {name for figures in summary.values() for name in figures["mean_over_pairs"]}
    columns = [column for column in _TABLE if column[0] in known]
    lines = [" ".join([" " * width, *(f"{heading:>8}" for _, heading, _ in columns)])]
    for method, figures in summary.items():
        values = figures["mean_over_pairs"]
        cells = (f"{values[name]:8.{decimals}f}" for name, _, decimals in columns)
        lines.append(" ".join([method.ljust(width), *cells]))
        for name, title, prefix, decimals in _DETAILS:
            if name in figures:
                parts = (
                    f"{prefix}{key} {value:.{decimals}f}" for key, value in figures[name].items()
                )
                lines.append(f"  {title}: {', '.join(parts)}")
        if "ause_forward_backward" in values:
            lines.append(
                f"  AUSE by forward-backward error: {values['ause_forward_backward']:.3f}; "
                f"mean P_1: {values['mean_confidence']:.3f}"
            )
    return "\n".join(lines)


def _write(
    folder: Path, arguments: argparse.Namespace, count: int, measurements: Sequence, summary: dict
) -> None:
    content = {
        "version": tfdense.__version__,
        "dataset": arguments.dataset,
        "data": str(arguments.data),
        "model": arguments.model,
        "mode": arguments.mode,
        "max_side": arguments.max_side,
        "pairs": count,
        "methods": summary,
    }
    with replacing(folder / "results.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    names = dict.fromkeys(name for m in measurements for name in m.values)
    with replacing(folder / "pairs.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["pair", "method", *names])
        writer.writeheader()
        for m in measurements:
            writer.writerow({"pair": m.pair, "method": m.method} | m.values)
