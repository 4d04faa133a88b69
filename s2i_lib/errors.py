"""Define the two errors that users see: one paragraph each, what was found, expected, and next."""

import re

_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
_LINE_ENDS = re.compile("[\t\n\u2028\u2029]+")


def without_commands(text: str) -> str:
    """Return text without characters that move a terminal's cursor or change its colours.

    Names and prompts in a stranger's file may have any of them.
    """
    return _COMMANDS.sub(" ", text)


class S2iError(Exception):
    """Something outside the input went wrong: no network, a full disk, a broken file of ours.

    The command line prints the message and ends with ``exit_status``.
    """

    exit_status = 1

    def __init__(self, message: str) -> None:
        super().__init__(_LINE_ENDS.sub(" ", without_commands(message)))


class InputError(S2iError):
    """What the user gave cannot be used; the message says what to give instead."""

    exit_status = 2


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error, at most 160 characters: enough to act on."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160].rstrip(".")
