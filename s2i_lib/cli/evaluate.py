"""Runs in numbers, several side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2i_lib.cli.app import ModelOption, StepsOption, SubjectOption, for_each
from s2i_lib.cli.output import complain, emit, notes
from s2i_lib.errors import InputError, S2iError
from s2i_lib.photos.subject import find_subject
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import find_run

if TYPE_CHECKING:
    from s2i_lib.evaluation.evaluate import Evaluation

Interruption = S2iError | KeyboardInterrupt


def evaluate(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="SUBJECT/RUN, SUBJECT or a path.")
    ],
    drive: Drive,
    prompts: Annotated[int, typer.Option(help="Of DreamBench's 25.")] = 25,
    seeds: Annotated[int, typer.Option(help="Pictures of each prompt.")] = 4,
    first_seed: Annotated[int, typer.Option("--seed", help="The first of these seeds.")] = 0,
    steps: StepsOption = None,
    subject: SubjectOption = None,
    base: Annotated[
        bool, typer.Option("--base", help="Score the model before fine-tuning beside it.")
    ] = False,
    model: ModelOption = "auto",
    speech: Annotated[
        Path | None, typer.Option(help="Folder of clips, each with what it says in a .txt.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="Another CLIP: a folder or hub repository.")
    ] = None,
    dino: Annotated[
        str | None, typer.Option(help="Another DINO: a folder or hub repository.")
    ] = None,
    lpips: Annotated[str | None, typer.Option(help="LPIPS: a file, or REPOSITORY:FILE.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report [default: evaluations in the run].")
    ] = None,
) -> None:
    """Measure how alike, how faithful and how free a run's pictures are; several side by side."""
    from s2i_lib.evaluation.dreambench import EvaluateOptions
    from s2i_lib.evaluation.report import write_report
    from s2i_lib.evaluation.runs import evaluate_run
    from s2i_lib.evaluation.speech import read_clips

    options = EvaluateOptions(prompts, seeds, first_seed=first_seed, steps=steps)
    chosen = find_subject(drive, subject) if subject else None
    clips = read_clips(speech) if speech else []
    folder = make_folder(out) if out else report_folder(drive, runs)
    measure = partial(
        evaluate_run, drive, options=options, subject=chosen, base=model, clips=clips,
        clip=clip, dino=dino, lpips=lpips,
    )  # fmt: skip
    done, refused = _measure_all(runs, measure, with_base=base)
    for each in done:  # before the page, which a full disk may refuse
        hearing = each.speech
        emit(
            each.to_json(),
            f"Run       {each.name}",
            *(f"  {name:16}{score}" for name, score in each.scores.items()),
            *([f"  word error rate {hearing['word_error_rate']}"] if hearing else []),
            *notes(each.notes),
        )
    page, data = write_report(done, folder)
    emit({"page": str(page), "data": str(data)}, f"Page      {page}", f"Numbers   {data}")
    if refused:
        raise refused


def _measure_all(
    runs: list[str], measure: Callable[..., Evaluation], *, with_base: bool
) -> tuple[list[Evaluation], Interruption | None]:
    """Measure each run, then what the first of them was made from; and what ended that early.

    What has been measured took an hour, and is worth a page, whatever ends the rest.
    """
    done: dict[str, Evaluation] = {}
    refused: Interruption | None = None
    try:
        for_each(runs, lambda run: done.update({run: measure(run)}), what="runs")
    except (S2iError, KeyboardInterrupt) as error:
        if not done:
            raise
        refused = error
    before = []
    if with_base and not isinstance(refused, KeyboardInterrupt):
        try:
            before.append(measure(next(iter(done)), is_base=True))
        except (S2iError, KeyboardInterrupt) as error:
            if refused:
                complain(str(refused))
            refused = error
    return [*done.values(), *before], refused


def report_folder(drive: Drive, runs: Sequence[str]) -> Path:
    """Return the folder "evaluations" in the first run that is there, or beside it if it is a file.

    That it can be made is proved before anything is drawn; it is made when it is needed.
    """
    path = None
    for run in runs:
        with suppress(InputError):  # it is said when its turn comes
            path = path or find_run(drive, run)
    path = path or find_run(drive, runs[0])
    return make_folder(path if path.is_dir() else path.parent) / "evaluations"
