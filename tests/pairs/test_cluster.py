"""``tfdense match-pairs --engine ray``: a worker that is killed costs nothing but time."""

import contextlib
import errno
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tfdense import cli
from tfdense.errors import InputError, OutputError
from tfdense.pairs.cluster import distribute, share
from tfdense.pairs.lists import NamedPair

_COMMAND = "import sys, tfdense.cli; sys.exit(tfdense.cli.main())"


@pytest.fixture
def ray():
    """Leaves out what needs the extra `cluster` where it is not installed."""
    pytest.importorskip("pyarrow", reason="needs the extra cluster")
    return pytest.importorskip("ray", reason="needs the extra cluster")


@pytest.mark.parametrize(
    ("machines", "workers", "cores"),
    [
        ([2], 1, 2),
        ([2], 2, 1),
        ([4, 4, 4], 2, 4),
        # One worker of four would find no place if each took three cores.
        ([4, 4, 4], 4, 2),
        ([16, 2], 3, 5),
    ],
)
def test_workers_share_the_cores(machines, workers, cores):
    machines = [{"CPU": float(cpu), "memory": 1e9} for cpu in machines]
    assert share(machines, workers) == {"num_cpus": cores, "num_gpus": 0}


def test_where_there_are_gpus_each_worker_takes_one():
    machines = [{"CPU": 64.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 2.0}]
    assert share(machines, 2) == {"num_cpus": 8, "num_gpus": 1}
    assert share(machines, 3) == {"num_cpus": 4, "num_gpus": 1}
    with pytest.raises(InputError, match=r"at most 4 workers, one for each GPU.*Received: 5"):
        share(machines, 5)


def test_more_workers_than_cores():
    with pytest.raises(InputError, match=r"at most 3 workers, one for each core.*Received: 4"):
        share([{"CPU": 2.0}, {"CPU": 1.0}, {"memory": 1e9}], 4)


@pytest.mark.parametrize("package", ["ray", "pyarrow"])
def test_without_the_extra(folder, tmp_path, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, "ray", sys)
    monkeypatch.setitem(sys.modules, "pyarrow", sys)
    monkeypatch.setitem(sys.modules, package, None)
    options = ["-o", str(tmp_path / "out"), "--engine", "ray"]
    assert cli.main(["match-pairs", str(folder), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"needs the package {package}: pip install 'tfdense[cluster]'" in line


def test_no_files_that_gather_pairs(folder, tmp_path, capsys):
    options = ["-o", str(tmp_path / "out"), "--engine", "ray", "--format", "colmap"]
    assert cli.main(["match-pairs", str(folder), *options]) == 2
    assert "Expected --engine local with --format colmap" in capsys.readouterr().err


def test_the_longest_part_bounds_a_million_pairs(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench")
    cost = importlib.import_module("cluster").Cost(work=0.36, transfer=1.8e6, command=0.0036)
    hours = cost.hours(1e6, machines=5, cores=4, disk=1e9)
    assert hours == pytest.approx({"workers": 5, "disk": 0.5, "command": 1})
    # More machines make but one of them less.
    more = cost.hours(1e6, machines=50, cores=4, disk=1e9)
    assert more == pytest.approx({"workers": 0.5, "disk": 0.5, "command": 1})


@pytest.mark.slow
def test_a_killed_worker(ray, folder, tmp_path, capsys):
    names = [(1, 0), (2, 0), ("pipe", 0), (2, 1), (0, 1), (0, 2), (1, 2)]
    pairs = [f"{source}.png {target}.png" for source, target in names]
    listed, whole = folder / "list.txt", (folder / "2.png").read_bytes()
    listed.write_text("\n".join([*pairs, "broken.png 0.png"]))
    (folder / "broken.png").write_bytes(b"no image")
    # Who reads this waits, until it is written to.
    os.mkfifo(folder / "pipe.png")
    output, options = tmp_path / "cluster", ["--max-side", "64"]
    cluster = [*options, "--engine", "ray", "--workers", "2"]
    process = _start(listed, "-o", output, *cluster)
    with _reader(folder / "pipe.png", process) as worker:
        (folder / "whole.png").write_bytes(whole)
        os.replace(folder / "whole.png", folder / "pipe.png")
        os.kill(worker, signal.SIGKILL)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 1, printed
    assert f"{len(pairs)} of {len(pairs) + 1} pairs have a result" in printed
    assert "broken.png 0.png: " in printed and "Traceback" not in printed

    # Each pair once, and the same as of a single process.
    entries = _entries(output)
    assert sorted(f"{e['source']} {e['target']}" for e in entries) == sorted(
        [*pairs, "broken.png 0.png"]
    )
    listed.write_text("\n".join(pairs))
    process = _start(listed, "-o", tmp_path / "one", *options)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    expected = {e["files"][0]: e for e in _entries(tmp_path / "one")}
    matched = {e["files"][0]: e for e in entries if e["status"] == "matched"}
    assert matched.keys() == expected.keys()
    assert {str(p.relative_to(output)) for p in output.glob("pairs/*.npz")} == matched.keys()
    for name in expected:
        with np.load(output / name) as ours, np.load(tmp_path / "one" / name) as theirs:
            for array in ("flow", "confidence", "radius"):
                np.testing.assert_array_equal(ours[array], theirs[array])

    # Again, nothing is left to do.
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    capsys.readouterr()
    assert cli.main(["match-pairs", str(listed), "-o", str(output), *cluster]) == 0
    assert f"{len(pairs)} of {len(pairs)} pairs are done already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


@pytest.mark.slow
def test_pairs_that_kill_each_worker_are_named(ray):
    def start():
        def work(pairs):
            if ("b", "b") in pairs:
                os.kill(os.getpid(), signal.SIGKILL)
            return [{**pair._asdict(), "status": "matched"} for pair in pairs]

        return work

    entries = {e["source"]: e for e in distribute(start, [NamedPair(n, n) for n in "abcd"], 1)}
    assert [entries[n]["status"] for n in "abcd"] == ["matched", "failed", "matched", "matched"]
    assert "4 workers died that held it" in entries["b"]["reason"]
    assert not ray.is_initialized()


@pytest.mark.slow
def test_what_cannot_be_written_ends_the_job(ray):
    def start():
        def work(pairs):
            raise OutputError("Cannot write to x: No space left on device.")

        return work

    with pytest.raises(OutputError, match=r"^Cannot write to x: No space left on device\.$"):
        list(distribute(start, [NamedPair("a", "a")], 1))
    assert not ray.is_initialized()


def _start(*words) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND, "match-pairs", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # With as many threads everywhere, all is the same to the last bit.
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1"},
    )


def _entries(output):
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


@contextlib.contextmanager
def _reader(pipe: Path, process: subprocess.Popen):
    """Waits until a process opens a pipe, and keeps it waiting; gives its id."""
    held = None
    while held is None:
        assert process.poll() is None, process.communicate()[0]
        try:
            held = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO  # nobody has opened it yet
            time.sleep(0.05)
    try:
        files = itertools.chain.from_iterable(
            Path("/proc").glob("[0-9]*/fd/*") for _ in itertools.count()
        )
        ours = os.getpid()
        yield next(
            number
            for file in files
            if (number := int(file.parts[2])) != ours and _leads_to(file, pipe)
        )
    finally:
        os.close(held)


def _leads_to(link: Path, path: Path) -> bool:
    try:
        return link.samefile(path)
    except OSError:  # gone meanwhile, or not ours
        return False
