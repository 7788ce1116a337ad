"""What a training goes on from: the checkpoints of its folder."""

import tensorflow as tf

from tfdense.errors import InputError, printable


def restore(manager: tf.train.CheckpointManager, what: str) -> None:
    """Restores the latest checkpoint, if there is one.

    Args:
        manager: of the checkpoints.
        what: they should be of, for the message.

    Raises:
        InputError: if it is damaged or of something else.
    """
    path = manager.latest_checkpoint
    if path is None:
        return
    try:
        manager.checkpoint.restore(path).assert_consumed()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            printable(f"{path} is not a checkpoint of this {what}: {reason}")
        ) from None
