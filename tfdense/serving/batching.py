"""A bounded queue of requests, and the threads that run them, alike ones in one batch."""

import collections
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from tfdense.serving.metrics import Metrics
from tfdense.serving.refusal import Refusal


class Task(NamedTuple):
    """A request that waits.

    Attributes:
        model: what runs it.
        signature: which of its functions.
        inputs: by name; all have `pairs` along their first dimension.
        pairs: in it.
        deadline: after which nobody waits for the answer, of `time.monotonic`.
        future: of the outputs by name.
        entered: when it came, of `time.monotonic`.
    """

    model: Any
    signature: str
    inputs: dict[str, np.ndarray]
    pairs: int
    deadline: float
    future: Future
    entered: float

    @property
    def kind(self) -> tuple:
        """What tasks of one batch have in common."""
        shapes = ((name, values.shape[1:]) for name, values in sorted(self.inputs.items()))
        return id(self.model), self.signature, *shapes


class Batcher:
    """Runs requests in the order in which they come, and with them later ones of the same kind.

    Args:
        run: computes a signature of a model for inputs.
        queue: how many requests may wait.
        max_pairs: in one batch; 1 turns batching off.
        patience: how long the first request waits for others, in s. At 0 those form a batch that
            came while the threads were busy.
        threads: that run batches beside each other.
        metrics: that it keeps.
    """

    def __init__(
        self,
        run: Callable[[Any, str, dict], dict],
        queue: int = 32,
        max_pairs: int = 4,
        patience: float = 0.0,
        threads: int = 1,
        metrics: Metrics | None = None,
    ):
        self._run = run
        self._size, self._max_pairs, self._patience = queue, max_pairs, patience
        self._metrics = metrics or Metrics()
        self._tasks: collections.deque[Task] = collections.deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._seconds = 0.5  # that a request has taken lately
        self._threads = [
            threading.Thread(target=self._work, daemon=True, name=f"batch-{i}")
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def refuse_if_full(self) -> None:
        """Refuses, before a request is read, what could not wait.

        Raises:
            Refusal: if the queue is full.
        """
        if len(self._tasks) >= self._size:
            raise self._full()

    def submit(self, model, signature: str, inputs: dict, pairs: int, deadline: float) -> Future:
        """Lets a request wait for its turn.

        Raises:
            Refusal: if the queue is full.
        """
        now = time.monotonic()
        task = Task(model, signature, inputs, pairs, deadline, Future(), now)
        with self._changed:
            if len(self._tasks) >= self._size:
                raise self._full()
            self._tasks.append(task)
            self._metrics.queue.set(len(self._tasks))
            self._changed.notify()
        return task.future

    def close(self) -> None:
        """Ends the threads once all that waits is answered."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _full(self) -> Refusal:
        seconds = math.ceil(self._size * self._seconds / len(self._threads))
        return Refusal(429, f"{self._size} requests wait already.", max(1, min(seconds, 60)))

    def _work(self) -> None:
        while tasks := self._next_batch():
            self._answer(tasks)

    def _next_batch(self) -> list[Task]:
        """Waits for a request; returns it and what goes with it, or nothing at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._tasks or self._stopping)
                if not self._tasks:
                    return []
                first = self._tasks[0]
                ready = first.entered + self._patience
                while self._alike(first) < self._max_pairs and not self._stopping:
                    if not self._changed.wait(max(0.0, ready - time.monotonic())):
                        break
                if batch := self._take():
                    return batch

    def _alike(self, first: Task) -> int:
        kind = first.kind
        return sum(task.pairs for task in self._tasks if task.kind == kind)

    def _take(self) -> list[Task]:
        batch, rest, pairs = [], collections.deque(), 0
        for task in self._tasks:
            fits = not batch or (
                task.kind == batch[0].kind and pairs + task.pairs <= self._max_pairs
            )
            if not fits:
                rest.append(task)
            elif time.monotonic() > task.deadline:
                if task.future.set_running_or_notify_cancel():
                    task.future.set_exception(Refusal(504, "Not answered within the time limit."))
            elif task.future.set_running_or_notify_cancel():  # else nobody waits any more
                batch.append(task)
                pairs += task.pairs
        self._tasks = rest
        self._metrics.queue.set(len(rest))
        return batch

    def _answer(self, tasks: list[Task]) -> None:
        start = time.monotonic()
        for task in tasks:
            self._metrics.waiting.observe(start - task.entered)
        inputs = _joined([task.inputs for task in tasks])
        try:
            outputs = self._run(tasks[0].model, tasks[0].signature, inputs)
        except BaseException as error:  # which each of the clients gets to know
            if len(tasks) == 1:
                tasks[0].future.set_exception(error)
            else:  # it is the fault of one
                for task in tasks:
                    self._answer([task])
            return
        seconds = time.monotonic() - start
        self._seconds += 0.2 * (seconds / len(tasks) - self._seconds)
        self._metrics.computing.observe(seconds)
        pairs = [task.pairs for task in tasks]
        self._metrics.batch.observe(sum(pairs))
        for task, answer in zip(tasks, _split(outputs, pairs), strict=True):
            task.future.set_result(answer)


def _joined(inputs: list[dict]) -> dict:
    if len(inputs) == 1:
        return inputs[0]
    return {name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]}


def _split(outputs: dict, pairs: list[int]) -> list[dict]:
    """Returns to each request what is its own; images without what others had to be filled to."""
    if len(pairs) == 1:
        return [outputs]
    answers, start = [], 0
    for count in pairs:
        answer = {name: values[start : start + count] for name, values in outputs.items()}
        if "target_size" in answer:
            height, width = answer["target_size"].max(axis=0)
            answer = {
                name: values if name == "target_size" else values[:, :height, :width]
                for name, values in answer.items()
            }
        answers.append(answer)
        start += count
    return answers
