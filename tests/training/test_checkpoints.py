"""Checkpoints that are damaged, of something else, or name what is not theirs."""

import pytest
import tensorflow as tf

from tfdense.errors import InputError, OutputError
from tfdense.training.checkpoints import restored, save


def _checkpoint(value=1.0, shape=(4,)):
    return tf.train.Checkpoint(model=[tf.Variable(tf.fill(shape, value))], step=tf.Variable(3))


@pytest.fixture
def folder(tmp_path):
    manager = restored(_checkpoint(5.0), tmp_path / "checkpoints", "network")
    for step in (6, 7, 8):
        manager.save(step)
    return tmp_path / "checkpoints"


def test_the_latest_comes_back_and_two_are_kept(folder):
    checkpoint = _checkpoint()
    restored(checkpoint, folder, "network")
    assert checkpoint.model[0].numpy().tolist() == [5.0] * 4
    assert sorted(path.stem for path in folder.glob("*.index")) == ["ckpt-7", "ckpt-8"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "checkpoint is damaged"),
        (b"nonsense", "names no checkpoint"),
        (b"", "checkpoint is damaged"),
        (b'model_checkpoint_path: "../other/ckpt-8"', "not in its folder"),
        (
            b'model_checkpoint_path: "ckpt-8"\nall_model_checkpoint_paths: "/home/other/ckpt-1"'
            b'\nall_model_checkpoint_paths: "ckpt-8"\nall_model_checkpoint_timestamps: 1.0'
            b"\nall_model_checkpoint_timestamps: 2.0",
            "not in its folder",
        ),
    ],
)
def test_a_list_of_checkpoints_that_is_damaged(folder, content, message):
    (folder / "checkpoint").write_bytes(content)
    with pytest.raises(InputError, match=message):
        restored(_checkpoint(), folder, "network")


@pytest.mark.parametrize("name", ["ckpt-8.index", "ckpt-8.data-00000-of-00001"])
@pytest.mark.parametrize(
    "change", [lambda content: content[:-9], lambda content: b"", bytes.swapcase]
)
def test_a_damaged_checkpoint(folder, name, change):
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(InputError, match="ckpt-8 is not a checkpoint of this network: "):
        restored(_checkpoint(), folder, "network")


def test_a_checkpoint_of_something_else(folder):
    with pytest.raises(InputError, match="is not a checkpoint of this network"):
        restored(_checkpoint(shape=(5,)), folder, "network")


def test_the_first_that_was_not_finished_is_none(folder):
    (folder / "checkpoint").unlink()
    checkpoint = _checkpoint(2.0)
    restored(checkpoint, folder, "network")
    assert checkpoint.model[0].numpy().tolist() == [2.0] * 4


def test_a_full_disk_leaves_the_last_one_whole(tmp_path, full_disk):
    checkpoint = _checkpoint(5.0, (4000,))
    manager = restored(checkpoint, tmp_path / "checkpoints", "network")
    save(manager, 6)
    checkpoint.model[0].assign(tf.fill([4000], 7.0))
    with full_disk(), pytest.raises(OutputError, match=r"Cannot write to .*checkpoints: "):
        save(manager, 7)
    again = _checkpoint(0.0, (4000,))
    restored(again, tmp_path / "checkpoints", "network")
    assert again.model[0].numpy().tolist() == [5.0] * 4000
    save(manager, 8)
    restored(again, tmp_path / "checkpoints", "network")
    assert again.model[0].numpy().tolist() == [7.0] * 4000
