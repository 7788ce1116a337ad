"""Tokens that requests bear."""

import re

from tfdense.errors import InputError

# What HTTP and gRPC carry; of spaces at the ends HTTP loses some.
_SENDABLE = re.compile(r"[!-~]([ -~]*[!-~])?")


def check_token(token, where: str = "") -> str:
    """Returns a token that a request can bear.

    Args:
        token: as it was given.
        where: it comes from, for the message: " in FILE".

    Raises:
        InputError: if it is none, which the message does not show.
    """
    if not isinstance(token, str) or not _SENDABLE.fullmatch(token):
        raise InputError(
            f"Expected a token{where} of visible ASCII characters in one line, without spaces "
            "around it. Received: another one, which is not shown"
        )
    return token
