"""The two errors that users see: one paragraph each, saying what was found, expected, and next."""


class S2iError(Exception):
    """Something outside the input went wrong: no network, a full disk, a broken file of ours.

    The command line prints the message and ends with ``exit_status``.
    """

    exit_status = 1


class InputError(S2iError):
    """What the user gave cannot be used; the message says what to give instead."""

    exit_status = 2
