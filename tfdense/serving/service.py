"""What happens to a request whatever protocol it came by."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tfdense.serving.batching import Batcher
from tfdense.serving.limits import Limits, check_request
from tfdense.serving.logs import log
from tfdense.serving.metrics import Metrics
from tfdense.serving.protocols.tensors import check_inputs
from tfdense.serving.refusal import Refusal
from tfdense.serving.versions import Versions

_SMALL = 2**16  # bytes that are worked on at once rather than in a thread


class Service:
    """A model in its versions, the queue before it and the limits of what it takes."""

    def __init__(self, versions: Versions, batcher: Batcher, limits: Limits, metrics: Metrics):
        self.versions, self.batcher = versions, batcher
        self.limits, self.metrics = limits, metrics
        self.name = versions.name
        self.stopping = False
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="codec")

    def admit(self) -> None:
        """Refuses, before a request is read, what could not be answered.

        Raises:
            Refusal: if the queue is full, or the server stops.
        """
        if self.stopping:
            raise Refusal(503, "The server is stopping.", 5)
        self.batcher.refuse_if_full()

    def model(self, name: str, version: int | None = None):
        """Returns the version that answers, and its model.

        Raises:
            Refusal: if there is no such model or version.
        """
        if name != self.name:
            raise Refusal(404, f"Expected the model {self.name}. Received: {name[:80]!r}")
        return self.versions.get(version)

    async def in_thread(self, size: int, function: Callable, *arguments):
        """Calls a function, beside the other requests if it has many bytes to work on."""
        if size <= _SMALL:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def run(
        self, model, signature: str, inputs: dict[str, np.ndarray], start: float
    ) -> dict[str, np.ndarray]:
        """Calls a signature once it is its turn.

        Args:
            model: of `model`.
            signature: one of its.
            inputs: as a client sent them.
            start: when the request came, of `time.monotonic`.

        Returns:
            All outputs by name.

        Raises:
            Refusal: if the request is wrong, cannot be taken or is not answered in time.
        """
        inputs = check_inputs(inputs, model.signatures[signature].inputs)
        pairs = check_request(inputs, self.limits)
        if pairs > 1:  # a mask may hold for all of them
            inputs = {
                name: np.repeat(values, pairs, axis=0) if len(values) == 1 else values
                for name, values in inputs.items()
            }
        deadline = start + self.limits.seconds
        future = self.batcher.submit(model, signature, inputs, pairs, deadline)
        try:
            outputs = await asyncio.wait_for(
                asyncio.wrap_future(future), max(0.0, deadline - time.monotonic())
            )
        except TimeoutError:
            reason = f"Not answered within {self.limits.seconds:g} s."
            raise Refusal(504, reason) from None
        for mean in _mean_confidence(outputs):
            self.metrics.confidence.observe(mean)
        return outputs

    def refusal(self, error: Exception) -> Refusal:
        """Returns what a client is told of an error; logs those that are none of its own."""
        if isinstance(error, Refusal):
            return error
        log("failed", logging.ERROR, reason=f"{type(error).__name__}: {error}"[:500])
        return Refusal(500, "The server failed; its log says more.")

    def close(self) -> None:
        """Ends the threads, once what runs is answered."""
        self.versions.close()
        self.batcher.close()
        self._pool.shutdown()


def _mean_confidence(outputs: dict[str, np.ndarray]) -> list[float]:
    confidence = outputs.get("confidence")
    if confidence is None:
        return []
    sums = confidence.reshape(len(confidence), -1).sum(axis=1)
    sizes = outputs.get("target_size")
    if sizes is None:
        return list(sums / max(1, confidence[0].size))
    return list(sums / sizes.prod(axis=1))
