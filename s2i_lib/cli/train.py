"""From photos to weights: the dataset, the training, its runs, and export."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2i_lib.cli.app import ModelOption
from s2i_lib.cli.output import agree, complain, emit, wrap
from s2i_lib.errors import InputError
from s2i_lib.photos.subject import RARE_TOKENS
from s2i_lib.storage.disk import size_of
from s2i_lib.storage.layout import Drive, open_drive
from s2i_lib.storage.run_card import name_run

if TYPE_CHECKING:
    from s2i_lib.photos.manifest import Dataset
    from s2i_lib.training.run import RunSummary


def dataset(
    drive: Drive,
    photos: Annotated[
        Path | None,
        typer.Argument(help="Folder, zip or one photo [default: the subject's on the Drive]."),
    ] = None,
    subject: Annotated[str, typer.Option(help="Name, as it is spoken.")] = "",
    class_noun: Annotated[
        str, typer.Option(help="What the subject is one of: dog, mug, woman.")
    ] = "",
    identifier: Annotated[
        str | None,
        typer.Option(
            help=f"A token that means nothing, such as {', '.join(RARE_TOKENS)} "
            "[default: the subject's so far, else one that no other subject has]."
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="person, animal or object [default: by the class noun].")
    ] = None,
    consent_by: Annotated[
        str | None, typer.Option(help="Of a person: the name of who agrees to this.")
    ] = None,
    consent_on: Annotated[str | None, typer.Option(help="And the day, as 2026-08-19.")] = None,
    crop: Annotated[
        list[str] | None,
        typer.Option(help="PHOTO=LEFT,TOP,SIZE in pixels of the upright photo."),
    ] = None,
    whole: Annotated[
        list[str] | None, typer.Option(help="PHOTO whose subject is not cut out; repeatable.")
    ] = None,
    cut_out: Annotated[
        list[str] | None, typer.Option(help="PHOTO whose subject is cut out all the same.")
    ] = None,
    say_name: Annotated[
        list[str] | None,
        typer.Option(help="Recording of the name alone, to know it when it is said; repeatable."),
    ] = None,
    mirror: Annotated[
        bool | None, typer.Option(help="Train on mirror images [default: animals].")
    ] = None,
    classroom: Annotated[
        bool, typer.Option("--classroom", help="Leave out photos that a checker finds unfit.")
    ] = False,
) -> None:
    """Check and crop photos of a subject: crops, contact sheet and manifest to train from."""
    from s2i_lib.photos.consent import Consent
    from s2i_lib.photos.crop import parse_crop
    from s2i_lib.photos.dataset import build_dataset
    from s2i_lib.photos.quality import DatasetOptions
    from s2i_lib.photos.subject import Subject, load_subject

    if not subject:
        raise InputError(
            "Whose photos are these? Say --subject with the name as it is spoken, and --class-noun "
            "with what it is one of, for instance --subject Rex --class-noun dog."
        )
    if both := sorted({*(whole or [])}.intersection(cut_out or [])):
        raise InputError(
            f"{both[0]} is given with --whole and with --cut-out. Give one: as it is, or its "
            "subject cut out."
        )
    if class_noun:
        who = Subject.choose(drive, subject, class_noun, identifier=identifier, kind=kind)
    else:  # a known one, built again
        who = load_subject(drive, subject)
        changed: dict[str, Any] = {"identifier": identifier, "kind": kind}
        who = replace(who, **{name: said for name, said in changed.items() if said})
    if say_name:
        from s2i_lib.speech.taught_names import teach_name

        who = teach_name(drive, who, say_name)
    built = build_dataset(
        who,
        drive,
        photos=photos,
        options=DatasetOptions(mirror=mirror, is_for_class=classroom),
        crops=dict(parse_crop(text) for text in crop or []),
        cut_out=dict.fromkeys(whole or [], False) | dict.fromkeys(cut_out or [], True),
        consent=Consent.given(consent_by, consent_on),
    )
    _emit_dataset(built)
    if not built.images:
        raise InputError(
            f"None of the {len(built.verdicts)} photos can be used. The reasons stand above and in "
            f"{built.contact_sheet}. Take others and run this again."
        )


def _emit_dataset(built: Dataset) -> None:
    for verdict in built.verdicts:
        text = f"{verdict.photo}  {verdict.verdict}. {verdict.reason}"
        emit(asdict(verdict), wrap(text, indent=4))
    lines = [wrap(f"Left alone  {', '.join(built.ignored)}", indent=12)] if built.ignored else []
    lines += [wrap(f"Note  {sentence}", indent=6) for sentence in built.advice]
    lines += [
        f"Crops     {built.folder} ({len(built.images)} of {len(built.verdicts)})",
        f"Sheet     {built.contact_sheet}",
        f"Manifest  {built.manifest}",
    ]
    if built.subject.spellings:
        spellings = ", ".join(built.subject.spellings)
        lines.append(f"Name      {built.subject.name}, also heard as {spellings}")
    if built.consent:
        lines.append(wrap(f"Consent   {built.consent.sentence(built.subject.name)}", indent=10))
    record = {
        "subject": asdict(built.subject),
        "kept": len(built.images),
        "ignored": built.ignored,
        "advice": built.advice,
        "consent": built.consent and built.consent.record(built.subject.name),
        "dataset": str(built.folder),
        "contact_sheet": str(built.contact_sheet),
        "manifest": str(built.manifest),
        "sha256": built.sha256,
    }
    emit(record, *lines)


@dataclass(frozen=True)
class Changes:
    """What may differ from the recipe: fields of FinetuneOptions; None is the recipe's own."""

    method: Annotated[str | None, typer.Option(help="full or lora.")] = None
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None
    learning_rate: Annotated[
        float | None, typer.Option(help="At its highest [default: the recipe's].")
    ] = None
    batch_size: Annotated[int | None, typer.Option(help="Photos a step, over all processes.")] = (
        None
    )
    accumulation: Annotated[int | None, typer.Option(help="Parts a step is computed in.")] = None
    with_prior: Annotated[
        bool, typer.Option("--prior/--no-prior", help="Learn class images too.")
    ] = True
    class_image_count: Annotated[
        int | None, typer.Option("--class-images", help="How many [default: the recipe's].")
    ] = None
    with_text_encoder: Annotated[
        bool | None,
        typer.Option(
            "--text-encoder/--no-text-encoder",
            help="Train the text encoder too [default: the recipe's].",
        ),
    ] = None
    precision: Annotated[str | None, typer.Option(help="fp32, fp16, bf16.")] = None
    seed: Annotated[int | None, typer.Option(help="Of all that is random.")] = None


