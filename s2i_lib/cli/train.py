"""From photos to weights: the dataset, the training, its runs, and export."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from s2i_lib.cli.app import DebugOption, DriveOption, JsonOption, ModelOption
from s2i_lib.cli.output import wrap
from s2i_lib.errors import InputError
from s2i_lib.photos.subject import RARE_TOKENS
from s2i_lib.storage.layout import open_drive

if TYPE_CHECKING:
    from s2i_lib.photos.manifest import Dataset
    from s2i_lib.photos.subject import Kind


def dataset(
    photos: Annotated[
        Path | None,
        typer.Argument(help="Folder or zip of photos [default: the subject's on the Drive]."),
    ] = None,
    subject: Annotated[str, typer.Option("--subject", help="Name, as it is spoken.")] = "",
    class_noun: Annotated[
        str, typer.Option("--class-noun", help="What the subject is one of: dog, mug, woman.")
    ] = "",
    identifier: Annotated[
        str | None,
        typer.Option(
            "--identifier",
            help=f"A token that means nothing, such as {', '.join(RARE_TOKENS)} "
            f"[default: the subject's so far, else {RARE_TOKENS[0]}].",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="person, animal or object [default: by the class noun]."),
    ] = None,
    consent_by: Annotated[
        str | None,
        typer.Option("--consent-by", help="Of a person: the name of who agrees to this."),
    ] = None,
    consent_on: Annotated[
        str | None,
        typer.Option("--consent-on", help="And the day, as 2026-08-19."),
    ] = None,
    crop: Annotated[
        list[str] | None,
        typer.Option("--crop", help="PHOTO=LEFT,TOP,SIZE in pixels of the upright photo."),
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option("--mirror/--no-mirror", help="Train on mirror images [default: animals]."),
    ] = None,
    classroom: Annotated[
        bool, typer.Option("--classroom", help="Leave out photos that a checker finds unfit.")
    ] = False,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check and crop photos of a subject: crops, contact sheet and manifest to train from."""
    from s2i_lib.photos.consent import Consent
    from s2i_lib.photos.crop import parse_crop
    from s2i_lib.photos.dataset import build_dataset
    from s2i_lib.photos.quality import DatasetOptions
    from s2i_lib.photos.subject import Subject, choose_identifier, guess_kind, load_subject

    if not subject:
        raise InputError(
            "Whose photos are these? Say --subject with the name as it is spoken, and --class-noun "
            "with what it is one of, for instance --subject Rex --class-noun dog."
        )
    root = open_drive(drive)
    if not class_noun:  # a known one, built again
        who = load_subject(root, subject)
    else:
        said = cast("Kind | None", kind)  # Subject checks that it is one
        token = identifier or choose_identifier(root, subject)
        who = Subject(subject, class_noun, token, said or guess_kind(class_noun))
    built = build_dataset(
        who,
        root,
        photos=photos,
        options=DatasetOptions(mirror=mirror, is_for_class=classroom),
        crops=dict(parse_crop(text) for text in crop or []),
        consent=Consent.given(consent_by, consent_on),
    )
    if as_json:
        for verdict in built.verdicts:
            print(json.dumps(asdict(verdict), ensure_ascii=False))
        summary = {
            "subject": asdict(who),
            "kept": len(built.images),
            "ignored": built.ignored,
            "advice": built.advice,
            "dataset": str(built.folder),
            "contact_sheet": str(built.contact_sheet),
            "manifest": str(built.manifest),
            "sha256": built.sha256,
        }
        print(json.dumps(summary, ensure_ascii=False))
    else:
        _print_dataset(built)
    if not built.images:
        raise InputError(
            f"None of the {len(built.verdicts)} photos can be used. The reasons stand above and in "
            f"{built.contact_sheet}. Take others and run this again."
        )


def _print_dataset(built: Dataset) -> None:
    for verdict in built.verdicts:
        print(wrap(f"{verdict.photo}  {verdict.verdict}. {verdict.reason}", indent=4))
    if built.ignored:
        print(wrap(f"Left alone  {', '.join(built.ignored)}", indent=12))
    for sentence in built.advice:
        print(wrap(f"Note  {sentence}", indent=6))
    print(f"Crops     {built.folder} ({len(built.images)} of {len(built.verdicts)})")
    print(f"Sheet     {built.contact_sheet}")
    print(f"Manifest  {built.manifest}")
    if built.consent:
        print(wrap(f"Consent   {built.consent.sentence(built.subject.name)}", indent=10))


