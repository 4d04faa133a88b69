"""How a command says things: to people in lines, with --json to programs, one object a line."""

from __future__ import annotations

import json
import logging
import sys
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from s2i_lib.errors import InputError, without_commands

_to_programs = False


@contextmanager
def speaking_json(is_wanted: bool) -> Iterator[None]:
    """Let `emit` write for programs while the body runs, where that ``is_wanted``."""
    global _to_programs
    _to_programs = is_wanted
    try:
        yield
    finally:
        _to_programs = False


def emit(record: Mapping[str, Any] | None, *lines: str) -> None:
    """Say one thing: a program gets ``record`` as a line of JSON, people get ``lines``.

    None is for what a program need not be told; no lines for what people need not.
    """
    if not _to_programs:
        print(*map(without_commands, lines), sep="\n", end="\n" if lines else "", flush=True)
    elif record is not None:
        print(json.dumps(record), flush=True)


def agree(question: str) -> bool:
    """Ask people; a program that reads JSON cannot answer, so it did not agree.

    Raises
    ------
    InputError
        When there is nobody to answer.
    """
    try:
        return not _to_programs and typer.confirm(question, err=True)
    except typer.Abort as stop:
        if not isinstance(stop.__context__, EOFError):  # Ctrl-C
            raise
        print(file=sys.stderr)
        raise InputError(
            "Nothing was deleted, for nobody answers here. Give --yes to delete unasked."
        ) from None


def notes(sentences: Sequence[str]) -> list[str]:
    """Return a wrapped text for each of ``sentences``, for `emit`."""
    return [wrap(f"Note      {sentence}", indent=10) for sentence in sentences]


def wrap(text: str, indent: int = 0) -> str:
    """Return ``text`` in lines of at most 100 characters; paths and names are never broken."""
    return textwrap.fill(
        text,
        100,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def complain(message: str, kind: str = "Error") -> None:
    """Write a paragraph to standard error."""
    print(wrap(without_commands(f"{kind}: {message}")), file=sys.stderr)


def log_to_stderr() -> None:
    """Show our own messages as plain lines; those of the libraries only when something is wrong."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.ERROR)
    logging.getLogger("s2i_lib").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module="PIL")  # of large sizes and odd EXIF: ours say it
