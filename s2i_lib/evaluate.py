"""A run on the Drive, evaluated: its weights against the photos that they learned from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.best import Point, as_curve
from s2i_lib.errors import InputError, S2iError
from s2i_lib.evaluation import Evaluation, evaluate
from s2i_lib.manifest import inspect_dataset
from s2i_lib.models import REGISTRY, find_run, load, read_card
from s2i_lib.scorer import load_scorers
from s2i_lib.speech import HearOptions, Listener
from s2i_lib.spoken import Clip, evaluate_speech
from s2i_lib.subject import Subject

if TYPE_CHECKING:
    import torch

    from s2i_lib.drive import Drive
    from s2i_lib.models import Model
    from s2i_lib.protocol import EvaluateOptions
    from s2i_lib.scorer import ClipScorer

POINT = Point.__dataclass_fields__.keys()


def evaluate_run(
    drive: Drive,
    run: str,
    options: EvaluateOptions | None = None,
    *,
    subject: Subject | None = None,
    is_base: bool = False,
    clips: Sequence[Clip] = (),
    device: torch.device | None = None,
    callback: Callable[[int, int], object] = lambda done, total: None,
    **instead: str | None,
) -> Evaluation:
    """Evaluate the weights of a run against the photos that it learned from.

    Parameters
    ----------
    run
        SUBJECT/RUN, SUBJECT, or the path of a run or diffusers folder.
    subject
        Needed for weights from elsewhere, which do not say whom they show.
    is_base
        Score the model that the run was made from instead: what fine-tuning started at.
    clips
        Recordings with their words; with any, hearing is scored, too.
    **instead
        clip, dino, lpips: networks to take in place of the registry's (``load_scorers``).

    Raises
    ------
    InputError
        There is no such run, it has no weights, nobody says whom it shows, or (with ``is_base``)
        nobody says what it was made from.
    """
    folder = find_run(drive, run)
    card = read_card(folder)
    subject = subject or _subject_of(folder, card)
    if is_base:
        made_from = _base_of(folder, card)
        is_known = made_from["name"] in REGISTRY
        model = load(made_from["name" if is_known else "source"], drive=drive, device=device)
    else:
        model = load(drive=drive, run=str(folder), device=device)
    photos, notes = _photos_of(drive, subject, card)
    scorers = load_scorers(model.base, drive, device, **instead)
    result = evaluate(model, subject, photos, scorers, options, callback=callback)
    result.notes[:0] = notes
    if clips:
        add_hearing(result, model, clips, drive, scorers.clip)
    if is_base:
        result.name = f"{model.base.name}, not fine-tuned"
    else:
        result.curve = read_curve(folder, card.get("kept_step"))
    return result


def add_hearing(
    evaluation: Evaluation,
    model: Model,
    clips: Sequence[Clip],
    drive: Drive,
    clip_scorer: ClipScorer | None,
) -> None:
    """Score hearing, too, for a listener that knows the subject's name; a note where it cannot."""
    subject = evaluation.subject
    try:
        listener = Listener(HearOptions(names=(subject.name,)), drive).load()
        evaluation.speech = evaluate_speech(
            model, clips, listener, [subject], clip_scorer, evaluation.options
        )
    except S2iError as error:
        evaluation.notes.append(f"Hearing is not scored: {error}")


def _subject_of(folder: Path, card: dict[str, Any]) -> Subject:
    try:
        return Subject(**card["subject"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder} does not say whom its weights show (no subject in its run.json). Say it "
            "with --subject NAME:CLASS_NOUN:IDENTIFIER, for instance Rex:dog:ohwx."
        ) from error


def _base_of(folder: Path, card: dict[str, Any]) -> dict[str, Any]:
    try:
        return card["base"]
    except KeyError as error:
        raise InputError(
            f"{folder} does not say what it was fine-tuned from (no base in its run.json), so "
            "there is no base model to score beside it. Leave --base out."
        ) from error


def _photos_of(
    drive: Drive, subject: Subject, card: dict[str, Any]
) -> tuple[list[Path], list[str]]:
    """The whole crops of the subject's photos, and why others, or all, are not among them."""
    try:
        dataset, damaged = inspect_dataset(drive, subject.name)
    except InputError as error:
        return [], [str(error)]
    notes = [
        f"The photo {path} is missing or not what the manifest says, so it is left out. Build the "
        "dataset again with notebooks/1_capture_dataset.ipynb."
        for path in damaged
    ]
    learned = card.get("dataset", {}).get("sha256", dataset.sha256)
    changed = (
        f"The photos of {subject.name} have changed since this run learned from them: its likeness "
        "is to those of today."
    )
    if learned != dataset.sha256:
        notes.append(changed)
    return [path for path in dataset.images if path not in damaged], notes


def read_curve(folder: Path, kept_step: int | None = None) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl and scores.jsonl; a damaged one ends the curve there.

    Those of scores have prior drift and value as well; the kept step, or the best so far, is_best.
    """
    lines: list[dict[str, Any]] = []
    for name in ("metrics.jsonl", "scores.jsonl"):
        try:
            for line in (folder / name).read_text().splitlines():
                lines.append(json.loads(line))
        except (OSError, ValueError):
            continue
    found = [line for line in lines if isinstance(line, dict) and "step" in line]
    scored = as_curve([Point(**line) for line in found if line.keys() == POINT])
    if kept_step is not None:
        scored = [line | {"is_best": line["step"] == kept_step} for line in scored]
    return [line for line in found if line.keys() != POINT] + scored
