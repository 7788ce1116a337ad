"""What a training goes on from: the checkpoints of its folder."""

from pathlib import Path

import tensorflow as tf

from tfdense.errors import InputError, printable
from tfdense.files import reporting

_KEPT = 2


def restored(
    checkpoint: tf.train.Checkpoint, folder: Path, what: str
) -> tf.train.CheckpointManager:
    """Restores the latest checkpoint of a folder, if there is one.

    Args:
        checkpoint: what shall be restored, and saved.
        folder: of the checkpoints.
        what: they should be of, for the message.

    Returns:
        What saves the next ones there, and keeps the latest two.

    Raises:
        InputError: if it is damaged or of something else.
    """
    state = folder / "checkpoint"
    try:
        listed = tf.train.get_checkpoint_state(str(folder))
        manager = tf.train.CheckpointManager(checkpoint, str(folder), _KEPT)
    except Exception:  # TensorFlow raises errors of any type of what is damaged
        raise InputError(f"{state} is damaged.") from None
    path = listed.model_checkpoint_path if listed else ""
    if not path:
        if state.exists():  # else the first one was not finished
            raise InputError(f"{state} is damaged: it names no checkpoint.")
        return manager
    # The manager deletes the oldest of those that are listed.
    if any(Path(each).parent != folder for each in (path, *listed.all_model_checkpoint_paths)):
        raise InputError(f"{state} names checkpoints that are not in its folder.")
    try:
        checkpoint.restore(path).assert_consumed()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            printable(f"{path} is not a checkpoint of this {what}: {reason}")
        ) from None
    return manager


def save(manager: tf.train.CheckpointManager, step: int) -> None:
    """Saves a checkpoint beside the former, which stays whole whatever happens.

    Raises:
        OutputError: if it cannot be written.
    """
    with reporting(manager.directory, tf.errors.OpError):
        manager.save(step)
