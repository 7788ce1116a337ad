"""The errors a user can mend."""


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message says what was received and what was expected. The command line prints it
    without a stack trace and exits with status 2.
    """


class OutputError(InputError):
    """A file cannot be written where the user wants it, as on a full disk."""