def finetune(
    subject: Annotated[str, typer.Option("--subject", help="Subject with a dataset on the Drive.")],
    model: ModelOption = "auto",
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="auto: by the subject's kind; classic: 1e-6 and 800 steps, the U-Net alone.",
        ),
    ] = "auto",
    name: Annotated[
        str | None,
        typer.Option("--name", help="The run [default: the unfinished one, else a new one]."),
    ] = None,
    method: Annotated[str | None, typer.Option("--method", help="full or lora.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Optimizer steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Photos a step, over all processes.")
    ] = None,
    accumulation: Annotated[
        int | None, typer.Option("--accumulation", help="Parts a step is computed in.")
    ] = None,
    prior: Annotated[bool, typer.Option(help="Learn class images too.")] = True,
    class_images: Annotated[int | None, typer.Option("--class-images")] = None,
    text_encoder: Annotated[
        bool | None, typer.Option(help="Train the text encoder too [default: the recipe's].")
    ] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="fp32, fp16, bf16.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of all that is random.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", help="Any other field of FinetuneOptions, NAME=VALUE; repeatable."
        ),
    ] = None,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Teach a model a subject (DreamBooth); the same command goes on where a session stopped."""
    from s2i_lib.distributed import Processes
    from s2i_lib.photos.manifest import load_dataset
    from s2i_lib.storage.run_card import read_card
    from s2i_lib.training.config import parse_options
    from s2i_lib.training.finetune import FinetuneRun

    place = open_drive(drive)
    changes = {
        "method": method,
        "steps": steps,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "accumulation": accumulation,
        "with_prior": prior,
        "class_image_count": class_images,
        "with_text_encoder": text_encoder,
        "precision": precision,
        "seed": seed,
    }
    run = FinetuneRun(
        place,
        load_dataset(place, subject),
        model=model,
        recipe=recipe,
        name=name,
        **{**changes, **parse_options(option or [])},
    ).train()
    if not Processes().is_main:
        return
    if as_json:
        print(json.dumps({"run": str(run), **read_card(run)}))
    else:
        print(f"Run       {run}")
        prompt = read_card(run).get("instance_prompt", "")
        where = f"{run.parent.name}/{run.name}"
        print(f'Draw it   python -m s2i_lib draw "{prompt}" --run {where}')


def runs(
    prune: Annotated[bool, typer.Option("--prune", help="Offer to delete states.")] = False,
    delete: Annotated[
        list[str] | None,
        typer.Option("--delete", help="SUBJECT/RUN to delete, weights and all; repeatable."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete states of finished runs, or the runs, unasked.")
    ] = False,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List fine-tuned runs with size and scores; delete what they no longer need, or all of one."""
    from s2i_lib.storage.files import size_of
    from s2i_lib.training.run import delete_runs, list_runs, prunable, select_runs
    from s2i_lib.training.run import prune as prune_states

    place = open_drive(drive)
    found = list_runs(place)
    doomed = select_runs(found, delete or [])
    for run in found:
        facts = {"run": run.name, "status": run.status, "step": run.step, "scores": run.scores}
        if as_json:
            print(json.dumps({**facts, "bytes": run.size_bytes, "state_bytes": run.state_bytes}))
            continue
        scores = ", ".join(f"{key} {value:.2f}" for key, value in run.scores.items())
        print(
            f"{run.name:30} {run.status:10} step {run.step:5}  {run.size_bytes / 1e6:9.1f} MB"
            f" ({run.state_bytes / 1e6:.1f} in states)  {scores}"
        )
    if not found and not as_json:
        print("There are no runs yet.")
    freed = 0
    if doomed:
        named = ", ".join(run.name for run in doomed)
        question = f"Delete all of {named} for good, weights and pictures of its training too?"
        if yes or typer.confirm(question, err=True):
            freed += delete_runs(place, doomed)
    if prune:
        chosen = []
        left = [run for run in found if run not in doomed]
        for path, meaning in prunable(left, with_unfinished=not yes):
            question = f"{meaning}. Delete its {size_of(path) / 1e6:.1f} MB?"
            if yes or typer.confirm(question, err=True):
                chosen.append(path)
        freed += prune_states(chosen)
    if prune or doomed:
        print(json.dumps({"freed_bytes": freed}) if as_json else f"Freed     {freed / 1e6:.1f} MB")


def export(
    run: Annotated[str, typer.Argument(help="SUBJECT/RUN, SUBJECT, or a run's folder.")],
    form: Annotated[str, typer.Option("--format", help="diffusers, single-file or lora.")],
    out: Annotated[Path | None, typer.Option("--out", help="File or folder to write.")] = None,
    drive: DriveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a run's weights in a format that other programs load."""
    from s2i_lib.models.export import export as export_run

    path = export_run(open_drive(drive), run, form, out)
    print(json.dumps({"path": str(path), "format": form}) if as_json else f"Written   {path}")
