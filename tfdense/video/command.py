"""``tfdense video``: matches the frames of a film; writes what it found, as films and numbers."""

import argparse
import hashlib
import math
from pathlib import Path

import numpy as np

from tfdense.checks import check_radius, check_threshold
from tfdense.errors import InputError, shown
from tfdense.files import check_outputs
from tfdense.images import Photo, load_image
from tfdense.inference.settings import add_finer_options, add_setting, chosen
from tfdense.job_folder import CONTENT
from tfdense.networks import check_network
from tfdense.results.match import DEFAULT_THRESHOLD
from tfdense.startup import import_tensorflow
from tfdense.text_files import read_lines
from tfdense.video.reading import open_film
from tfdense.video.writing import FILES, PICTURES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` reads."""
    parser.usage = "%(prog)s [option ...] -o DIR FILE|CAMERA"
    parser.add_argument(
        "film",
        metavar="FILE|CAMERA",
        help="film, folder of images in the order of their names, or number of a camera",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write to"
    )
    add_setting(parser, "fast")
    parser.add_argument(
        "--to",
        default="previous",
        metavar="WHAT",
        help="what each frame is matched with: previous; first (of the shot), which also "
        "stabilises the film; or an image file, which is found in each frame (%(default)s)",
    )
    parser.add_argument(
        "--points",
        type=Path,
        metavar="FILE",
        help="follow points of the first frame, one on each line: x y, in px",
    )
    parser.add_argument("--frames", type=int, metavar="N", help="stop after so many")
    parser.add_argument(
        "--arrays", action="store_true", help="also write flow and confidence of each frame"
    )
    parser.add_argument(
        "--keep-frames", action="store_true", help="keep the pictures that films are made of"
    )
    parser.add_argument(
        "--cold",
        action="store_true",
        help="with --to first or an image: match each frame anew, not starting from the one before",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=DEFAULT_THRESHOLD,
        metavar="T",
        help="least confidence of what is shown as matched (%(default)s)",
    )
    parser.add_argument(
        "--model", default="pdcnet-lite", help="what `tfdense match` takes (%(default)s)"
    )
    parser.add_argument("--radius", type=float, metavar="R", help="see `tfdense match`")
    add_finer_options(parser, without=["--tiles"])


def run(arguments: argparse.Namespace) -> int:
    """Matches the frames that are not done yet, writes the films and prints a summary."""
    _check(arguments)
    check_network(arguments.model, arguments.max_side)
    film = open_film(arguments.film)
    points = None if arguments.points is None else _read_points(arguments.points)
    reference = arguments.to
    if reference not in ("previous", "first"):
        reference = load_image(Path(reference), "reference")
    _check_output(arguments)

    import_tensorflow()
    from tfdense import matcher as matchers
    from tfdense.evaluation.raw_results import identify
    from tfdense.video.working import Job, Request

    use = chosen(arguments)
    if not isinstance(reference, str) and arguments.mode is None and use.mode == "direct":
        # A picture may be anywhere in a frame, at any size.
        use = use._replace(mode="wide-baseline")
    settings = {
        "film": arguments.film if film.is_camera else str(Path(arguments.film).absolute()),
        "bytes of the film": film.fingerprint(),
        "to": arguments.to,
        "bytes of the picture": None if isinstance(reference, str) else _hash(reference),
        "points": None if points is None else points.tolist(),
        "arrays": arguments.arrays,
        "warm": not arguments.cold,
        "threshold": arguments.threshold,
        "radius": arguments.radius,
        "model": arguments.model,
        **use._asdict(),
        CONTENT: identify(arguments.model, **use._asdict()),
    }
    request = Request(
        film,
        reference,
        not arguments.cold,
        points,
        arguments.threshold,
        arguments.arrays,
        arguments.frames,
    )
    job = Job(arguments.output, settings, request)
    network = matchers.load(arguments.model, *use).network(arguments.radius)
    interrupted = not job.match(network)
    if interrupted and not film.is_camera:
        print(f"\n{job.summary()}; the same command goes on")
        return 130
    paths = job.finish(arguments.keep_frames)
    print(f"{job.summary()}\nwrote to {arguments.output}: {', '.join(p.name for p in paths)}")
    return 0


def _check_output(arguments: argparse.Namespace) -> None:
    """Refuses an output that would replace what is read, or become part of it."""
    outputs = [arguments.output / name for name in FILES]
    inputs = [arguments.film, arguments.to, arguments.points]
    check_outputs(outputs, [path for path in inputs if path is not None and Path(path).is_file()])
    pictures = arguments.output / PICTURES
    if pictures.is_dir() and Path(arguments.film).is_dir() and pictures.samefile(arguments.film):
        raise InputError(
            f"Expected another output than the folder above {arguments.film}, where the pictures "
            f"of the films would lie among its own. Received: {arguments.output}"
        )


def _hash(image: Photo) -> str:
    return hashlib.sha256(image.pixels.tobytes()).hexdigest()[:16]


def _check(arguments: argparse.Namespace) -> None:
    if arguments.frames is not None and arguments.frames < 2:
        raise InputError(f"Expected --frames to be at least 2. Received: {arguments.frames}")
    check_threshold(arguments.threshold)
    check_radius(arguments.radius)
    if not arguments.to:
        raise InputError("Expected --to previous, first or an image file. Received: ''")
    if arguments.points is not None and arguments.to != "previous":
        raise InputError(
            f"Expected --to previous with --points, which are followed from the first frame. "
            f"Received: --to {arguments.to}"
        )


def _read_points(path: Path) -> np.ndarray:
    points = []
    for number, line in enumerate(read_lines(path, "list of points"), 1):
        if not (words := line.replace(",", " ").split()):
            continue
        try:
            x, y = map(float, words)
            if not math.isfinite(x) or not math.isfinite(y):
                raise ValueError
        except ValueError:
            raise InputError(
                f"{path}, line {number}: expected the x and y of a point, in px, such as 320.5 "
                f"200. Received: {shown(line)}"
            ) from None
        points.append((x, y))
    if not points:
        raise InputError(f"{path} holds no point. Expected an x and a y on each line, in px.")
    return np.array(points, np.float32)
