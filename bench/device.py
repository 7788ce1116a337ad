"""Measures .tflite files as devices would run them.

python -m bench.device FILE... --data ../shared/data/eval

For each file: its size, what it computes in, milliseconds a pair on one and on two threads, by each
run-time that is installed, all in one run, in turns; where the time goes, by LiteRT's profiler; and
with --data, how much each file loses against Keras at the same size. An .onnx file beside a
.tflite, of the same name, is run by ONNX Runtime. With --methods, other methods that see images of
the first file's size: of `tfdense evaluate`, and of `bench.peers` with the extra learned-peers.
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

# Of the extra learned-peers; loaded after TensorFlow, some of its builds end the process.
with contextlib.suppress(ImportError):
    import torchvision  # noqa: F401

from bench.device_peers import Peer, peers
from bench.device_profile import WHOLE, matching_share, profile
from bench.device_runtimes import RUNTIMES
from bench.timing import in_turns
from tfdense.errors import exit_status
from tfdense.evaluation import metrics
from tfdense.evaluation.datasets import find_pairs
from tfdense.evaluation.pairs import EvaluationPair
from tfdense.exporting.info import FileInfo, read_info
from tfdense.lite import LiteMatcher
from tfdense.matcher import Matcher

_SETS = {
    "middlebury-flow": "middlebury-flow",
    "middlebury-stereo": "middlebury-stereo",
    "sintel-sample": "sintel/final",
    "points": "points",
    "homography": "homography",
}
_MAX_SIDE = 640
_THREADS = (1, 2)


def main() -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="what tfdense export tflite wrote"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="holds folders of data sets")
    parser.add_argument(
        "--methods", nargs="+", default=[], metavar="METHOD", help="to compare with"
    )
    parser.add_argument("--rounds", type=int, default=20, help="of all in turns (%(default)s)")
    arguments = parser.parse_args()
    return exit_status(parser.prog, lambda: _show(arguments))


def _show(arguments: argparse.Namespace) -> None:
    infos = [read_info(path) for path in arguments.files]
    others = peers(arguments.methods, _size(infos[0]))
    print(_speed_table(infos, others, arguments.rounds))
    for info in infos:
        print(_profile_table(info, arguments.rounds))
    if arguments.data is not None:
        print(_accuracy_table(infos, others, arguments.data))


def _speed_table(infos: Iterable[FileInfo], others: Mapping[str, Peer], rounds: int) -> str:
    """Returns milliseconds a pair, median and fastest, of files by each run-time and of others."""
    runs, missing = {}, {}
    for info in infos:
        images = _noise(_size(info))
        for name, make in RUNTIMES.items():
            for threads in _THREADS:
                try:
                    run = make(info.path, threads)
                except (ImportError, FileNotFoundError) as error:
                    missing[name] = error
                    continue
                runs[info.path, name, threads] = _bound(run, images)
    for name, other in others.items():
        for threads in _THREADS:
            runs[name, threads] = other.timed(threads)
    times = in_turns(runs, rounds)
    lines = [
        "| file | size | precision | MB | arena, MB | run-time | 1 thread, ms | 2 threads, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for info in infos:
        of_file = [
            info.path.name,
            "{}x{}".format(*_size(info)),
            str(info.metadata.get("precision")),
            f"{info.size / 1e6:.1f}",
            f"{info.arena / 1e6:.0f}",
        ]
        for name in RUNTIMES:
            if (info.path, name, 1) in times:
                each = _cells(times[info.path, name, threads] for threads in _THREADS)
                lines.append("| " + " | ".join([*of_file, name, *each]) + " |")
    for name, other in others.items():
        each = _cells(times[name, threads] for threads in _THREADS)
        lines.append(
            "| " + " | ".join(["", "{}x{}".format(*other.size), *[""] * 3, name, *each]) + " |"
        )
    lines.append(f"Median of {rounds} rounds in turns (fastest).")
    lines += [f"Left out: {name} ({error})" for name, error in missing.items()]
    return "\n".join(lines)


def _cells(times: Iterable[np.ndarray]) -> list[str]:
    return [f"{np.median(each):.0f} ({each.min():.0f})" for each in times]


def _profile_table(info: FileInfo, rounds: int) -> str:
    """Returns where LiteRT spends its time on one thread."""
    kinds = profile(info.path, _noise(_size(info)), rounds)
    total = sum(kinds.values())
    lines = [f"{info.path.name}: {total:.1f} ms in operations, on one thread"]
    lines += [
        f"  {time:6.1f} ms {time / total:5.1%} {kind}"
        for kind, time in sorted(kinds.items(), key=lambda item: -item[1])
    ]
    lines.append(f"  {total / kinds[WHOLE]:.2f} times the {WHOLE}")
    share = matching_share(info.metadata["preset"], _size(info), info.path, rounds)
    lines.append(f"  correlations and warps, alone: {share:.1%} of the time of the whole")
    return "\n".join(lines)


def _accuracy_table(infos: Iterable[FileInfo], others: Mapping[str, Peer], data: Path) -> str:
    """Returns how well Keras, each file and others match, at the same sizes."""
    matchers = {}
    for info in infos:
        size = _size(info)
        keras_name = "Keras {}x{}".format(*size)
        if keras_name not in matchers:
            matchers[keras_name] = _keras_at(info.metadata["preset"], size)
        matchers[info.path.name] = LiteMatcher(info.path, threads=2, size=size)
    matchers.update(others)
    lines = [
        "| pairs | network | PCK-1 | PCK-3 | PCK-5 | AEPE | AUSE |",
        "|---|---|---|---|---|---|---|",
    ]
    for dataset, folder in _SETS.items():
        if not (data / folder).is_dir():
            continue
        rows = {name: [] for name in matchers}
        for pair in _pairs(dataset, data / folder):
            for name, matcher in matchers.items():
                rows[name].append(_measure(matcher, pair))
        for name, values in rows.items():
            mean = np.mean(values, axis=0)
            cells = [f"{value:.{decimals}f}" for value, decimals in zip(mean, "22222", strict=True)]
            lines.append("| " + " | ".join([f"{dataset} ({len(values)})", name, *cells]) + " |")
    return "\n".join(lines)


def _keras_at(preset: str, size: tuple[int, int]) -> Matcher:
    """Returns a matcher whose network sees every pair at one size."""
    from tfdense.inference.backends import KerasBackend
    from tfdense.models import load

    backend = KerasBackend(load(preset)[0], max_side=max(size))
    backend.working_size = lambda height, width: size
    return Matcher(backend)


def _pairs(dataset: str, folder: Path) -> Iterator[EvaluationPair]:
    for unread in find_pairs(dataset, folder):
        pair = unread.read()
        if pair is not None and len(pair.points):
            yield pair.limited(_MAX_SIDE)


def _measure(matcher: Matcher | LiteMatcher | Peer, pair: EvaluationPair) -> list[float]:
    """Returns PCK-1, -3 and -5 in percent, AEPE in px and AUSE of a pair."""
    match = matcher.match(pair.source, pair.target)
    errors = metrics.endpoint_error(metrics.sample(match.flow, pair.points), pair.true_flow)
    uncertainty = -metrics.sample(match.confidence, pair.points)
    return [
        *(metrics.percentage_of_correct_keypoints(errors, t) for t in metrics.PCK_THRESHOLDS),
        metrics.average_endpoint_error(errors),
        metrics.area_under_sparsification_error(errors, uncertainty),
    ]


def _size(info: FileInfo) -> tuple[int, int]:
    height, width = info.metadata["size"]
    return height, width


def _noise(size: tuple[int, int]) -> Mapping[str, np.ndarray]:
    """Returns images of noise: how long a network takes does not depend on them."""
    images = np.random.default_rng(0).integers(0, 256, (2, 1, *size, 3), np.uint8)
    return dict(zip(("source", "target"), images, strict=True))


def _bound(run: Callable, images: Mapping[str, np.ndarray]) -> Callable[[], object]:
    return lambda: run(images)


if __name__ == "__main__":
    sys.exit(main())
