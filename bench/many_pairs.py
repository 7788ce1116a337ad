"""Pairs a second of a collection of photos: matched one by one, many at once, by several processes.

    python bench/many_pairs.py FOLDER

FOLDER holds photos; each two of the first of them are matched once. All ways are tried in one run,
so that their ratios hold on any machine.
"""

import argparse
import contextlib
import io
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tfdense
from tfdense import cli
from tfdense.images import Photo, read_image
from tfdense.inference.pipeline import answer
from tfdense.inference.resizing import resize_image
from tfdense.matcher import Matcher
from tfdense.pairs.lists import all_pairs, names_in
from tfdense.pairs.reusing import RecentlyUsed, ReusingBackend, reusing


class _Forgetful(ReusingBackend):
    """Remembers no more than the image it saw last."""

    def __init__(self, backend):
        super().__init__(backend, RecentlyUsed(0, lambda features: 1))


def _loop(matcher, pairs):
    for pair in pairs:
        matcher.match(*pair)


def _many(matcher, pairs, wrap=reusing, **options):
    matcher = Matcher(wrap(matcher.backend))
    for _ in matcher.match_many(pairs, **options):
        pass


def parts(matcher, pair) -> dict[str, float]:
    """Returns what the steps of one pair take alone, in ms."""
    backend, photos = matcher.backend, [read_image(path) for path in pair]
    size = backend.working_size(*photos[1].shape[:2])
    small = [resize_image(photo, size) for photo in photos]
    features = [backend.features(image[None]) for image in small]
    outputs = backend.match_features(*features)
    outputs = {name: values[0] for name, values in outputs.items()}
    steps = {
        "read two images": lambda: [read_image(path) for path in pair],
        "resize them": lambda: [resize_image(photo, size) for photo in photos],
        "features of two images": lambda: [backend.features(image[None]) for image in small],
        "match by features": lambda: backend.match_features(*features),
        "answer at full size": lambda: answer(backend, outputs, *map(Photo, photos)),
    }
    return {name: 1000 * min(seconds_of(step) for _ in range(3)) for name, step in steps.items()}


def seconds_of(step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _command(folder, photos, workers, arguments) -> float:
    """Returns the seconds of `tfdense match-pairs`, the start of the processes included."""
    with tempfile.TemporaryDirectory() as temporary:
        listed = Path(temporary, "list.txt")
        listed.write_text("".join(f"{s}\t{t}\n" for s, t in photos), "utf-8")
        words = ["match-pairs", str(listed), "--images", str(folder.absolute()), "-o"]
        words += [str(Path(temporary, "out")), "--workers", str(workers), "--format", "matches"]
        words += ["--model", arguments.model, "--max-side", str(arguments.max_side)]
        with contextlib.redirect_stdout(io.StringIO()):
            return seconds_of(lambda: cli.main(words))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="pdcnet-lite")
    parser.add_argument("--max-side", type=int, default=640)
    parser.add_argument("--photos", type=int, default=7)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    arguments = parser.parse_args()
    names = names_in(arguments.folder)[: arguments.photos]
    photos = all_pairs(names)
    pairs = [tuple(arguments.folder / name for name in pair) for pair in photos]
    matcher = tfdense.load(arguments.model, max_side=arguments.max_side)
    _loop(matcher, pairs[:1])
    _many(matcher, pairs[:1])
    for name, milliseconds in parts(matcher, pairs[0]).items():
        print(f"{name:40} {milliseconds:8.1f} ms", flush=True)
    ways = {
        "match, in a loop": lambda: _loop(matcher, pairs),
        "match_many, features computed anew": lambda: _many(matcher, pairs, _Forgetful),
        "match_many": lambda: _many(matcher, pairs),
        "match_many, batch_size=4": lambda: _many(matcher, pairs, batch_size=4),
    }
    for workers in arguments.workers:
        ways[f"tfdense match-pairs --workers {workers}"] = lambda workers=workers: _command(
            arguments.folder, photos, workers, arguments
        )
    first = None
    for name, way in ways.items():
        busy = -sum(os.times()[:4])
        seconds = seconds_of(way)
        busy += sum(os.times()[:4])
        first = first or seconds
        print(
            f"{name:40} {len(pairs) / seconds:8.2f} pairs/s {first / seconds:6.2f} times "
            f"{busy / len(pairs):6.2f} CPU s a pair",
            flush=True,
        )


if __name__ == "__main__":
    main()
