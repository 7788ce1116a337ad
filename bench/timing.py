"""Timing several things in one run."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np

_Name = TypeVar("_Name", bound=Hashable)
# Rounds that do not count: memory is allocated, code is compiled.
_WARM_UP = 3


def in_turns(runs: Mapping[_Name, Callable[[], object]], rounds: int) -> dict[_Name, np.ndarray]:
    """Times functions in turns, so that what else the machine does falls on all alike.

    Args:
        runs: by name.
        rounds: how often each is run.

    Returns:
        The time of each run, in ms, [rounds], by name.
    """
    times = {name: [] for name in runs}
    for _ in range(rounds + _WARM_UP):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: np.array(values[_WARM_UP:]) for name, values in times.items()}