def finetune(
    subject: Annotated[str, typer.Option(help="Subject with a dataset on the Drive.")],
    drive: Drive,
    changes: Changes,
    model: ModelOption = "auto",
    recipe: Annotated[
        str,
        typer.Option(
            help="auto: by the subject's kind and photos; classic (Stable Diffusion): 1e-6 and 800 "
            "steps, the U-Net alone; whole (pocket): photos as they are, not cut out."
        ),
    ] = "auto",
    name: Annotated[
        str | None, typer.Option(help="The run [default: the unfinished one, else a new one].")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="Any other field of FinetuneOptions, NAME=VALUE; repeatable."),
    ] = None,
) -> None:
    """Teach a model a subject (DreamBooth); the same command goes on where a session stopped."""
    from s2i_lib.distributed import Processes
    from s2i_lib.photos.manifest import load_dataset
    from s2i_lib.storage.run_card import read_card
    from s2i_lib.training.config import parse_options
    from s2i_lib.training.finetune import FinetuneRun

    others = parse_options(option or [])
    own = {name for name, value in asdict(changes).items() if value != getattr(Changes(), name)}
    if twice := sorted(own.intersection(others)):
        raise InputError(
            f"{twice[0]} is given twice: by an option of its own and by --option. Give one of them."
        )
    run = FinetuneRun(
        drive,
        load_dataset(drive, subject),
        model=model,
        recipe=recipe,
        name=name,
        **{**asdict(changes), **others},
    ).train()
    if not Processes().is_main:
        return
    card = read_card(run)
    emit(
        {"run": str(run), **card},
        f"Run       {run}",
        f'Draw it   python -m s2i_lib draw "{card.get("instance_prompt")}" --run {name_run(run)}'
        + _drive_option(drive),
    )


def _drive_option(drive: Drive) -> str:
    """Return what a command needs to find this Drive."""
    with suppress(InputError):  # a file lies where the Drive would be
        if drive == open_drive():
            return ""
    return f" --drive {shlex.quote(str(drive.root))}"


def export(
    run: Annotated[str, typer.Argument(help="SUBJECT/RUN, SUBJECT, or a run's folder.")],
    form: Annotated[str, typer.Option("--format", help="diffusers, single-file or lora.")],
    drive: Drive,
    out: Annotated[Path | None, typer.Option(help="File or folder to write.")] = None,
    model: ModelOption = "auto",
) -> None:
    """Write a run's weights in a format that other programs load."""
    from s2i_lib.models.export import export as export_run

    path = export_run(drive, run, form, out, model)
    emit({"path": str(path), "format": form}, f"Written   {path}")


def runs(
    drive: Drive,
    prune: Annotated[bool, typer.Option("--prune", help="Offer to delete states.")] = False,
    delete: Annotated[
        list[str] | None,
        typer.Option(help="SUBJECT/RUN to delete, weights and all; repeatable."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete states of finished runs, or the runs, unasked.")
    ] = False,
) -> None:
    """List fine-tuned runs with size and scores; delete what they no longer need, or all of one."""
    from s2i_lib.training.run import delete_runs, list_runs, prunable, select_runs
    from s2i_lib.training.run import prune as prune_states

    def agreed(question: str) -> bool:
        return yes or agree(question)

    found = list_runs(drive)
    doomed = select_runs(found, delete or [])
    for run in found:
        _emit_run(run)
    if not found:
        emit(None, "There are no runs yet.")
    freed, states = 0, []
    if doomed:
        named = ", ".join(run.name for run in doomed)
        if agreed(f"Delete all of {named} for good, weights and pictures of its training too?"):
            freed += delete_runs(drive, doomed)
    if prune:
        left = [run for run in found if run not in doomed]
        states = prunable(left, with_unfinished=not yes)
        agreed_on = [
            path
            for path, meaning in states
            if agreed(f"{meaning}. Delete its {size_of(path) / 1e6:.1f} MB?")
        ]
        freed += prune_states(drive, agreed_on)
    if (states or doomed) and not freed and not yes:
        complain(
            "Nothing was deleted. It goes with y where it is asked about, or with --yes.", "Note"
        )
    if prune or doomed:
        emit({"freed_bytes": freed}, f"Freed     {freed / 1e6:.1f} MB")


def _emit_run(run: RunSummary) -> None:
    scores = ", ".join(f"{key} {value:.2f}" for key, value in run.scores.items())
    record = {"run": run.name, "status": run.status, "step": run.step, "scores": run.scores}
    record |= {"bytes": run.size_bytes, "state_bytes": run.state_bytes, "outdated": run.outdated}
    emit(
        record,
        f"{run.name:30} {run.status:10} step {run.step:5}  {run.size_bytes / 1e6:9.1f} MB"
        f" ({run.state_bytes / 1e6:.1f} in states)  {scores}",
        *([f"    of {run.outdated}: train it again to draw with it"] if run.outdated else []),
    )
