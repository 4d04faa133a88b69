"""The evaluation of a run that lies on the Drive: its weights, its photos, its curve, hearing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from s2i_lib.errors import InputError, S2iError
from s2i_lib.evaluation.dreambench import EvaluateOptions
from s2i_lib.evaluation.evaluate import Evaluation, evaluate
from s2i_lib.evaluation.model_selection import Point, as_curve, read_points
from s2i_lib.evaluation.speech import Clip, evaluate_speech
from s2i_lib.models.encoders import load_scorers
from s2i_lib.models.loading import Model, choose_base, load
from s2i_lib.photos.manifest import inspect_dataset
from s2i_lib.photos.subject import Subject
from s2i_lib.pipeline import SpeechToImage
from s2i_lib.speech.transcribe import HearOptions
from s2i_lib.storage.disk import say_fault
from s2i_lib.storage.json_file import NUMBER, check_fields, parse_object, read_limited
from s2i_lib.storage.run_card import find_run, read_card

if TYPE_CHECKING:
    from s2i_lib.models.encoders import ClipScorer
    from s2i_lib.storage.layout import Drive

POINT = Point.__dataclass_fields__.keys()
LINE_SHAPE: dict[str, Any] = {"step": int, "instance_loss": NUMBER, "prior_loss": NUMBER}
LINE_SHAPE |= dict.fromkeys(POINT - {"step"}, (*NUMBER, type(None)))


def evaluate_run(
    drive: Drive,
    run: str,
    options: EvaluateOptions | None = None,
    *,
    subject: Subject | None = None,
    is_base: bool = False,
    base: str = "auto",
    clips: Sequence[Clip] = (),
    **instead: str | None,
) -> Evaluation:
    """Evaluate the weights of a run against the photos that it learned from; a bar counts.

    Parameters
    ----------
    run
        SUBJECT/RUN, SUBJECT, or the path of a run or diffusers folder.
    subject
        Needed for weights from elsewhere, which do not say whom they show.
    is_base
        Score the model that the run was made from instead: what fine-tuning started at.
    base
        Folder of the model that the run was made from, where that is none of ours.
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
        model = load(choose_base(folder, card, base), drive=drive)
    else:
        model = load(base, drive=drive, run=str(folder))
    photos, notes = photos_of(drive, subject, card)
    scorers = load_scorers(model.base, drive, **instead)
    with tqdm(desc=f"Evaluating {run}", unit="prompt", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = evaluate(model, subject, photos, scorers, options, callback=show)
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
        hearing = HearOptions(subjects=(subject,))
        speech = SpeechToImage(drive, model=model, hearing=hearing, negative="")
        speech.subjects, speech.folder = [subject], None
        evaluation.speech = evaluate_speech(speech.load(), clips, clip_scorer, evaluation.options)
    except (S2iError, OSError) as error:  # of the pictures all is known by now
        evaluation.notes.append(f"Hearing is not scored: {say_fault(error)}")


def _subject_of(folder: Path, card: dict[str, Any]) -> Subject:
    try:
        return Subject(**card["subject"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder} does not say whom its weights show (no subject in its run.json). Say it "
            "with --subject NAME:CLASS_NOUN:IDENTIFIER, for instance Rex:dog:ohwx."
        ) from error


def photos_of(drive: Drive, subject: Subject, card: dict[str, Any]) -> tuple[list[Path], list[str]]:
    """Return the whole crops of the subject's photos, and why others, or all, are not there."""
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
    if learned != dataset.sha256:
        notes.append(
            f"The photos of {subject.name} have changed since this run learned from them: its "
            "likeness is to those of today."
        )
    return [path for path in dataset.images if path not in damaged], notes


def read_curve(folder: Path, kept_step: int | None = None) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl and scores.jsonl; a damaged line ends it.

    Those of scores have prior drift and value as well; the kept step, or the best so far, is_best.
    """
    lines: list[dict[str, Any]] = []
    for name in ("metrics.jsonl", "scores.jsonl"):
        with suppress(OSError, ValueError):
            for line in read_limited(folder / name).splitlines():
                found = parse_object(line)
                check_fields(found, LINE_SHAPE)
                lines.append(found)
    lines = [line for line in lines if "step" in line]
    scored = as_curve(read_points(lines))
    if kept_step is not None:
        scored = [line | {"is_best": line["step"] == kept_step} for line in scored]
    return [line for line in lines if "likeness" not in line] + scored
