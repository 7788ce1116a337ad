"""How a training is spread over devices and machines."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator

import tensorflow as tf

from tfdense.config import Strategy
from tfdense.data.pipeline import WHOLE, Part
from tfdense.errors import InputError, printable, shown

_TF_CONFIG = "TF_CONFIG"
# What TensorFlow makes of a worker that does not answer.
_LOSSES = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
    tf.errors.FailedPreconditionError,
)


class WorkerLost(Exception):
    """Another worker of the training is gone: what goes on are all of them, started again."""


def distribution_strategy(name: Strategy | None = None) -> tf.distribute.Strategy:
    """Returns the strategy of a name.

    Args:
        name: ``single``, one device; ``mirrored``, all GPUs of this machine, or else all CPU
            devices; ``multiworker``, the machines that ``TF_CONFIG`` names. None takes the last
            where it does, else the second where there are several GPUs, else the first.

    Raises:
        InputError: if ``TF_CONFIG`` does not say which workers there are, and which this one is.
    """
    if name == "multiworker" or (name is None and os.environ.get(_TF_CONFIG)):
        _check_cluster(os.environ.get(_TF_CONFIG))
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name is None and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def worker() -> int:
    """Returns the number that ``TF_CONFIG`` gives this process; 0, of which writes the files."""
    try:
        return int(json.loads(os.environ.get(_TF_CONFIG) or "")["task"]["index"])
    except (ValueError, KeyError, TypeError):
        return 0


def worker_count(strategy: tf.distribute.Strategy) -> int:
    """Returns how many processes train together."""
    cluster = strategy.cluster_resolver and strategy.cluster_resolver.cluster_spec()
    return len(cluster.as_dict().get("worker", [0])) if cluster else 1


def distribute(
    strategy: tf.distribute.Strategy, make: Callable[[Part], tf.data.Dataset], batch_size: int
) -> Iterable:
    """Returns the batches of this process, spread over its devices.

    Args:
        strategy: of the training.
        make: gives the dataset of a part of each batch: each worker makes its own pairs alone.
        batch_size: of the whole.
    """
    replica = batch_size // strategy.num_replicas_in_sync
    count = worker_count(strategy)
    if count == 1:
        # Each device gets its pairs of the batch, in their order.
        return strategy.experimental_distribute_dataset(make(WHOLE))

    def dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
        pairs = make(Part(context.input_pipeline_id, context.num_input_pipelines)).unbatch()
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        # Else the workers would ask each other at each step whether there is another batch.
        return pairs.batch(replica, drop_remainder=True).apply(endless).prefetch(2)

    return strategy.distribute_datasets_from_function(dataset)


def summing(strategy: tf.distribute.Strategy) -> Callable[[int], int]:
    """Returns a function that adds up a number over the workers, all of which have to call it."""
    if worker_count(strategy) == 1:
        return lambda number: number
    devices = strategy.num_replicas_in_sync // worker_count(strategy)

    def add(number: int) -> int:
        own = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(number, tf.int64)
        )
        return int(strategy.reduce(tf.distribute.ReduceOp.SUM, own, axis=None)) // devices

    return add


@contextlib.contextmanager
def noticing_losses(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Raises `WorkerLost` where the block fails since another worker does not answer."""
    try:
        yield
    except _LOSSES as error:
        if worker_count(strategy) == 1:
            raise
        reason = printable((str(error).strip().splitlines() or [type(error).__name__])[0][:200])
        raise WorkerLost(f"Another worker is gone ({reason}). Start all of them again.") from None


def _check_cluster(text: str | None) -> None:
    try:
        config = json.loads(text or "")
        addresses = config["cluster"]["worker"]
        own = config["task"]
        whole = all(isinstance(address, str) for address in addresses)
        whole = whole and own["type"] == "worker" and 0 <= own["index"] < len(addresses)
        whole = whole and len(config["cluster"]) == 1
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise InputError(
            f"Expected {_TF_CONFIG} to name the workers, the first of which writes the files: "
            '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}. '
            f"Received: {shown(text)}"
        )
