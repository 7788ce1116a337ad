"""The command ``tfdense``: its subcommands are found here and live in the modules they name."""

import argparse
import importlib
import sys
from collections.abc import Sequence

import tfdense
from tfdense import standard_streams
from tfdense.errors import InputError

# What a shell says of a program that wrote to a pipe which nobody reads: 128 and SIGPIPE.
_BROKEN_PIPE = 141

# Each module has add_arguments(parser) and run(arguments); only the one that runs is imported.
_COMMANDS = {
    "match": ("tfdense.inference.command", "match two images; write flow, confidence, pictures"),
    "match-pairs": (
        "tfdense.pairs.command",
        "match the pairs of a list, or of a folder of images, and write each result",
    ),
    "video": (
        "tfdense.video.command",
        "match the frames of a film: flow, stabilised film, points and pictures followed",
    ),
    "evaluate": (
        "tfdense.evaluation.command",
        "measure a network and classical methods on a data set with ground truth",
    ),
    "compare": (
        "tfdense.evaluation.comparing",
        "put the results of several evaluations into one Markdown table",
    ),
    "train": ("tfdense.training.command", "train a network on photos"),
    "export": (
        "tfdense.exporting.command",
        "write a SavedModel, a .tflite or .onnx file or a training bundle",
    ),
    "info": (
        "tfdense.exporting.info",
        "say what an exported .tflite file holds, what it costs and what a GPU would not run",
    ),
    "serve": (
        "tfdense.serving.command",
        "answer requests over HTTP and gRPC with an exported network",
    ),
    "convert": ("tfdense.converting", "convert the weights of the published PDC-Net networks"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Args:
        arguments: of the command line; None takes the process's.

    Returns:
        The exit status: 0; 1 if a part of the work failed, which the output names; 2 after a
        mistake of the user; 130 after Ctrl-C; 141 if nobody reads the output any more.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    standard_streams.prepare()
    try:
        try:
            parsed = _parser(arguments).parse_args(arguments)
            return parsed.run(parsed)
        finally:
            standard_streams.flush()
    except BrokenPipeError:
        return _BROKEN_PIPE
    except (InputError, OSError) as error:
        standard_streams.complain(f"tfdense: error: {error}")
        return 2
    except MemoryError as error:
        standard_streams.complain(f"tfdense: error: Not enough memory. {error}".rstrip())
        return 2
    except KeyboardInterrupt:
        return 130


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tfdense", description=tfdense.__doc__)
    parser.add_argument("--version", action="version", version=f"tfdense {tfdense.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module_name, summary) in _COMMANDS.items():
        description = f"{summary[0].upper()}{summary[1:]}."
        command = commands.add_parser(name, help=summary, description=description)
        if arguments and arguments[0] == name:
            module = importlib.import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
