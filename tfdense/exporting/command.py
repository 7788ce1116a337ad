"""``tfdense export``: writes a network for a server or a device."""

import argparse
import json
import re
import sys
from pathlib import Path

from tfdense.checks import LARGEST_EXPORTED_SIDE, check_exported_side
from tfdense.config import load_config
from tfdense.errors import InputError, printable
from tfdense.options import one, several
from tfdense.startup import import_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` reads: the sub-commands saved-model, tflite, onnx and stablehlo."""
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")
    saved_model = formats.add_parser("saved-model", help="a SavedModel, for TensorFlow Serving")
    tflite = formats.add_parser("tflite", help="a .tflite file, for LiteRT")
    onnx = formats.add_parser("onnx", help="a .onnx file, for ONNX Runtime, OpenVINO and others")
    for command in (saved_model, tflite, onnx):
        command.add_argument(
            "network", metavar="RUN", help="the folder of a run, its .weights.h5, or a preset"
        )
    saved_model.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        help="folder of the model's numbered versions, to which this adds the next",
    )
    for command in (tflite, onnx):
        command.add_argument("-o", "--output", required=True, metavar="FILE", help="file to write")
    tflite.add_argument(
        "--size",
        **several(_exported_size),
        metavar="HEIGHTxWIDTH,...",
        help="of the images, to which the file is bound (256x256); of several, the file has a "
        f"signature for each; sides of at most {LARGEST_EXPORTED_SIDE}, multiples of the network's "
        "stride",
    )
    onnx.add_argument(
        "--size",
        type=one(_exported_size),
        default=(480, 640),
        metavar="HEIGHTxWIDTH",
        help="of the images, to which the file is bound (480x640)",
    )
    tflite.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="of the weights (%(default)s), with which it computes in float32; float16 makes the "
        "file much smaller, int8 still more, but may lose a percent of the matches",
    )
    _add_bundle_arguments(
        formats.add_parser("stablehlo", help="a bundle that trains with NumPy and JAX alone")
    )


def _add_bundle_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="configuration (YAML)")
    command.add_argument("--data", type=Path, metavar="DIR", help="photos, any folder of images")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one value"
    )
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write"
    )
    command.add_argument(
        "--programs",
        nargs="+",
        metavar="SIZExBATCH",
        help="size of the images and number of pairs of each program, such as 256x64 448x24 "
        "(data.size and train.batch_size)",
    )
    command.add_argument(
        "--precisions",
        nargs="+",
        choices=("float32", "mixed_bfloat16"),
        help="in which there is each program (train.precision)",
    )
    command.add_argument(
        "--match",
        nargs="+",
        default=[],
        metavar="HEIGHTxWIDTH",
        help="sizes of images, for each of which there is a program that matches",
    )


def run(arguments: argparse.Namespace) -> int:
    """Exports, verifies and prints a report.

    Returns:
        0, or 1 if the written file answered differently than Keras and was not kept.
    """
    import_tensorflow()
    import absl.logging

    # It would warn that no gradients are exported.
    absl.logging.set_verbosity(absl.logging.ERROR)
    from tfdense import exporting

    if arguments.format == "stablehlo":
        return _export_bundle(arguments)
    try:
        if arguments.format == "saved-model":
            report = exporting.export_saved_model(arguments.network, arguments.output)
        elif arguments.format == "onnx":
            report = exporting.export_onnx(arguments.network, arguments.output, arguments.size)
        else:
            report = exporting.export_tflite(
                arguments.network,
                arguments.output,
                arguments.size or [(256, 256)],
                arguments.precision,
            )
    except exporting.VerificationError as error:
        print(error, file=sys.stderr)
        return 1
    print(report)
    return 0


def _export_bundle(arguments: argparse.Namespace) -> int:
    from tfdense.exporting.bundled_pairs import bundled_pairs
    from tfdense.exporting.training_bundle import Variant, export_bundle

    overrides = list(arguments.set)
    if arguments.data is not None:
        overrides.append(f"data.photos={json.dumps(str(arguments.data))}")
    config = load_config(arguments.config, overrides)
    own = [(config.data.size, config.train.batch_size)]
    variants = [
        Variant(*batch, precision)
        for batch in [two_numbers(text) for text in arguments.programs or ()] or own
        for precision in arguments.precisions or [config.train.precision]
    ]
    largest = max(variants).configure(config)
    folder = arguments.output
    manifest = export_bundle(
        config,
        folder,
        bundled_pairs(largest),
        variants,
        [two_numbers(text) for text in arguments.match],
        begin=lambda name: print(f"Lowering {name}", file=sys.stderr, flush=True),
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB; programs {', '.join(manifest['programs'])}")
    print(f"Where JAX is installed: python {folder}/train.py --minutes 10")
    return 0


def _exported_size(text: str) -> tuple[int, int]:
    """Reads a height and width, which a network may still refuse, and then says what it takes.

    Raises:
        InputError: if it is none, or larger than any exported file could be run with.
    """
    numbers = re.fullmatch(r"(-?\d{1,18})x(-?\d{1,18})", text)
    if numbers is None:
        raise InputError(f"Expected two numbers such as 256x64. Received: {printable(text)}")
    size = int(numbers[1]), int(numbers[2])
    check_exported_side(size)
    return size


def two_numbers(text: str) -> tuple[int, int]:
    """Reads a size such as 480x640.

    Raises:
        InputError: if it is none.
    """
    numbers = text.split("x")
    if len(numbers) != 2 or not all(number.isdecimal() and int(number) for number in numbers):
        raise InputError(f"Expected two numbers such as 256x64. Received: {text}")
    return int(numbers[0]), int(numbers[1])
