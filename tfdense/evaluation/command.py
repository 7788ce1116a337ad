"""``tfdense evaluate``: measures a network and classical methods on a public data set."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tfdense
from tfdense import standard_streams
from tfdense.errors import InputError, OutputError
from tfdense.evaluation.baselines import BASELINES, USUAL, choose
from tfdense.evaluation.contact_sheet import ContactSheet
from tfdense.evaluation.datasets import DATASETS, find_pairs
from tfdense.evaluation.measuring import Matches, Measurement, measure
from tfdense.evaluation.pairs import EvaluationPair, UnreadPair
from tfdense.evaluation.summary import summarize
from tfdense.evaluation.tables import NETWORK, text_table, usage
from tfdense.files import check_outputs, write_text
from tfdense.images import find_images, write_image
from tfdense.inference.settings import DEFAULT, add_finer_options, add_setting, chosen
from tfdense.options import one_of, several
from tfdense.startup import import_tensorflow

if TYPE_CHECKING:  # The classical methods are measured without TensorFlow.
    from tfdense.mixture import Mixture

_SMALLEST_SIDE = 64
_NUMBERS = ("results.json", "pairs.csv")
_PICTURES = ("worst_pairs.png", "sparsification.png", "reliability.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` reads."""
    parser.usage = "%(prog)s [option ...] --data DIR NAME"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    layouts = "\n".join(f"  {name}: {dataset.layout}" for name, dataset in DATASETS.items())
    parser.epilog = f"data sets and the layouts of their folders:\n{layouts}"
    parser.add_argument("dataset", metavar="NAME", help="data set, see below")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="its folder")
    parser.add_argument(
        "--model",
        help="what `tfdense match` takes; without it, only the classical methods are measured",
    )
    add_setting(parser, None)
    parser.add_argument(
        "--methods",
        **several(one_of(BASELINES)),
        metavar="METHOD,...",
        help=f"the classical methods, of: {', '.join(BASELINES)} (all but DeepFlow, which needs "
        "the extra peers)",
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
        help="shrink images, and ground truth along, to a longer side of N px; without it the "
        "network sees them as the setting says",
    )
    add_finer_options(parser, without=["--max-side"])


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints a table and writes the files.

    Returns:
        0, or 1 if a pair could not be measured.
    """
    if arguments.max_side is not None and arguments.max_side < _SMALLEST_SIDE:
        raise InputError(
            f"Expected --max-side to be at least {_SMALLEST_SIDE}. Received: {arguments.max_side}"
        )
    given = arguments.setting, arguments.mode, arguments.fill, arguments.tiles
    if arguments.model is None and any(value is not None for value in given):
        raise InputError(
            "Expected --model NETWORK beside --setting, --mode, --fill and --tiles, which say how "
            "a network is used. "
            "Received: none, so that only the classical methods would be measured."
        )
    use = chosen(arguments)
    arguments.mode, arguments.fill, arguments.tiles = use.mode, use.fill, use.tiles
    methods = choose(arguments.methods or USUAL)
    pairs = find_pairs(arguments.dataset, arguments.data)
    folder = arguments.output
    pictures = _PICTURES if arguments.model is not None else ()
    photos = find_images(arguments.data) if DATASETS[arguments.dataset].any_photo else ()
    check_outputs([folder / name for name in (*_NUMBERS, *pictures)], photos)
    mixture, worst = None, ContactSheet()
    if arguments.model is not None:
        methods[NETWORK] = _network(arguments, folder)
        mixture = methods[NETWORK].mixture
    measurements, failures = _measure_all(pairs, arguments.max_side, methods, mixture, worst)
    if not measurements:
        raise _nothing_measured(arguments, failures)

    reasons = {name: _reason(error) for name, error in failures.items()}
    summary = summarize(measurements)
    count = len(measurements) // len(methods)
    title = f"{arguments.dataset}, number of pairs: {count}"
    if arguments.max_side is not None:
        title += f", longer side at most {arguments.max_side} px"
    if arguments.model is not None:
        title += f", network: {arguments.model} ({usage(vars(arguments))})"
    _write_numbers(folder, arguments, count, measurements, summary, reasons)
    names = [*_NUMBERS]
    if arguments.model is not None:
        write_image(folder / "worst_pairs.png", worst.picture())
        names += ["worst_pairs.png", *_write_plots(folder, arguments.dataset, summary[NETWORK])]
    print(f"{title}; mean over pairs")
    print(text_table(summary))
    print(f"wrote to {folder}: {', '.join(names)}")
    if not reasons:
        return 0
    lines = [f"{len(reasons)} of {count + len(reasons)} pairs could not be measured:"]
    lines += [f"  {name}: {reason}" for name, reason in reasons.items()]
    standard_streams.complain("\n".join(lines))
    return 1


def _measure_all(
    pairs: Iterable[UnreadPair],
    max_side: int | None,
    methods: Mapping[str, Matches],
    mixture: "Mixture | None",
    worst: ContactSheet,
) -> tuple[list[Measurement], dict[str, Exception]]:
    """Returns the measurements, and by name of a pair why it could not be measured."""
    measurements, failures = [], {}
    for unread in _counted(pairs):
        try:
            pair = _read(unread)
            if pair is None:
                continue
            if max_side is not None:
                pair = pair.limited(max_side)
            of_pair = list(measure(methods, pair, mixture))
            for measurement, match in of_pair:
                if measurement.method == NETWORK:
                    worst.consider(pair, match, measurement)
        except OutputError:
            raise  # The other pairs could not be kept either.
        except Exception as error:  # Whatever it is, it may be this pair's alone.
            failures[unread.name] = error
        else:
            measurements += [measurement for measurement, _ in of_pair]
    return measurements, failures


def _read(unread: UnreadPair) -> EvaluationPair | None:
    try:
        return unread.read()
    except InputError:
        raise
    except Exception as error:  # of a library that meets a broken file
        raise InputError(f"it cannot be read: {_reason(error)}") from error


def _nothing_measured(
    arguments: argparse.Namespace, failures: Mapping[str, Exception]
) -> Exception:
    """Returns what to raise; an error that is not the user's keeps its stack trace."""
    if not failures:
        return InputError(f"{arguments.data} holds no pair of {arguments.dataset}.")
    name, error = next(iter(failures.items()))
    if not isinstance(error, InputError):
        return error
    count = len(failures)
    return InputError(f"None of the {count} pairs could be measured. The first, {name}: {error}")


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    return " ".join([f"{type(error).__name__}:", *str(error).split()])


