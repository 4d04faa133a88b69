"""How much a model's pictures look like the subject, follow the prompt, and leave the class alone.

Pictures are drawn by the DreamBench protocol and scored by whatever networks can be had; a score
that cannot be had is missing from the result, with the reason, and stops nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib import __version__
from s2i_lib.errors import InputError, S2iError
from s2i_lib.evaluation.dreambench import EvaluateOptions, choose_prompts, draw_pictures, dreambench
from s2i_lib.evaluation.encoders import load_scorers
from s2i_lib.evaluation.metrics import (
    Score,
    bootstrap,
    bootstrap_pairs,
    caption,
    mean_cosines,
    mean_distance,
    nearest_real,
    text_cosines,
)
from s2i_lib.evaluation.model_selection import Point, as_curve
from s2i_lib.evaluation.speech import Clip, evaluate_speech
from s2i_lib.models.loading import Model, load
from s2i_lib.models.registry import REGISTRY
from s2i_lib.photos.manifest import inspect_dataset, open_photo
from s2i_lib.photos.subject import Subject
from s2i_lib.pipeline import SpeechToImage
from s2i_lib.speech.transcribe import HearOptions
from s2i_lib.storage.files import sha256_of
from s2i_lib.storage.run_card import find_run, read_card

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from s2i_lib.evaluation.encoders import ClipScorer, Scorers
    from s2i_lib.storage.layout import Drive

# What each score means, in the report and in the notebook; the arrow says where better lies.
MEANING = {
    "dino": "↑ likeness to the photos (DINO), blind to the class, sees the individual",
    "clip_i": "↑ likeness to the photos (CLIP-I)",
    "clip_t": "↑ prompt fidelity (CLIP-T), the identifier left out",
    "pres_dino": "↓ likeness of plain class pictures to the photos (PRES): the class has turned",
    "pres_clip": "↓ likeness of plain class pictures to the photos (PRES, by CLIP)",
    "div_lpips": "↑ diversity of pictures of one prompt (DIV, LPIPS)",
    "div_clip": "↑ diversity of pictures of one prompt, as 1 - cosine of CLIP",
    "class_div_lpips": "↑ diversity of plain class pictures (LPIPS)",
    "class_div_clip": "↑ diversity of plain class pictures, as 1 - cosine of CLIP",
    "copies": "↓ share of pictures that are nearer to a photo than photos are to each other",
}

# Of a picture's record: what all pictures share. The model's own guidance is in it as numbers.
DRAWING = (
    "steps", "scheduler", "guidance_scale", "guidance_interval", "size_px", "hashes", "device",
    "precision",
)  # fmt: skip


@dataclass(frozen=True)
class PictureScore:
    """One picture, and what was scored of it."""

    prompt: str
    seed: int
    clip_i: float | None = None
    dino: float | None = None
    clip_t: float | None = None
    nearest_photo: int | None = None
    """Number of the photo that it is nearest to, 0 for the first."""
    nearest_cosine: float | None = None
    is_copy: bool = False

    @property
    def badness(self) -> float:
        """For the order of the report: low likeness x fidelity first, of what was scored."""
        scored = [s for s in (self.dino or self.clip_i, self.clip_t) if s is not None]
        return -float(np.prod([max(0.0, s) for s in scored])) if scored else 0.0


@dataclass
class Evaluation:
    """All that the report says of one model, and the pictures to show."""

    name: str
    subject: Subject
    base: str
    source: str
    options: EvaluateOptions
    scores: dict[str, Score]
    pictures: list[PictureScore]
    scorers: dict[str, Any]
    notes: list[str]
    photos: list[dict[str, str]] = field(default_factory=list)
    """The real images that likeness is to: name and sha256."""
    drawing: dict[str, Any] = field(default_factory=dict)
    """What the pictures were drawn with, and where: all that another machine must do alike."""
    speech: dict[str, Any] | None = None
    """Of clips that were heard (``spoken.evaluate_speech``), where there were any."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    """Of training: lines with a step, losses and whatever was scored at it."""
    images: list[Image] = field(default_factory=list)
    """In the order of ``pictures``; not in the JSON."""
    class_images: list[Image] = field(default_factory=list)
    real_images: list[Image] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Everything but the images: the same input gives the same bytes."""
        return {
            "name": self.name,
            "subject": asdict(self.subject),
            "base": self.base,
            "source": self.source,
            "options": asdict(self.options),
            "drawing": self.drawing,
            "scores": {key: asdict(score) for key, score in self.scores.items()},
            "speech": self._speech_json(),
            "curve": self.curve,
            "notes": self.notes,
            "scorers": self.scorers,
            "photos": self.photos,
            "prompts": list(dict.fromkeys(p.prompt for p in self.pictures)),
            "prompts_source": dreambench()["source"],
            "pictures": [asdict(picture) for picture in self.pictures],
            "versions": {"s2i_lib": __version__}
            | {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")},
        }

    def _speech_json(self) -> dict[str, Any] | None:
        if self.speech is None:
            return None
        return {k: asdict(v) if isinstance(v, Score) else v for k, v in self.speech.items()}


def evaluate(
    model: Model,
    subject: Subject,
    photos: Sequence[Path],
    scorers: Scorers,
    options: EvaluateOptions | None = None,
    *,
    callback: Callable[[int, int], object] = lambda done, total: None,
) -> Evaluation:
    """Draw the prompts and score the pictures.

    Parameters
    ----------
    model
        With the run's weights in it, or without, for comparison.
    photos
        The real images: square crops. One that cannot be opened is left out, which a note says;
        without any, likeness is not scored.
    callback
        Gets the prompts drawn so far and in all.
    """
    options = options or EvaluateOptions()
    prompts, notes = choose_prompts(model.base, subject, options.prompts)
    opened, damaged = _open_photos(photos)
    real = list(opened.values())
    notes += damaged
    if not real:
        notes.append(
            f"There are no photos of {subject.name} (found 0, need 1 or more), so likeness, "
            "copying and prior drift are not scored. Run notebooks/1_capture_dataset.ipynb."
        )
    images, records = [], []
    for done, prompt in enumerate(prompts):
        callback(done, len(prompts) + 1)
        drawn = draw_pictures(model, prompt, options.seeds, options)
        images += [picture.image for picture in drawn]
        records += [picture.record for picture in drawn]
    callback(len(prompts), len(prompts) + 1)
    class_prompt = caption(f"a {subject.phrase}", subject)
    drawn = draw_pictures(model, class_prompt, options.class_pictures, options)
    of_class = [picture.image for picture in drawn]
    callback(len(prompts) + 1, len(prompts) + 1)
    drawing = {key: records[0][key] for key in DRAWING} | {
        "class_prompt": class_prompt,
        "class_seeds": [picture.record["seed"] for picture in drawn],
    }
    asked = [prompt for prompt in prompts for _ in range(options.seeds)]
    seeds = [record["seed"] for record in records]
    scores, pictures, failed = _score(
        images, of_class, real, asked, seeds, subject, scorers, options
    )
    missing = scorers.missing | failed
    notes += [f"Not scored by {kind.upper()}: {why}" for kind, why in missing.items()]
    return Evaluation(
        name=model.run or model.base.name,
        subject=subject,
        base=model.base.name,
        source=model.source,
        options=options,
        scores=scores,
        pictures=pictures,
        scorers=replace(scorers, missing=missing, **dict.fromkeys(failed)).to_json(),
        notes=notes,
        photos=[{"name": path.name, "sha256": sha256_of(path)} for path in opened],
        drawing=drawing,
        images=images,
        class_images=of_class,
        real_images=real,
    )


def _open_photos(photos: Sequence[Path]) -> tuple[dict[Path, Image], list[str]]:
    opened, notes = {}, []
    for path in photos:
        try:
            opened[path] = open_photo(path)
        except InputError as error:
            notes.append(f"One photo is left out. {error}")
    return opened, notes


def _score(
    images: list[Image],
    of_class: list[Image],
    real: list[Image],
    asked: list[str],
    seeds: list[int],
    subject: Subject,
    scorers: Scorers,
    options: EvaluateOptions,
) -> tuple[dict[str, Score], list[PictureScore], dict[str, str]]:
    """All scores that the networks and photos at hand allow, those of each picture, what failed."""
    each: dict[str, np.ndarray] = {}
    plain: dict[str, np.ndarray] = {}  # of class pictures: values that belong to no prompt
    between: dict[str, np.ndarray] = {}  # class pictures: distances of each to every other
    failed: dict[str, str] = {}
    if (clip := scorers.clip) is not None:
        with _noting(failed, "clip"):
            seen, seen_class = clip.images(images), clip.images(of_class)
            texts = clip.texts([caption(prompt, subject) for prompt in asked])
            photos = clip.images(real) if real else None
            each["clip_t"] = text_cosines(seen, texts)
            far = [1 - group @ group.T for group in _groups(seen, options.seeds)]
            _add_diversity(plain, "clip", far)
            between["class_div_clip"] = 1 - seen_class @ seen_class.T
            _add_likeness(each, plain, "clip", seen, seen_class, photos)
    if (dino := scorers.dino) is not None and real:
        with _noting(failed, "dino"):  # it comes last and has the last word on copies
            all_seen = [dino.images(some) for some in (images, of_class, real)]
            _add_likeness(each, plain, "dino", *all_seen)
    if (lpips := scorers.lpips) is not None:
        with _noting(failed, "lpips"):
            far = [lpips.distances(group) for group in _groups(images, options.seeds)]
            _add_diversity(plain, "lpips", far)
            between["class_div_lpips"] = lpips.distances(of_class)
    settings = {"seed": options.bootstrap_seed, "resamples": options.resamples}
    by_prompt = {
        key: bootstrap(values.reshape(-1, options.seeds), **settings)
        for key, values in each.items()
        if key in MEANING
    }
    scores = by_prompt | {key: bootstrap(values, **settings) for key, values in plain.items()}
    scores |= {key: bootstrap_pairs(table, **settings) for key, table in between.items()}
    pictures = [
        PictureScore(
            prompt,
            seed,
            is_copy=bool(each["copies"][i]) if "copies" in each else False,
            nearest_photo=int(each["nearest_photo"][i]) if "nearest_photo" in each else None,
            **{
                key: round(float(each[key][i]), 6)
                for key in ("clip_i", "dino", "clip_t", "nearest_cosine")
                if key in each
            },
        )
        for i, (prompt, seed) in enumerate(zip(asked, seeds, strict=True))
    ]
    return {key: scores[key] for key in MEANING if key in scores}, pictures, failed


def _add_likeness(
    each: dict[str, np.ndarray],
    plain: dict[str, np.ndarray],
    kind: str,
    seen: np.ndarray,
    seen_class: np.ndarray,
    photos: np.ndarray | None,
) -> None:
    """To the photos: of each picture, of each plain class picture, and which photo is nearest."""
    if photos is None:
        return
    each["clip_i" if kind == "clip" else "dino"] = mean_cosines(seen, photos)
    plain[f"pres_{kind}"] = mean_cosines(seen_class, photos)
    nearest = nearest_real(seen, photos)
    each["nearest_photo"] = np.array([n.index for n in nearest])
    each["nearest_cosine"] = np.array([n.cosine for n in nearest])
    each["copies"] = np.array([n.is_copy for n in nearest], float)


@contextmanager
def _noting(failed: dict[str, str], kind: str) -> Iterator[None]:
    """A network whose numbers are none leaves a note, and the others go on."""
    try:
        yield
    except S2iError as error:
        failed[kind] = str(error)


def _add_diversity(plain: dict[str, np.ndarray], kind: str, far: list[np.ndarray]) -> None:
    """Mean distances by prompt, where there are two pictures of each."""
    if len(far[0]) > 1:
        plain[f"div_{kind}"] = np.array([mean_distance(table) for table in far])


def _groups(things: Any, size: int) -> list[Any]:
    return [things[i : i + size] for i in range(0, len(things), size)]


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
        hearing = HearOptions(names=(subject.name,))
        speech = SpeechToImage(drive, model=model, hearing=hearing, negative="")
        speech.subjects, speech.folder = [subject], None
        evaluation.speech = evaluate_speech(speech.load(), clips, clip_scorer, evaluation.options)
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
