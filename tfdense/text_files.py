"""Reading lists that users write, a thing on each line."""

from pathlib import Path

from tfdense.errors import InputError, check_file


def read_lines(path: Path, what: str) -> list[str]:
    """Returns the lines of a file.

    Args:
        path: as the user gave it.
        what: it should be, such as "list of pairs".

    Raises:
        InputError: if there is no such file, or it is not UTF-8.
    """
    check_file(path, what)
    try:
        return path.read_text("utf-8-sig").splitlines()  # some editors begin a file with a mark
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason} at byte {error.start}.") from None
