"""Working off a list of pairs, in this process or in several."""

import collections
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdense import standard_streams
from tfdense.checks import photo_to_match
from tfdense.errors import InputError, OutputError
from tfdense.matcher import Matcher
from tfdense.pairs.lists import NamedPair, chunks
from tfdense.pairs.manifest import MATCHED, failed
from tfdense.pairs.results import Selection, gathers, open_results
from tfdense.pairs.retrieval import describable, describe
from tfdense.progress import Progress
from tfdense.results.match import Match

# Results that are being written while the next pairs are matched.
_WRITTEN_BESIDE = 4


class Job(NamedTuple):
    """What is done with each pair.

    Attributes:
        images: folder that the names are relative to.
        folder: to write to.
        format: of `FORMATS`.
        selection: what counts as matched.
        radius, batch_size: as of `Matcher.match_many`.
    """

    images: Path
    folder: Path
    format: str
    selection: Selection
    radius: float | None
    batch_size: int


def match_pairs(matcher: Matcher, job: Job, pairs: Sequence[NamedPair]) -> Iterator[dict]:
    """Matches pairs and writes their results.

    Yields:
        The manifest's entry of each, once its result is written.

    Raises:
        OutputError: if a result cannot be written: nor could the others.
    """
    paths = [(job.images / source, job.images / target) for source, target in pairs]
    matches = matcher.match_many(paths, job.batch_size, job.radius, errors="return")
    writing: collections.deque[Future] = collections.deque()
    with ThreadPoolExecutor(1 if gathers(job.format) else 2) as pool:
        # A database serves no thread but that which opened it.
        results = pool.submit(open_results, job.folder, job.format, job.selection).result()
        try:
            for pair, match in zip(pairs, matches, strict=True):
                writing.append(pool.submit(_write, job, results, pair, match))
                while writing and (writing[0].done() or len(writing) > _WRITTEN_BESIDE):
                    yield writing.popleft().result()
            for entry in writing:
                yield entry.result()
        finally:
            pool.submit(results.close).result()


def match_in_processes(
    loading: tuple, job: Job, pairs: Sequence[NamedPair], workers: int
) -> Iterator[dict]:
    """Does as `match_pairs` in several processes, in any order; not for forms that gather pairs.

    Args:
        loading: the arguments of `tfdense.matcher.load`.
        workers: how many processes.

    Raises:
        InputError: if a process dies.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (loading, job)
    )
    # What a process reads when it starts.
    former = os.environ.get("TF_NUM_INTRAOP_THREADS")
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    try:
        futures = [pool.submit(_work, chunk) for chunk in chunks(pairs, workers)]
        for future in as_completed(futures):
            yield from future.result()
    except BrokenProcessPool:
        raise InputError(
            "A process died, perhaps for want of memory. What is done is kept: the same command, "
            "with fewer --workers, goes on."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if former is None:
            del os.environ["TF_NUM_INTRAOP_THREADS"]
        else:
            os.environ["TF_NUM_INTRAOP_THREADS"] = former


def describe_all(
    matcher: Matcher, images: Path, names: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """Describes the images of a folder, see `tfdense.pairs.retrieval.describe`.

    Returns:
        The names of those that can be read, of which there are two at least, and their descriptors;
        the others are named on standard error.
    """
    backend, described = describable(matcher.backend), []

    def photos():
        with Progress("images", len(names)) as progress:
            for name in names:
                try:
                    photo = photo_to_match("image", images / name)
                except InputError as error:
                    standard_streams.complain(f"left out: {error}")
                else:
                    described.append(name)
                    yield photo
                progress.advance()

    descriptors = describe(backend, photos())
    if len(described) < 2:
        raise InputError(f"Fewer than two images of {images} can be read.")
    return described, descriptors


def _write(job: Job, results, pair: NamedPair, match: Match | Exception) -> dict:
    """Writes a match; returns the manifest's entry."""
    try:
        if isinstance(match, Exception):
            raise match
        paths = results.add(*pair, match)
    except OutputError:
        raise
    except Exception as error:  # Whatever it is, it may be this pair's alone.
        reason = error if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        return failed(pair, str(reason))
    confident = match.confidence >= job.selection.threshold
    return {
        **pair._asdict(),
        "status": MATCHED,
        "files": [path.relative_to(job.folder).as_posix() for path in paths],
        "radius": round(float(match.radius), 3),
        "mean_confidence": round(float(match.confidence.mean()), 4),
        "matched": round(float(confident.mean()), 4),
    }


def _start_worker(loading: tuple, job: Job) -> None:
    # Ctrl-C is for the parent, which tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from tfdense.matcher import load

    _worker["matcher"], _worker["job"] = load(*loading), job


def _work(pairs: Sequence[NamedPair]) -> list[dict]:
    return list(match_pairs(_worker["matcher"], _worker["job"], pairs))


# Of a process that `_start_worker` started.
_worker: dict = {}
