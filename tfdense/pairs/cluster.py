"""Working off a list of pairs on a cluster: Ray Data gives it to workers on several machines.

Of the pairs that a worker held when it died, or its machine, another one gets all again. That does
no harm: a result is written beside and renamed, and the manifest, which the command alone writes,
gets the entries of those pairs once.
"""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tfdense.errors import InputError, OutputError
from tfdense.networks import is_preset
from tfdense.pairs.lists import NamedPair, chunks
from tfdense.pairs.manifest import failed
from tfdense.startup import quiet

if TYPE_CHECKING:
    from tfdense.pairs.working import Job

# Workers that may die of the same pairs.
_TRIES = 4

# Which Ray reads as it is imported, unless they are set already: that it does not report its use to
# its makers; of what its own processes log, nothing that a user could mend; no lesser priority for
# the workers of a cluster that it starts, of which others on the machine would take the cores.
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",
}

Work = Callable[[Sequence[NamedPair]], list[dict]]
"""Matches some pairs, and returns the manifest's entry of each."""


def match_on_cluster(
    loading: tuple, job: Job, pairs: Sequence[NamedPair], workers: int
) -> Iterator[dict]:
    """Does as `tfdense.pairs.working.match_in_processes` on a cluster of Ray.

    That is the one of the environment variable ``RAY_ADDRESS`` or of ``ray start`` on this machine,
    else one of this machine alone, which ends with the job.

    Args:
        loading: the arguments of `tfdense.matcher.load`.
        workers: how many processes; they share the cores, and each has a GPU if there are any.

    Yields:
        The manifest's entry of each pair; of those that each of several workers died of, too.

    Raises:
        InputError: if the cluster has no place for so many workers, or Ray gives up.
        OutputError: if a result cannot be written: nor could the others.
    """
    name, *use = loading
    absolute = (name if is_preset(name) else os.path.abspath(name), *use)
    job = job._replace(images=job.images.absolute(), folder=job.folder.absolute())
    yield from distribute(lambda: _matching(absolute, job), pairs, workers)


def distribute(
    start: Callable[[], Work], pairs: Sequence[NamedPair], workers: int
) -> Iterator[dict]:
    """Has workers on a cluster do something with pairs, see `match_on_cluster`.

    Args:
        start: makes what a worker does; each calls it once, before its first pairs.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    # Of pairs that fail it would show stack traces; they get an entry.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        with quiet():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ray.exceptions.RayError, OSError, RuntimeError) as error:
        raise InputError(f"Cannot reach, or start, a cluster of Ray: {_reason(error)}") from None
    try:
        resources = share([n["Resources"] for n in ray.nodes() if n["Alive"]], workers)
        threads = os.environ.get("TF_NUM_INTRAOP_THREADS") or str(resources["num_cpus"])
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1
        # As JSON: names that are not UTF-8 are no text to Ray.
        rows = [{"pairs": json.dumps(chunk)} for chunk in chunks(pairs, workers)]
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
        with warnings.catch_warnings():
            # Of max_task_retries, without which Ray tries for ever.
            warnings.simplefilter("ignore", DeprecationWarning)
            results = dataset.map(
                _Worker,
                fn_constructor_args=(start, threads),
                compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
                max_task_retries=_TRIES - 1,
                **resources,
            )
        left = dict.fromkeys(pairs)
        for result in results.iter_rows():
            if result["error"]:
                kind = OutputError if result["cannot_write"] else InputError
                raise kind(result["error"])
            for entry in json.loads(result["entries"]):
                # Ray may give a result again whose machine is lost.
                if left.pop(NamedPair(entry["source"], entry["target"]), entry) is None:
                    yield entry
        for pair in left:
            yield failed(pair, f"{_TRIES} workers died that held it, or a neighbour in the list")
    except ray.exceptions.RayError as error:
        raise InputError(f"What is done is kept, but Ray gave up: {_reason(error)}") from None
    finally:
        ray.shutdown()


def share(machines: Sequence[Mapping[str, float]], workers: int) -> dict[str, int]:
    """Shares the machines of a cluster among workers.

    Args:
        machines: the resources of each as Ray names them, of which "CPU" and "GPU" count.
        workers: how many there are.

    Returns:
        The cores and GPUs of each worker, ``num_cpus`` and ``num_gpus``: as many cores as leave a
        place for all, and one GPU if there are any.

    Raises:
        InputError: if there are more workers than cores, or than GPUs if there are any.
    """
    gpus = any(machine.get("GPU") for machine in machines)

    def places(cores: int) -> int:
        return sum(
            min(machine.get("CPU", 0) // cores, machine.get("GPU", 0) if gpus else math.inf)
            for machine in machines
        )

    if places(1) < workers:
        raise InputError(
            f"Expected at most {places(1):.0f} workers, one for each {'GPU' if gpus else 'core'} "
            f"of the cluster. Received: {workers}"
        )
    cores = 1
    while places(cores + 1) >= workers:
        cores += 1
    return {"num_cpus": cores, "num_gpus": int(gpus)}


class _Worker:
    """What Ray runs in a process of its own, which does nothing else."""

    def __init__(self, start: Callable[[], Work], threads: str):
        os.environ["TF_NUM_INTRAOP_THREADS"] = threads
        self._start, self._work = start, None

    def __call__(self, row: dict) -> dict:
        try:
            self._work = self._work or self._start()
            entries = self._work([NamedPair(*pair) for pair in json.loads(row["pairs"])])
        # It comes through as it is; Ray would wrap it up, or drop the pairs.
        except InputError as error:
            return _result([], str(error), isinstance(error, OutputError))
        except Exception as error:
            return _result([], f"A worker failed: {type(error).__name__}: {_reason(error)}")
        return _result(entries)


def _result(entries: list[dict], error: str = "", cannot_write: bool = False) -> dict:
    return {"entries": json.dumps(entries), "error": error, "cannot_write": cannot_write}


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _matching(loading: tuple, job: Job) -> Work:
    from tfdense.matcher import load
    from tfdense.pairs.working import match_pairs

    matcher = load(*loading)
    return lambda pairs: list(match_pairs(matcher, job, pairs))
