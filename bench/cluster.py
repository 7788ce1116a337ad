"""What pairs cost on a cluster: pairs a second by engine and workers, and a million pairs computed.

    TF_NUM_INTRAOP_THREADS=1 python bench/cluster.py FOLDER

FOLDER holds photos; each two of the first of them are matched once, by each engine with 1 worker
and with 2, in one run. Then follow the steps of a pair one by one, on one core, and what they make
of a million pairs on some numbers of machines. `--engines local` does without Ray.
"""

import argparse
import contextlib
import io
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from many_pairs import parts, seconds_of

import tfdense
from tfdense import cli
from tfdense.pairs.cluster import distribute
from tfdense.pairs.command import ENGINES
from tfdense.pairs.lists import NamedPair, all_pairs, chunks, names_in
from tfdense.pairs.manifest import MATCHED, Manifest
from tfdense.pairs.results import Selection, write_matches


class Cost(NamedTuple):
    """What one pair takes.

    Attributes:
        work: seconds of a core of a worker.
        transfer: bytes that are read from and written to the disk that all share.
        command: seconds of the command that distributes the pairs and writes the manifest.
    """

    work: float
    transfer: float
    command: float

    def hours(self, pairs: float, machines: int, cores: int, disk: float) -> dict[str, float]:
        """Returns how long each part of a cluster is busy: the longest is the bottleneck.

        Args:
            pairs: how many there are.
            machines, cores: how many, and how many each has.
            disk: bytes a second that the disk gives to all together.
        """
        seconds = {
            "workers": self.work / (machines * cores),
            "disk": self.transfer / disk,
            "command": self.command,
        }
        return {part: pairs * each / 3600 for part, each in seconds.items()}


def _growth(folder, pairs, engine, workers, arguments) -> tuple[float, float]:
    """Returns the pairs a second of `tfdense match-pairs`, from its start and from its first ones.

    The second leaves out the start, until each worker has done what it gets first: it counts for
    little in a long job.
    """
    times, add = [], Manifest.add

    def timed(manifest, entry):
        add(manifest, entry)
        times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as temporary:
        listed = Path(temporary, "list.txt")
        listed.write_text("".join(f"{s}\t{t}\n" for s, t in pairs), "utf-8")
        words = ["match-pairs", str(listed), "--images", str(folder.absolute()), "-o"]
        words += [str(Path(temporary, "out")), "--workers", str(workers), "--format", "matches"]
        words += ["--model", arguments.model, "--max-side", str(arguments.max_side)]
        Manifest.add = timed
        start = time.perf_counter()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                assert cli.main([*words, "--engine", engine]) == 0
        finally:
            Manifest.add = add
    first = workers * len(chunks(pairs, workers)[0])
    rest = times[first:]
    return len(times) / (times[-1] - start), len(rest) / (times[-1] - times[first - 1])


def _distributing(engine: str, count: int = 3200) -> float:
    """Returns the seconds of the command for a pair that costs the workers nothing."""
    pairs = [NamedPair(f"{i}.jpg", f"{i + 1}.jpg") for i in range(count)]

    def matching():
        def match(pairs):
            return [{**pair._asdict(), "status": MATCHED, "files": []} for pair in pairs]

        return match

    entries = distribute(matching, pairs, 2) if engine == "ray" else iter(matching()(pairs))
    with tempfile.TemporaryDirectory() as temporary:
        manifest = Manifest(Path(temporary), {})
        manifest.add(next(entries))
        return seconds_of(lambda: [manifest.add(entry) for entry in entries]) / (count - 1)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--model", default="pdcnet-lite")
    parser.add_argument("--max-side", type=int, default=640)
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--machines", type=int, nargs="*", default=[1, 10, 100, 1000])
    parser.add_argument("--cores", type=int, default=16, help="of each machine")
    parser.add_argument("--disk", type=float, default=1000, help="MB/s, for all machines together")
    arguments = parser.parse_args()
    folder = arguments.folder
    pairs = all_pairs(names_in(folder)[: arguments.photos])
    for engine in arguments.engines:
        for workers in arguments.workers:
            whole, steady = _growth(folder, pairs, engine, workers, arguments)
            print(
                f"--engine {engine:5} --workers {workers} {steady:8.2f} pairs/s "
                f"({whole:.2f} with the start)",
                flush=True,
            )

    matcher = tfdense.load(arguments.model, max_side=arguments.max_side)
    paths = [folder / name for name in pairs[0]]
    match = matcher.match(*paths)
    steps = parts(matcher, paths)
    with tempfile.TemporaryDirectory() as temporary:

        def write() -> Path:
            return write_matches(match, Path(temporary, "match"), Selection(0.3, 2000))

        steps["write the best matches"] = 1000 * min(seconds_of(write) for _ in range(3))
        transfer = sum(path.stat().st_size for path in (*paths, write()))
    for name, milliseconds in steps.items():
        print(f"{name:40} {milliseconds:8.2f} ms")
    print(f"{'read and written':40} {transfer / 1e6:8.2f} MB")
    for engine in arguments.engines:
        command = _distributing(engine)
        print(f"{f'distribute, --engine {engine}':40} {1000 * command:8.2f} ms")
        cost = Cost(sum(steps.values()) / 1000, transfer, command)
        for machines in arguments.machines:
            hours = cost.hours(1e6, machines, arguments.cores, arguments.disk * 1e6)
            slowest = max(hours, key=hours.get)
            print(
                f"a million pairs, {machines:5} machines of {arguments.cores} cores "
                f"{hours[slowest]:8.2f} h, bounded by the {slowest}"
            )


if __name__ == "__main__":
    main()
