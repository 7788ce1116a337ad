"""``tfdense compare``: one table of the results of several runs of ``tfdense evaluate``."""

import argparse
import json
from pathlib import Path

from tfdense.errors import InputError
from tfdense.evaluation.tables import markdown_tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` reads."""
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="what -o of `tfdense evaluate` named; data sets appear in this order",
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the tables in Markdown."""
    print(markdown_tables([_read(folder / "results.json") for folder in arguments.results]))
    return 0


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text("utf-8"), parse_constant=_refuse)
        markdown_tables([content])  # on its own, to know whose fault it is
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path} is not what `tfdense evaluate` writes.") from None
    return content


def _refuse(constant: str):
    raise ValueError(constant)
