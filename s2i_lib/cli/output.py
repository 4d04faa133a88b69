"""What the program prints: for people in lines of 100 characters, and what went wrong."""

from __future__ import annotations

import logging
import sys
import textwrap
from collections.abc import Sequence


def print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(wrap(f"Note      {note}", indent=10))


def wrap(text: str, indent: int = 0) -> str:
    """``text`` in lines of at most 100 characters; paths and names are never broken."""
    return textwrap.fill(
        text,
        100,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def complain(message: str, kind: str = "Error") -> None:
    print(wrap(f"{kind}: {message}"), file=sys.stderr)


def log_to_stderr() -> None:
    """Our own messages as plain lines; those of the libraries only when something is wrong."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.ERROR)
    logging.getLogger("s2i_lib").setLevel(logging.INFO)
