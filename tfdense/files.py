"""Writing files: all that the project writes goes through here.

No reader ever meets half a file. What the system refuses (a full disk, no permission, a folder in
the file's place) is an `OutputError` of one line. Any name that the file system takes will do.
"""

import contextlib
import dataclasses
import errno
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfdense.errors import InputError, OutputError, printable

_PREFIX = ".tfdense-"


@contextlib.contextmanager
def replacing(path: str | Path, *errors: type[Exception]) -> Iterator[Path]:
    """Gives a temporary path and moves what is written there to `path` if the block succeeds.

    Works for a file or for a folder that the block creates. An existing file is replaced in one
    step. An existing folder is moved aside first and deleted once the new one is in its place;
    neither takes the place of the other.

    Args:
        path: where the result shall stand; missing parent folders are made.
        *errors: what else than OSError a library raises if it cannot write.

    Yields:
        A path on the same disk where nothing exists yet. Its name is that of `path`, but for
        characters that are not UTF-8.

    Raises:
        OutputError: if it cannot be written. Then nothing has changed.
    """
    path = Path(path)
    with reporting(path, *errors):
        final = path.resolve() if path.is_dir() else path
        with _staging(final.parent) as folder:
            temporary = folder / final.name.encode(errors="replace").decode()
            yield temporary
            _move(temporary, final)


@contextlib.contextmanager
def replacing_in(folder: str | Path) -> Iterator[Path]:
    """Gives a temporary folder and moves the files written there to `folder` if the block succeeds.

    Each file is replaced in one step, after all of them were written; other files stay.

    Args:
        folder: is made if it does not exist.

    Raises:
        OutputError: if they cannot be written. If that is for want of space, nothing has changed.
    """
    folder = Path(folder)
    with reporting(folder), _staging(folder) as temporary:
        yield temporary
        written = sorted(temporary.iterdir())
        for file in written:
            _require_file(folder / file.name)
        for file in written:
            _move(file, folder / file.name)


@dataclasses.dataclass
class Version:
    """A folder that is written.

    Attributes:
        path: where it is now.
    """

    path: Path


@contextlib.contextmanager
def adding_version(folder: str | Path, *errors: type[Exception]) -> Iterator[Version]:
    """Gives a temporary path and makes the folder written there the next numbered version.

    It gets its number when it is complete, in one step: who looks for versions never meets half of
    one, and of two that are written at once neither replaces the other.

    Args:
        folder: of the versions ("1", "2", ...); is made if it does not exist.
        *errors: what else than OSError a library raises if it cannot write.

    Raises:
        OutputError: if it cannot be written. Then nothing has changed.
    """
    folder = Path(folder)
    with reporting(folder, *errors), _staging(folder) as staging:
        version = Version(staging / "version")
        yield version
        numbers = (int(path.name) for path in folder.glob("*/") if path.name.isdecimal())
        for number in itertools.count(1 + max(numbers, default=0)):
            final = folder / str(number)
            try:
                os.rename(version.path, final)
                version.path = final
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise


def append(path: str | Path, text: str) -> None:
    """Adds text to a file, as UTF-8.

    Raises:
        OutputError: if it cannot be written. Then the file is as it was.
    """
    rest = text.encode(errors="backslashreplace")
    with reporting(path), open(path, "ab", buffering=0) as file:
        end = file.tell()
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(end)
            raise


def write_text(path: str | Path, text: str) -> None:
    """Writes text as UTF-8; what of a name is not UTF-8 becomes ``\\udcXX``.

    Raises:
        OutputError: if it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode(errors="backslashreplace"))


@contextlib.contextmanager
def reporting(path: str | Path, *errors: type[Exception]) -> Iterator[None]:
    """Turns OSError, and the other errors, of a block that writes to `path` into an OutputError."""
    try:
        yield
    except (OSError, *errors) as error:
        raise OutputError(f"Cannot write to {path}: {_reason(error)}.") from error


def check_outputs(paths: Iterable[str | Path], inputs: Iterable[str | Path] = ()) -> None:
    """Refuses, before anything is computed, files that could not be written afterwards.

    Args:
        paths: of the files to write.
        inputs: what is read; none of it may be replaced, whatever name or link leads to it.

    Raises:
        InputError: if a file would replace an input.
        OutputError: if one could not be written.
    """
    paths, inputs = [Path(path) for path in paths], list(inputs)
    for path in paths:
        for given in inputs:
            if _is_same(path, given):
                raise InputError(f"{path} would replace the input {given}: choose another output.")
    for folder in dict.fromkeys(path.parent for path in paths):
        check_folder(folder)
    for path in paths:
        with reporting(path):
            _require_file(path)


def check_suffix(path: Path, suffix: str) -> None:
    """Refuses a name by which a file would not be known for what it is.

    Raises:
        InputError: if it has another ending.
    """
    if path.suffix != suffix:
        raise InputError(
            f"Expected the name of a file that ends in {suffix}. Received: {printable(str(path))}"
        )


def check_folder(folder: str | Path) -> None:
    """Checks that files can be written to a folder, which need not exist yet.

    Raises:
        OutputError: if they cannot.
    """
    with reporting(folder):
        parents = (Path(os.path.abspath(folder)), *Path(os.path.abspath(folder)).parents)
        existing = next(parent for parent in parents if os.path.lexists(parent))
        # The system alone knows all reasons against it. Nothing remains.
        tempfile.TemporaryDirectory(prefix=_PREFIX, dir=existing).cleanup()
        with contextlib.suppress(FileNotFoundError):
            os.lstat(folder)


@contextlib.contextmanager
def utf8_path(path: str | Path) -> Iterator[Path]:
    """Gives a path to the same file or folder for libraries that take no names but UTF-8.

    It is the path itself if that is UTF-8, as it nearly always is, else a link that lasts as long
    as the block.
    """
    path = Path(path)
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix=_PREFIX[1:]) as folder:
            link = Path(folder, "link")
            link.symlink_to(path.absolute())
            yield link
    else:
        yield path


@contextlib.contextmanager
def making(folder: str | Path) -> Iterator[None]:
    """Makes a folder, if it does not exist, and removes it again if the block leaves it empty.

    Raises:
        OutputError: if it cannot be made.
    """
    folder = Path(folder)
    made = []
    try:
        with reporting(folder):
            made = [part for part in (folder, *folder.parents) if not part.exists()]
            folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for part in made:
            with contextlib.suppress(OSError):
                part.rmdir()


@contextlib.contextmanager
def _staging(parent: Path) -> Iterator[Path]:
    """Makes a folder below `parent` for the block."""
    with (
        making(parent),
        tempfile.TemporaryDirectory(
            prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True
        ) as folder,
        utf8_path(folder) as reachable,
    ):
        yield reachable


def _move(temporary: Path, final: Path) -> None:
    if not (temporary.is_dir() and final.is_dir()):
        _require_file(final)
        os.replace(temporary, final)
        return
    former = temporary.with_name(f"{_PREFIX}former")
    os.replace(final, former)
    try:
        os.replace(temporary, final)
    except BaseException:
        os.replace(former, final)
        raise
    shutil.rmtree(former)


def _require_file(path: Path) -> None:
    """Raises unless a file can take this place: it is free, or that of a file or a link to one."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if path.is_dir():
        raise OutputError(f"Cannot write to {path}: it is a folder.")
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise OutputError(f"Cannot write to {path}: it is no regular file.")


def _is_same(path: Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # One of them does not exist, or is the name of something else.
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    # TensorFlow names its own temporary file first and its operation last.
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return line.rpartition("; ")[2].partition(" [Op:")[0].rstrip(".")
