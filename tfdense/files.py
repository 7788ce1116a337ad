"""Writing files so that no reader ever meets half of one."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` and renames it to `path` if the block succeeds.

    Works for a file or for a folder that the block creates. An existing file is replaced in one
    step. An existing folder is moved aside first and deleted once the new one is in its place;
    no file takes the place of a folder.

    Args:
        path: where the result shall stand; missing parent folders are made.

    Yields:
        A path in the same folder, with the same suffixes, where nothing exists yet.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = uuid.uuid4().hex[:8]
    temporary = path.with_name(f".{unique}.{path.name}")
    try:
        yield temporary
        if path.is_dir() and temporary.is_dir():
            former = path.with_name(f".{unique}.former.{path.name}")
            os.replace(path, former)
            os.replace(temporary, path)
            shutil.rmtree(former)
        else:
            os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
