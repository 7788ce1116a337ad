"""Steps that are left out since their loss or gradient is not finite: counted, named, bounded."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdense.errors import InputError
from tfdense.files import replacing

FILE = "bad_batch.npz"


class LeftOut:
    """Watches the steps of a training, each while the next one is computed.

    The optimiser itself leaves such a step out. In float16 a gradient that is too large is part of
    finding the scale of the loss: there only the loss counts.

    Args:
        folder: of the run, which gets the batch of the last such step.
        most: so many in a row end the training.
        half: whether it is in float16.
        strategy: by which batches are spread over devices.
    """

    def __init__(self, folder: Path, most: int, half: bool, strategy: tf.distribute.Strategy):
        self._folder, self._most, self._half = folder, most, half
        self._strategy = strategy
        self._former: tuple | None = None
        self._in_row = 0
        self._count = 0

    def watch(self, step: int, batch: dict, loss: tf.Tensor, gradient_norm: tf.Tensor) -> None:
        """Takes note of a step, and looks at the one before.

        Raises:
            InputError: if too many in a row were left out.
        """
        former, self._former = self._former, (step, batch, loss, gradient_norm)
        if former is not None:
            self._check(*former)

    def count(self) -> int:
        """Returns how many were left out since it was asked before, the last step included."""
        if self._former is not None:
            former, self._former = self._former, None
            self._check(*former)
        count, self._count = self._count, 0
        return count

    def _check(self, step: int, batch: dict, loss: tf.Tensor, gradient_norm: tf.Tensor) -> None:
        values = (
            {"loss": float(loss)}
            if self._half
            else {
                "loss": float(loss),
                "gradient": float(gradient_norm),
            }
        )
        bad = {name: value for name, value in values.items() if not np.isfinite(value)}
        if not bad:
            self._in_row = 0
            return
        self._count += 1
        self._in_row += 1
        reason = " and ".join(f"{name} is {value}" for name, value in bad.items())
        print(f"\nStep {step} is left out: the {reason}.", flush=True)
        if self._in_row < self._most:
            return
        arrays = {name: self._array(value) for name, value in batch.items()}
        broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        where = f", which is not finite in its {', '.join(broken)}" if broken else ""
        with replacing(self._folder / FILE) as temporary:
            np.savez(temporary, **arrays)
        raise InputError(
            f"{self._in_row} steps in a row, up to step {step}, were left out: the {reason}, not "
            f"finite. The last batch is in {self._folder / FILE}{where}."
        )

    def _array(self, value) -> np.ndarray:
        """Returns an array of a batch, that of all devices of this machine."""
        parts = self._strategy.experimental_local_results(value)
        return np.concatenate([np.asarray(part) for part in parts])
