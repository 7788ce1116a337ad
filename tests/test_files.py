"""Files are replaced in one step, or left alone, and what the system refuses is one line."""

import errno
import os

import pytest
import tensorflow as tf

from tfdense import files
from tfdense.errors import InputError, OutputError
from tfdense.files import check_outputs, replacing, replacing_in

# Latin-1: no UTF-8, but a name as good as any to the file system.
LATIN = "caf\udce9"


def test_a_new_file_appears_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "result.tar.gz"
    with replacing(path) as temporary:
        assert temporary.parent.parent == path.parent
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
    path = tmp_path / "new" / "folders" / "result.txt"
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
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


@pytest.mark.parametrize("linked", [False, True])
def test_an_existing_folder_is_replaced_whole(tmp_path, linked):
    path = folder = tmp_path / "model"
    path.mkdir()
    (path / "old.txt").write_text("old")
    if linked:
        path = tmp_path / "link"
        path.symlink_to(folder)
    with replacing(path) as temporary:
        temporary.mkdir()
        (temporary / "new.txt").write_text("new")
        assert (path / "old.txt").exists()
    assert [p.name for p in folder.iterdir()] == ["new.txt"]
    assert {*tmp_path.iterdir()} == {path, folder}
    assert path.is_symlink() == linked


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
    with pytest.raises(OutputError, match="No such file"), replacing(tmp_path / "file.txt"):
        pass
    with pytest.raises(OutputError, match="it is a folder"), replacing(tmp_path / "folder"):
        pass
    assert (tmp_path / "file.txt").read_text() == "old"
    assert (tmp_path / "folder" / "inner.txt").read_text() == "old"
    assert len([*tmp_path.iterdir()]) == 2