def _network(arguments: argparse.Namespace, folder: Path):
    import_tensorflow()
    from tfdense.evaluation.raw_results import RecordedNetwork, identify

    names = ("max_side", "mode", "setting", "fill", "tiles")
    use = {name: getattr(arguments, name) for name in names}
    use["setting"] = use["setting"] or DEFAULT
    key = identify(arguments.model, **use)
    return RecordedNetwork(lambda: tfdense.load(arguments.model, **use), folder / "raw" / key)


def _counted(pairs: Iterable[UnreadPair]) -> Iterator[UnreadPair]:
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
    reasons: dict[str, str],
) -> None:
    content = {
        "version": tfdense.__version__,
        "dataset": arguments.dataset,
        "data": str(arguments.data),
        "model": arguments.model,
        "setting": arguments.setting,
        "mode": arguments.mode,
        "fill": arguments.fill,
        "tiles": arguments.tiles,
        "max_side": arguments.max_side,
        "pairs": count,
        "failed": reasons,
        "methods": summary,
    }
    write_text(folder / "results.json", json.dumps(content, indent=2) + "\n")
    names = dict.fromkeys(name for m in measurements for name in m.values)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, ["pair", "method", *names])
    writer.writeheader()
    writer.writerows({"pair": m.pair, "method": m.method} | m.values for m in measurements)
    write_text(folder / "pairs.csv", table.getvalue())


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
