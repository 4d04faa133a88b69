"""Runs in numbers, several side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from tqdm.auto import tqdm

from s2i_lib.cli.app import (
    DebugOption,
    DriveOption,
    JsonOption,
    ModelOption,
    StepsOption,
    SubjectOption,
    for_each,
)
from s2i_lib.cli.output import complain, print_notes
from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.files import make_folder
from s2i_lib.storage.layout import Drive, open_drive


def evaluate(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="SUBJECT/RUN, SUBJECT or a path.")
    ],
    prompts: Annotated[int, typer.Option("--prompts", help="Of DreamBench's 25.")] = 25,
    seeds: Annotated[int, typer.Option("--seeds", help="Pictures of each prompt.")] = 4,
    first_seed: Annotated[int, typer.Option("--seed", help="The first of these seeds.")] = 0,
    steps: StepsOption = 20,
    subject: SubjectOption = None,
    base: Annotated[
        bool, typer.Option("--base", help="Score the model before fine-tuning beside it.")
    ] = False,
    model: ModelOption = "auto",
    speech: Annotated[
        Path | None,
        typer.Option("--speech", help="Folder of clips, each with what it says in a .txt."),
    ] = None,
    clip: Annotated[
        str | None, typer.Option("--clip", help="Another CLIP: a folder or hub repository.")
    ] = None,
    dino: Annotated[
        str | None, typer.Option("--dino", help="Another DINO: a folder or hub repository.")
    ] = None,
    lpips: Annotated[
        str | None, typer.Option("--lpips", help="LPIPS: a file, or REPOSITORY:FILE.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the report [default: evaluations in the run]."),
    ] = None,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how alike, how faithful and how free a run's pictures are; several side by side."""
    from s2i_lib.evaluation.dreambench import EvaluateOptions
    from s2i_lib.evaluation.evaluate import evaluate_run
    from s2i_lib.evaluation.report import write_report
    from s2i_lib.evaluation.speech import read_clips
    from s2i_lib.photos.subject import find_subject

    place = open_drive(drive)
    options = EvaluateOptions(prompts, seeds, first_seed=first_seed, steps=steps)
    chosen = find_subject(place, subject) if subject else None
    clips = read_clips(speech) if speech else []
    folder = make_folder(out) if out else report_folder(place, runs)
    done, measured = [], []

    def measure(run: str, is_base: bool = False) -> None:
        with tqdm(desc=f"Evaluating {run}", unit="prompt", leave=False) as bar:

            def show(number: int, total: int) -> None:
                bar.total, bar.n = total, number
                bar.refresh()

            done.append(
                evaluate_run(
                    place,
                    run,
                    options,
                    subject=chosen,
                    is_base=is_base,
                    base=model,
                    clips=clips,
                    callback=show,
                    clip=clip,
                    dino=dino,
                    lpips=lpips,
                )
            )
            measured.append(run)

    refused: S2iError | KeyboardInterrupt | None = None
    try:  # what has been measured took an hour, and is worth a page, whatever ends the rest
        for_each(runs, measure, what="runs")
    except (S2iError, KeyboardInterrupt) as error:
        if not done:
            raise
        refused = error
    if base and not isinstance(refused, KeyboardInterrupt):
        try:
            measure(measured[0], is_base=True)
        except (S2iError, KeyboardInterrupt) as error:
            if refused:
                complain(str(refused))
            refused = error
    for each in done:  # before the page, which a full disk may refuse
        if as_json:
            print(json.dumps(each.to_json(), ensure_ascii=False))
            continue
        print(f"Run       {each.name}")
        for name, score in each.scores.items():
            print(f"  {name:16}{score}")
        if each.speech:
            print(f"  word error rate {each.speech['word_error_rate']}")
        print_notes(each.notes)
    page, data = write_report(done, folder)
    if as_json:
        print(json.dumps({"page": str(page), "data": str(data)}))
    else:
        print(f"Page      {page}\nNumbers   {data}")
    if refused:
        raise refused


def report_folder(drive: Drive, runs: Sequence[str]) -> Path:
    """The folder "evaluations" in the first run that is there, or beside it if it is a file.

    That it can be made is proved before anything is drawn; it is made when it is needed.
    """
    from s2i_lib.storage.run_card import find_run

    path = None
    for run in runs:
        with suppress(InputError):  # it is said when its turn comes
            path = path or find_run(drive, run)
    path = path or find_run(drive, runs[0])
    return make_folder(path if path.is_dir() else path.parent) / "evaluations"