def test_no_file_takes_the_place_of_a_folder(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("old")
    with (
        pytest.raises(OutputError, match=r"photos: it is a folder\."),
        replacing(tmp_path / "photos") as temporary,
    ):
        temporary.write_text("new")
    assert (tmp_path / "photos" / "one.jpg").read_text() == "old"
    assert len([*tmp_path.iterdir()]) == 1


def test_no_folder_takes_the_place_of_a_file(tmp_path):
    (tmp_path / "notes").write_text("old")
    with (
        pytest.raises(OutputError, match=r"notes: Not a directory\."),
        replacing(tmp_path / "notes") as temporary,
    ):
        temporary.mkdir()
    assert (tmp_path / "notes").read_text() == "old"
    assert len([*tmp_path.iterdir()]) == 1


def test_files_of_a_folder_appear_together(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    with replacing_in(tmp_path) as temporary:
        (temporary / "a.txt").write_text("new")
        (temporary / "b.txt").write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    content = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert content == {"a.txt": "new", "b.txt": "new", "notes.txt": "mine"}


def test_one_file_in_the_way_keeps_all_as_they_were(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "b.txt").mkdir()
    with (
        pytest.raises(OutputError, match=r"b\.txt: it is a folder"),
        replacing_in(tmp_path) as temporary,
    ):
        (temporary / "a.txt").write_text("new")
        (temporary / "b.txt").write_text("new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len([*tmp_path.iterdir()]) == 2


def test_a_full_disk_is_one_line_and_changes_nothing(tmp_path, full_disk):
    path = tmp_path / "result.bin"
    path.write_bytes(b"old")
    with pytest.raises(OutputError) as raised, replacing(path) as temporary:
        temporary.write_bytes(bytes(2000))
    assert str(raised.value) == f"Cannot write to {path}: {os.strerror(errno.EFBIG)}."
    assert path.read_bytes() == b"old"
    with pytest.raises(OutputError, match="File too large"), replacing_in(tmp_path / "new") as new:
        (new / "a").write_bytes(b"small enough")
        (new / "b").write_bytes(bytes(2000))
    assert [*tmp_path.iterdir()] == [path]


def test_a_line_that_does_not_fit_is_not_begun(tmp_path, full_disk):
    path = tmp_path / "table.csv"
    files.append(path, "a line of text\n" * 60)
    with pytest.raises(OutputError, match="File too large"):
        files.append(path, "another line of text\n" * 10)
    assert path.read_text() == "a line of text\n" * 60
    files.append(path, f"{LATIN}\n")
    assert path.read_text().endswith("text\ncaf\\udce9\n")


def test_errors_of_tensorflow_are_named(tmp_path, full_disk):
    with (
        pytest.raises(OutputError) as raised,
        replacing(tmp_path / "records", tf.errors.OpError) as temporary,
        tf.io.TFRecordWriter(str(temporary)) as writer,
    ):
        writer.write(bytes(2000))
    assert str(raised.value) == f"Cannot write to {tmp_path / 'records'}: File too large."
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("folder", ["plain", LATIN])
def test_any_name_that_the_file_system_takes(tmp_path, folder):
    longest = "n" * (os.pathconf(tmp_path, "PC_NAME_MAX") - len(".weights.h5")) + ".weights.h5"
    for name in ("plain.txt", f"{LATIN}.txt", "with space\nand line", longest):
        path = tmp_path / folder / name
        with replacing(path) as temporary:
            # What TensorFlow, like most libraries in C++, takes.
            with tf.io.gfile.GFile(str(temporary), "w") as file:
                file.write("new")
            assert temporary.suffix == path.suffix
        assert path.read_text() == "new"
    assert len([*(tmp_path / folder).iterdir()]) == 4


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    before = {*tmp_path.iterdir()}
    for name, reason in (
        ("folder", "it is a folder"),
        ("link", "it is a folder"),
        ("pipe", "it is no regular file"),
        ("file/below", "Not a directory"),
        ("file/further/below", "Not a directory"),
        ("n" * 300, "File name too long"),
        (f"{'n' * 300}/below", "File name too long"),
    ):
        with pytest.raises(OutputError) as raised:
            check_outputs([tmp_path / "fine", tmp_path / name])
        assert str(raised.value).startswith("Cannot write to ")
        assert reason in str(raised.value)
    check_outputs([tmp_path / "file", tmp_path / "new" / "folder" / "file"])
    assert {*tmp_path.iterdir()} == before


def test_devices_are_not_replaced():
    with pytest.raises(OutputError, match=r"/dev/null: it is no regular file"):
        check_outputs(["/dev/null"])


def test_a_folder_that_nobody_may_write_to(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # The tests may run as root, whom permissions do not keep from anything.
    monkeypatch.setattr(files.tempfile, "TemporaryDirectory", refuse)
    message = f"Cannot write to {tmp_path / 'new'}: Read-only file system."
    with pytest.raises(OutputError) as raised:
        files.check_folder(tmp_path / "new")
    assert str(raised.value) == message
    with pytest.raises(OutputError, match="Read-only"), replacing(tmp_path / "new" / "file"):
        pass
    assert not [*tmp_path.iterdir()]


def test_an_output_never_replaces_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = tmp_path / "photo.png"
    photo.write_text("a photo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.png").symlink_to(photo)
    (tmp_path / "folder" / "hard.png").hardlink_to(photo)
    (tmp_path / "folder" / "linked").symlink_to(tmp_path)
    (tmp_path / "other.png").write_text("a photo")
    outputs = (
        photo,
        "photo.png",
        "folder/../photo.png",
        "link.png",
        "folder/hard.png",
        "folder/linked/photo.png",
    )
    for output in outputs:
        for given in (photo, "photo.png", "link.png"):
            with pytest.raises(InputError, match=rf"{output} would replace the input {given}"):
                check_outputs(["new.png", output], ["absent.png", "-", given])
    check_outputs(["other.png", "new.png"], [photo, tmp_path / "folder"])


def test_what_a_file_system_that_ignores_case_holds_to_be_the_same(tmp_path, monkeypatch):
    def same(first, second):
        return str(first).lower() == str(second).lower()

    monkeypatch.setattr(os.path, "samefile", same)
    with pytest.raises(InputError, match=r"Photo\.PNG would replace the input photo\.png"):
        check_outputs(["Photo.PNG"], ["photo.png"])


def test_a_path_for_libraries_that_take_utf8_only(tmp_path):
    for name in ("plain", "вывод", LATIN):
        (tmp_path / name).mkdir()
        with files.utf8_path(tmp_path / name) as path:
            (path / "file").write_text(name.encode(errors="replace").decode())
            assert str(path).encode()
            assert (path == tmp_path / name) == (name != LATIN)
    assert (tmp_path / LATIN / "file").read_text() == "caf?"
    assert not path.exists()


def test_a_folder_that_stays_empty_is_not_left_behind(tmp_path):
    with files.making(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not [*tmp_path.iterdir()]
    with files.making(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "file").touch()
    assert (tmp_path / "a" / "b" / "file").exists()
