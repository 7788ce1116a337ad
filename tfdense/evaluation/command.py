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
from tfdense.evaluation.contact_sheet import ContactSheet
from tfdense.evaluation.measuring import Measurement, measure
from tfdense.evaluation.pairs import EvaluationPair
from tfdense.evaluation.readers import DATASETS, read_pairs
from tfdense.evaluation.summary import summarize
from tfdense.evaluation.tables import NETWORK, text_table, usage
from tfdense.files import replacing
from tfdense.images import write_image
from tfdense.inference.checks import output_folder
from tfdense.inference.modes import MODES
from tfdense.startup import import_tensorflow

_SMALLEST_SIDE = 64


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
        "--fill",
        action="store_true",
        help="give uncertain pixels the flow of the certain ones around them",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("evaluation"),
        metavar="DIR",
        help="folder to write to (%(default)s); what a network gave is kept in its folder raw, "
        "some 5 MB for a pair of 640x480 px, and not computed again",
    )
    parser.add_argument(
        "--max-side",
        type=int,
        metavar="N",
        help="shrink images, and ground truth along, to a longer side of N px; the network sees "
        "640 px at most without it",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints a table and writes the files."""
    if arguments.max_side is not None and arguments.max_side < _SMALLEST_SIDE:
        raise InputError(
            f"Expected --max-side to be at least {_SMALLEST_SIDE}. Received: {arguments.max_side}"
        )
    pairs = read_pairs(arguments.dataset, arguments.data)
    folder = arguments.output
    if arguments.max_side is not None:
        pairs = (pair.limited(arguments.max_side) for pair in pairs)
    methods, mixture, worst = dict(BASELINES), None, ContactSheet()
    if arguments.model is not None:
        methods[NETWORK] = _network(arguments, folder)
        mixture = methods[NETWORK].mixture
    output_folder(folder)
    measurements = []
    for pair in _counted(pairs):
        for measurement, match in measure(methods, pair, mixture):
            measurements.append(measurement)
            if measurement.method == NETWORK:
                worst.consider(pair, match, measurement)
    if not measurements:
        raise InputError(f"{arguments.data} holds no pair of {arguments.dataset}.")

    summary = summarize(measurements)
    count = len(measurements) // len(methods)
    title = f"{arguments.dataset}, number of pairs: {count}"
    if arguments.max_side is not None:
        title += f", longer side at most {arguments.max_side} px"
    if arguments.model is not None:
        title += f", network: {arguments.model} ({usage(arguments.mode, arguments.fill)})"
    _write_numbers(folder, arguments, count, measurements, summary)
    names = ["results.json", "pairs.csv"]
    if arguments.model is not None:
        write_image(folder / "worst_pairs.png", worst.picture())
        names += ["worst_pairs.png", *_write_plots(folder, arguments.dataset, summary[NETWORK])]
    print(f"{title}; mean over pairs")
    print(text_table(summary))
    print(f"wrote to {folder}: {', '.join(names)}")
    return 0


def _network(arguments: argparse.Namespace, folder: Path):
    import_tensorflow()
    from tfdense.evaluation.raw_results import RecordedNetwork, identify

    use = {"max_side": arguments.max_side, "mode": arguments.mode, "fill": arguments.fill}
    key = identify(arguments.model, **use)
    return RecordedNetwork(lambda: tfdense.load(arguments.model, **use), folder / "raw" / key)


def _counted(pairs: Iterable[EvaluationPair]) -> Iterator[EvaluationPair]:
    """Shows how far it is, if somebody watches."""
    for number, pair in enumerate(pairs, 1):
        if sys.stderr.isatty():
            print(f"\rpair {number} ", end="", file=sys.stderr, flush=True)
        yield pair
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)


def _write_numbers(
    folder: Path,
    arguments: argparse.Namespace,
    count: int,
    measurements: Sequence[Measurement],
    summary: dict,
) -> None:
    content = {
        "version": tfdense.__version__,
        "dataset": arguments.dataset,
        "data": str(arguments.data),
        "model": arguments.model,
        "mode": arguments.mode,
        "fill": arguments.fill,
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


def _write_plots(folder: Path, dataset: str, figures: dict[str, dict]) -> list[str]:
    """Draws what there is of a network; returns the names of the files."""
    # Matplotlib takes a while to import.
    from tfdense.evaluation.plots import plot_reliability, plot_sparsification

    names = []
    if "sparsification" in figures:
        names.append("sparsification.png")
        means = figures["mean_over_pairs"]
        areas = {
            "confidence": means["ause"],
            "forward_backward": means["ause_forward_backward"],
        }
        plot_sparsification(folder / names[-1], dataset, figures["sparsification"], areas)
    if "reliability" in figures:
        names.append("reliability.png")
        errors = figures["expected_calibration_error"]
        plot_reliability(folder / names[-1], dataset, figures["reliability"], errors)
    return names
