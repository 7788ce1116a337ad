"""Files are replaced in one step, or left alone."""

import pytest

from tfdense.files import replacing


def test_a_new_file_appears_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "result.tar.gz"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith("result.tar.gz")
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [*path.parent.iterdir()] == [path]


def test_a_crash_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), replacing(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_an_interrupt_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "result.txt") as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert not [*tmp_path.iterdir()]


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


def test_an_existing_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new.txt").write_text("new")
        assert (path / "old.txt").exists()
    assert [p.name for p in path.iterdir()] == ["new.txt"]
    assert [*tmp_path.iterdir()] == [path]


def test_a_crash_leaves_the_old_folder_whole(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with pytest.raises(RuntimeError, match="half way"), replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new.txt").write_text("ne")
        raise RuntimeError("half way")
    assert (path / "old.txt").read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_block_that_writes_nothing_leaves_the_old_as_it_was(tmp_path):
    for path in (tmp_path / "file.txt", tmp_path / "folder" / "inner.txt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
    for path in (tmp_path / "file.txt", tmp_path / "folder"):
        with pytest.raises(FileNotFoundError), replacing(path):
            pass
    assert (tmp_path / "file.txt").read_text() == "old"
    assert (tmp_path / "folder" / "inner.txt").read_text() == "old"
    assert len([*tmp_path.iterdir()]) == 2


def test_no_file_takes_the_place_of_a_folder(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("old")
    with pytest.raises(IsADirectoryError), replacing(tmp_path / "photos") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "photos" / "one.jpg").read_text() == "old"
    assert len([*tmp_path.iterdir()]) == 1
