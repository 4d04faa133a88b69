"""Define the two errors that users see: one paragraph each, what was found, expected, and next."""


class S2iError(Exception):
    """Something outside the input went wrong: no network, a full disk, a broken file of ours.

    The command line prints the message and ends with ``exit_status``.
    """

    exit_status = 1


class InputError(S2iError):
    """What the user gave cannot be used; the message says what to give instead."""

    exit_status = 2


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error, at most 160 characters: enough to act on."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160].rstrip(".")
