"""``tfdense export``: writes a network for a server or a device."""

import argparse
import sys

from tfdense.startup import import_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` reads: the sub-commands saved-model and tflite."""
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")
    saved_model = formats.add_parser("saved-model", help="a SavedModel, for TensorFlow Serving")
    tflite = formats.add_parser("tflite", help="a .tflite file, for LiteRT")
    for command in (saved_model, tflite):
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
    tflite.add_argument("-o", "--output", required=True, metavar="FILE", help="file to write")
    tflite.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(256, 256),
        metavar=("HEIGHT", "WIDTH"),
        help="of the images, to which the file is bound (256 256)",
    )
    tflite.add_argument(
        "--precision",
        choices=("float32", "float16"),
        default="float32",
        help="of the weights (%(default)s); float16 halves the file",
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

    try:
        if arguments.format == "saved-model":
            report = exporting.export_saved_model(arguments.network, arguments.output)
        else:
            size = tuple(arguments.size)
            report = exporting.export_tflite(
                arguments.network, arguments.output, size, arguments.precision
            )
    except exporting.VerificationError as error:
        print(error, file=sys.stderr)
        return 1
    print(report)
    return 0
