"""``tfdense match``: matches two images and writes flow, confidence and pictures."""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from tfdense.checks import check_radius, check_threshold, photo_to_match
from tfdense.errors import InputError, printable, shown
from tfdense.files import check_outputs
from tfdense.formats import FORMATS, files
from tfdense.images import Photo
from tfdense.inference.settings import add_finer_options, add_setting, chosen
from tfdense.networks import check_network
from tfdense.options import one, one_of, several
from tfdense.results import saving
from tfdense.results.match import DEFAULT_THRESHOLD
from tfdense.startup import import_tensorflow, quiet

# What a match may miss when it leads to the source and back: errors of both directions add up.
_CYCLE_RADII = 3
_ROLES = ("source", "target")
_TOKEN = "TFDENSE_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` reads."""
    parser.usage = "%(prog)s [option ...] source target"
    parser.add_argument("source", help="image in which matches are searched; - is standard input")
    parser.add_argument("target", help="image for each pixel of which a match is searched")
    parser.add_argument(
        "-o", "--output", default="match", metavar="DIR", help="folder to write to (%(default)s)"
    )
    add_setting(parser)
    parser.add_argument(
        "--radius",
        type=float,
        metavar="R",
        help="of the confidence, in px of the source (one px of what the network sees, but at "
        "least 1)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=DEFAULT_THRESHOLD,
        metavar="T",
        help="least confidence of what counts as matched (%(default)s)",
    )
    parser.add_argument(
        "--both-ways",
        action="store_true",
        help="also match back, and count as matched only what returns to within "
        f"{_CYCLE_RADII} R px",
    )
    for role in _ROLES:
        parser.add_argument(
            f"--{role}-mask", metavar="FILE", help=f"image that is white where the {role} counts"
        )
    parser.add_argument(
        "--format",
        **several(one_of(FORMATS)),
        default=[],
        metavar="FORM,...",
        help=f"also write any of {', '.join(FORMATS)}",
    )
    parser.add_argument(
        "--model",
        default="pdcnet-lite",
        help="preset, folder of a run, .weights.h5, .keras, SavedModel or .tflite (%(default)s)",
    )
    parser.add_argument(
        "--server",
        type=one(_some_url),
        metavar="URL",
        help=f"of a tfdense serve that runs the network in place of --model; {_TOKEN} holds its "
        "token",
    )
    add_finer_options(parser)


def _some_url(text: str) -> str:
    """Refuses an empty text, which a shell makes of a variable that is not set."""
    if not text.strip():
        raise InputError(f"Expected the URL of a tfdense serve. Received: {shown(text)}")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Matches, writes the files and prints a summary."""
    check_threshold(arguments.threshold)
    check_radius(arguments.radius)
    use = chosen(arguments)
    # Whatever fails should fail before TensorFlow is loaded and the network runs.
    source, target = _read_images(arguments)
    outputs = [Path(arguments.output, name) for name in [*saving.FILES, *files(arguments.format)]]
    masks = [mask for mask in (arguments.source_mask, arguments.target_mask) if mask]
    check_outputs(outputs, [arguments.source, arguments.target, *masks, arguments.model])
    if not arguments.server:
        check_network(arguments.model, arguments.max_side)

    import_tensorflow()
    from tfdense import matcher as matchers

    matcher = (
        _connect(arguments.server, use)
        if arguments.server
        else matchers.load(arguments.model, *use)
    )
    start = time.perf_counter()
    match = matcher.match(source, target, arguments.radius, arguments.both_ways)
    milliseconds = 1000 * (time.perf_counter() - start)
    confident = match.confidence >= arguments.threshold
    cycle, returning = None, ""
    if arguments.both_ways:
        # The way back ends in the target, whose pixels the radius of the way back is in.
        cycle = _CYCLE_RADII * match.reverse.radius
        share = np.mean(match.cycle_error()[confident] <= cycle) if confident.any() else 0.0
        returning = f", of which {share:.1%} return to within {cycle:.3g} px of the target"
    names = _names(arguments.source, arguments.target)
    paths = match.save(arguments.output, arguments.threshold, cycle, arguments.format, names)
    print(
        f"source {_size(match.source)}, target {_size(match.target)}: "
        f"matched in {milliseconds:.0f} ms, preparation of the network included\n"
        f"confidence >= {arguments.threshold:g} at R = {match.radius:.3g} px: "
        f"{confident.mean():.1%} of the target{returning}\n"
        f"wrote to {arguments.output}: {', '.join(path.name for path in paths)}"
    )
    return 0


def _connect(url: str, use: tuple):
    try:
        from tfdense.client import Client
    except ModuleNotFoundError as error:
        raise InputError(
            f"A server needs the package {error.name}: pip install 'tfdense[client]'"
        ) from None
    from tfdense.client.remote import connect

    return connect(Client(url, token=os.environ.get(_TOKEN) or None), *use)


def _read_images(arguments: argparse.Namespace) -> list[Photo]:
    """Reads source and target with their masks; one of the files may be standard input."""
    names = [getattr(arguments, role + part) for role in _ROLES for part in ("", "_mask")]
    if names.count("-") > 1:
        raise InputError("Expected one file at most from standard input. Received: - repeatedly.")
    source, source_mask, target, target_mask = (
        sys.stdin.buffer.read() if name == "-" else name for name in names
    )
    with quiet():  # libtiff prints of damaged files
        return [
            photo_to_match("source", source, source_mask),
            photo_to_match("target", target, target_mask),
        ]


def _names(source: str, target: str) -> tuple[str, str]:
    """Returns what the images are called in forms that name them: without their folders."""
    names = tuple(printable(Path(path).name) for path in (source, target))
    return names if names[0] != names[1] else (f"source/{names[0]}", f"target/{names[1]}")


def _size(image) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
