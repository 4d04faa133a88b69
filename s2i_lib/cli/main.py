"""The program: every group of commands, and how it ends."""

from __future__ import annotations

import errno
import io
import sys

import typer

from s2i_lib.cli import evaluate, pictures, speak, train
from s2i_lib.cli.app import command
from s2i_lib.cli.output import complain, log_to_stderr
from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.disk import say_fault

app = typer.Typer(
    help="Speak a sentence, see the picture.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for function in (
    speak.speak,
    speak.draw,
    speak.hear,
    train.dataset,
    train.finetune,
    train.runs,
    train.export,
    evaluate.evaluate,
    pictures.redo,
    pictures.gallery,
    pictures.ar,
    pictures.made_by,
    pictures.forget,
):
    app.command()(command(function))


def main() -> int:
    """Run the command line; the exit status says how it went (0, 1 for ours, 2 for the input)."""
    log_to_stderr()
    if isinstance(sys.stdout, io.TextIOWrapper):  # not every terminal has every letter of a name
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except S2iError as error:
        if "--debug" in sys.argv:
            raise
        complain(str(error))
        return error.exit_status
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        if error.errno != errno.ENAMETOOLONG:  # a Drive that is away, or a folder for a file
            complain(say_fault(error))
            return S2iError.exit_status
        complain(f"The name {error.filename} is longer than any file's (255 bytes at most, and a "
                 "letter may have four). Give a shorter one.")  # fmt: skip
        return InputError.exit_status
    except SystemExit as stop:
        if stop.code == 130:  # what Typer makes of Ctrl-C, without a word
            complain("What was saved so far is kept.", "Stopped")
        raise
    return 0
