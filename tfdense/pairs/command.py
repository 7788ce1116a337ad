"""``tfdense match-pairs``: matches the pairs of a list, or of a folder, and writes each result."""

import argparse
import importlib.util
from contextlib import closing
from pathlib import Path

from tfdense import standard_streams
from tfdense.checks import check_radius, check_threshold
from tfdense.errors import InputError
from tfdense.files import check_folder
from tfdense.inference.settings import add_finer_options, add_setting, chosen
from tfdense.job_folder import CONTENT
from tfdense.networks import check_network
from tfdense.pairs.lists import NamedPair, all_pairs, names_in, nearest_pairs, read_list
from tfdense.pairs.manifest import Manifest
from tfdense.pairs.results import FORMATS, Selection, gathers, lost
from tfdense.progress import Progress
from tfdense.results.match import DEFAULT_THRESHOLD
from tfdense.startup import import_tensorflow

_MOST_NAMED = 20

ENGINES = ("local", "ray")
"""What distributes the pairs over the workers."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` reads."""
    parser.usage = "%(prog)s [option ...] -o DIR LIST|FOLDER"
    parser.add_argument(
        "pairs",
        type=Path,
        metavar="LIST|FOLDER",
        help="file with a source and a target on each line, or folder of images, of which each two "
        "are matched once",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder that the names of the list are relative to (that of the list)",
    )
    parser.add_argument(
        "--retrieve",
        type=int,
        metavar="N",
        help="of a folder, match each image only with the N that look most like it",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write to"
    )
    add_setting(parser)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="dense",
        metavar="FORM",
        help="dense: flow and confidence of each pixel; matches: the best single matches; folder: "
        "what `tfdense match` writes, pictures included; or a form of `tfdense match`, of "
        "which colmap and hloc gather all pairs in the same files (%(default)s)",
    )
    parser.add_argument(
        "--matches",
        type=int,
        default=2000,
        metavar="N",
        help="how many of --format matches (%(default)s)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=DEFAULT_THRESHOLD,
        metavar="T",
        help="least confidence of what counts as matched (%(default)s)",
    )
    parser.add_argument(
        "--model", default="pdcnet-lite", help="what `tfdense match` takes (%(default)s)"
    )
    parser.add_argument("--radius", type=float, metavar="R", help="see `tfdense match`")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes, each with its own network (%(default)s)",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="local",
        help="where the workers are: on this machine, or on a cluster of Ray, which sees the same "
        "files (%(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=1,
        metavar="N",
        help="pairs of one size that the network matches at once; more than 1 is for GPUs "
        "(%(default)s)",
    )
    add_finer_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Matches the pairs that have no result yet, and names those that cannot be matched.

    Returns:
        0, or 1 if a pair could not be matched.
    """
    _check(arguments)
    check_network(arguments.model, arguments.max_side)
    use = chosen(arguments)
    folder, is_folder = arguments.output, arguments.pairs.is_dir()
    images = arguments.pairs if is_folder else arguments.images or arguments.pairs.parent
    names = names_in(images) if is_folder else []
    pairs = all_pairs(names) if is_folder else read_list(arguments.pairs)
    if not images.is_dir():
        raise InputError(f"Expected a folder of images. Received: {images}")
    check_folder(folder)
    if is_folder and folder.is_dir() and folder.samefile(images):
        raise InputError(
            f"Expected another output than the folder of the images, where results could be taken "
            f"for images. Received: {folder}"
        )

    import_tensorflow()
    from tfdense import matcher as matchers
    from tfdense.evaluation.raw_results import identify
    from tfdense.pairs import cluster, working

    loading, matcher = (arguments.model, *use), None
    if arguments.retrieve is not None:
        matcher = matchers.load(*loading)
        names, descriptors = working.describe_all(matcher, images, names)
        pairs = nearest_pairs(names, descriptors, arguments.retrieve)
    job = working.Job(
        images,
        folder,
        arguments.format,
        Selection(arguments.threshold, arguments.matches),
        arguments.radius,
        arguments.batch_size,
    )
    settings = {
        "model": arguments.model,
        **use._asdict(),
        "images": str(images.absolute()),
        "format": arguments.format,
        "matches": arguments.matches,
        "threshold": arguments.threshold,
        "radius": arguments.radius,
        CONTENT: identify(arguments.model, **use._asdict()),
    }
    manifest = Manifest(folder, settings)
    missing = manifest.missing(pairs, lost(folder, arguments.format, pairs))
    if len(missing) < len(pairs):
        print(f"{len(pairs) - len(missing)} of {len(pairs)} pairs are done already", flush=True)
    if arguments.engine == "ray" and missing:
        entries = cluster.match_on_cluster(loading, job, missing, arguments.workers)
    elif arguments.workers == 1 and missing:
        entries = working.match_pairs(matcher or matchers.load(*loading), job, missing)
    else:
        entries = working.match_in_processes(loading, job, missing, arguments.workers)
    with closing(entries), Progress("pairs", len(missing)) as progress:
        for entry in entries:
            manifest.add(entry)
            progress.advance()
    return _summarise(manifest, pairs, progress)


def _check(arguments: argparse.Namespace) -> None:
    for name in ("workers", "batch_size", "matches", "retrieve"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            option = name.replace("_", "-")
            raise InputError(f"Expected --{option} to be at least 1. Received: {value}")
    for name, one in (("workers", 1), ("engine", "local")):
        value = getattr(arguments, name)
        if value != one and gathers(arguments.format):
            raise InputError(
                f"Expected --{name} {one} with --format {arguments.format}, whose files take one "
                f"process. Received: {value}"
            )
    if arguments.engine == "ray":
        for package in ("ray", "pyarrow"):
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"--engine ray needs the package {package}: pip install 'tfdense[cluster]'"
                )
    check_threshold(arguments.threshold)
    check_radius(arguments.radius)
    if arguments.pairs.is_dir():
        if arguments.images is not None:
            raise InputError("Expected --images with a list of pairs. Received: a folder of images")
    elif arguments.retrieve is not None:
        raise InputError("Expected --retrieve with a folder of images. Received: a list of pairs")


def _summarise(manifest: Manifest, pairs: list[NamedPair], progress: Progress) -> int:
    failures = manifest.failures(pairs)
    done = len(pairs) - len(failures)
    speed = f", {progress.rate:.3g} pairs/s" if progress.count else ""
    print(f"{done} of {len(pairs)} pairs have a result in {manifest.folder}{speed}")
    if not failures:
        return 0
    count = "1 pair" if len(failures) == 1 else f"{len(failures)} pairs"
    again = "it" if len(failures) == 1 else "them"
    lines = [f"{count} could not be matched; the same command tries {again} again:"]
    lines += [f"  {f['source']} {f['target']}: {f['reason']}" for f in failures[:_MOST_NAMED]]
    if len(failures) > _MOST_NAMED:
        lines.append(f"  and {len(failures) - _MOST_NAMED} more, see manifest.jsonl")
    standard_streams.complain("\n".join(lines))
    return 1
