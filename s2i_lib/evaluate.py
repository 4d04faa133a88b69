"""How much a model's pictures look like the subject, follow the prompt, and leave the class alone.

Pictures are drawn by the DreamBench protocol and scored by whatever networks can be had; a score
that cannot be had is missing from the result, with the reason, and stops nothing.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s2i_lib import __version__
from s2i_lib.errors import InputError
from s2i_lib.models import REGISTRY, BaseModel, Model, known_words
from s2i_lib.scores import (
    RESAMPLES,
    Score,
    bootstrap,
    caption,
    mean_cosines,
    mean_distance,
    nearest_real,
    text_cosines,
)

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from s2i_lib.drive import Drive
    from s2i_lib.scorer import Scorers
    from s2i_lib.spoken import Clip
    from s2i_lib.subject import Subject

BATCH = 4  # pictures at a time: what a T4 has room for at 512 px
DREAMBENCH = Path(__file__).with_name("dreambench.json")

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


@dataclass(frozen=True)
class EvaluateOptions:
    """What is drawn and how it is scored. The defaults are the paper's protocol."""

    prompts: int = 25
    """The first so many of DreamBench's. Fewer are quicker, and their intervals wider."""
    seeds: int = 4
    """Pictures of each prompt. Source: Ruiz et al. 2023, section 4.1."""
    first_seed: int = 0
    class_pictures: int = 16
    """Of the plain class, for prior drift and diversity."""
    steps: int = 20
    """DPM-Solver++; as ``DrawOptions`` has it."""
    guidance_scale: float | None = None
    """None: the model's own."""
    bootstrap_seed: int = 0
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        for name, least, most in (
            ("prompts", 1, 25),
            ("seeds", 1, 64),
            ("class_pictures", 2, 64),
            ("resamples", 100, 1_000_000),
        ):
            if not least <= getattr(self, name) <= most:
                raise InputError(
                    f"{name} is {getattr(self, name)}; expected {least} to {most}. "
                    "The defaults are the DreamBooth paper's."
                )


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
    photos: list[str] = field(default_factory=list)
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
            "scores": {key: asdict(score) for key, score in self.scores.items()},
            "speech": self._speech_json(),
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


@functools.cache
def dreambench() -> dict[str, Any]:
    """The DreamBench prompts and where they come from: 25 for objects, 25 for live subjects."""
    return json.loads(DREAMBENCH.read_text())


def choose_prompts(base: BaseModel, subject: Subject, count: int) -> tuple[list[str], list[str]]:
    """The first ``count`` DreamBench prompts for this kind of subject, and notes on them.

    A model that knows few words is asked what it can draw: DreamBench prompts of known words only,
    then backgrounds of every colour it knows.
    """
    from s2i_lib.generate import unknown_words
    from s2i_lib.prompt import article_for

    protocol = dreambench()["object" if subject.kind == "object" else "live"]
    words = known_words(base)
    if words is None:
        return [p.format(subject=subject.phrase) for p in protocol[:count]], []
    known = [p for p in protocol if not unknown_words(base, p.format(subject=""))]
    colours = list({str(rgb): name for name, rgb in reversed(words["colours"].items())}.values())
    colours.reverse()  # of two names for a colour the first
    grounds = [f"a {{subject}} on {article_for(c)} {c} background" for c in colours]
    chosen = [*known, *grounds][:count]
    note = (
        f"{base.name} knows the words of {len(known)} of DreamBench's {len(protocol)} prompts for "
        "this kind of subject; plain backgrounds stand in for the others "
        f"({len(chosen) - len(known[:count])} of {len(chosen)} here). These scores compare runs of "
        "this model, not papers."
    )
    return [p.format(subject=subject.phrase) for p in chosen], [note]


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
        The real images: square crops. Without any, likeness is not scored.
    callback
        Gets the prompts drawn so far and in all.

    Raises
    ------
    InputError
        When a photo cannot be opened, or the identifier cannot be told apart in a prompt.
    """
    options = options or EvaluateOptions()
    prompts, notes = choose_prompts(model.base, subject, options.prompts)
    real = [open_photo(path) for path in photos]
    if not real:
        notes.append(
            f"There are no photos of {subject.name} (found 0, need 1 or more), so likeness, "
            "copying and prior drift are not scored. Run notebooks/1_capture_dataset.ipynb."
        )
    notes += [f"Not scored by {kind.upper()}: {why}" for kind, why in scorers.missing.items()]
    images, seeds = [], []
    for done, prompt in enumerate(prompts):
        callback(done, len(prompts) + 1)
        drawn = draw_pictures(model, prompt, options.seeds, options)
        images += [picture.image for picture in drawn]
        seeds += [picture.record["seed"] for picture in drawn]
    callback(len(prompts), len(prompts) + 1)
    class_prompt = caption(f"a {subject.phrase}", subject)
    of_class = [
        p.image for p in draw_pictures(model, class_prompt, options.class_pictures, options)
    ]
    callback(len(prompts) + 1, len(prompts) + 1)
    asked = [prompt for prompt in prompts for _ in range(options.seeds)]
    scores, pictures = _score(images, of_class, real, asked, seeds, subject, scorers, options)
    return Evaluation(
        name=model.run or model.base.name,
        subject=subject,
        base=model.base.name,
        source=model.source,
        options=options,
        scores=scores,
        pictures=pictures,
        scorers=scorers.to_json(),
        notes=notes,
        photos=[path.name for path in photos],
        images=images,
        class_images=of_class,
        real_images=real,
    )


def draw_pictures(model: Model, prompt: str, count: int, options: EvaluateOptions) -> list[Any]:
    """A few at a time: a picture depends on its own seed only, and memory on how many there are."""
    from s2i_lib.generate import DrawOptions, draw

    drawn: list[Any] = []
    while len(drawn) < count:
        some = DrawOptions(
            steps=options.steps,
            guidance_scale=options.guidance_scale,
            count=min(BATCH, count - len(drawn)),
            seed=options.first_seed + len(drawn),
        )
        drawn += draw(model, prompt, some)
    return drawn


def _score(
    images: list[Image],
    of_class: list[Image],
    real: list[Image],
    asked: list[str],
    seeds: list[int],
    subject: Subject,
    scorers: Scorers,
    options: EvaluateOptions,
) -> tuple[dict[str, Score], list[PictureScore]]:
    """All scores that the networks and photos at hand allow, and those of each picture."""
    each: dict[str, np.ndarray] = {}
    plain: dict[str, np.ndarray] = {}  # of class pictures: values that belong to no prompt
    networks: list[tuple[str, Any]] = [("clip", scorers.clip), ("dino", scorers.dino)]
    for kind, network in networks:
        if network is None:
            continue
        seen, seen_class = network.images(images), network.images(of_class)
        if real:
            photos = network.images(real)
            each["clip_i" if kind == "clip" else "dino"] = mean_cosines(seen, photos)
            plain[f"pres_{kind}"] = mean_cosines(seen_class, photos)
            nearest = nearest_real(seen, photos)  # DINO comes last and has the last word
            each["nearest_photo"] = np.array([n.index for n in nearest])
            each["nearest_cosine"] = np.array([n.cosine for n in nearest])
            each["copies"] = np.array([n.is_copy for n in nearest], float)
        if kind == "clip":
            texts = network.texts([caption(prompt, subject) for prompt in asked])
            each["clip_t"] = text_cosines(seen, texts)
            far = [1 - group @ group.T for group in _groups(seen, options.seeds)]
            _add_diversity(plain, "clip", far, 1 - seen_class @ seen_class.T)
    if scorers.lpips is not None:
        far = [scorers.lpips.distances(group) for group in _groups(images, options.seeds)]
        _add_diversity(plain, "lpips", far, scorers.lpips.distances(of_class))
    settings = {"seed": options.bootstrap_seed, "resamples": options.resamples}
    by_prompt = {
        key: bootstrap(values.reshape(-1, options.seeds), **settings)
        for key, values in each.items()
        if key in MEANING
    }
    scores = by_prompt | {key: bootstrap(values, **settings) for key, values in plain.items()}
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
    return {key: scores[key] for key in MEANING if key in scores}, pictures


def _add_diversity(
    plain: dict[str, np.ndarray], kind: str, far: list[np.ndarray], of_class: np.ndarray
) -> None:
    """Mean distances by prompt, and of each class picture to the other class pictures."""
    if len(far[0]) > 1:
        plain[f"div_{kind}"] = np.array([mean_distance(table) for table in far])
    n = len(of_class)
    plain[f"class_div_{kind}"] = (of_class - np.diag(np.diag(of_class))).sum(axis=1) / (n - 1)


def _groups(things: Any, size: int) -> list[Any]:
    return [things[i : i + size] for i in range(0, len(things), size)]


def open_photo(path: Path) -> Image:
    """A photo in RGB; InputError where it cannot be opened."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(
            f"The photo {path} cannot be opened ({error}). Build the dataset again with "
            "notebooks/1_capture_dataset.ipynb."
        ) from error


# --- a run on the Drive -------------------------------------------------------------------------


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
        There is no such run, it has no weights, or nobody says whom it shows.
    """
    from s2i_lib.models import find_run, load, read_card
    from s2i_lib.scorer import load_scorers
    from s2i_lib.speech import HearOptions, Listener
    from s2i_lib.spoken import evaluate_speech

    folder = find_run(drive, run)
    card = read_card(folder)
    subject = subject or _subject_of(folder, card)
    if is_base and card:
        made_from = card["base"]
        is_known = made_from["name"] in REGISTRY
        model = load(made_from["name" if is_known else "source"], drive=drive, device=device)
    else:
        model = load(drive=drive, run=str(folder), device=device)
    photos, notes = _photos_of(drive, subject, card)
    scorers = load_scorers(model.base, drive, device, **instead)
    result = evaluate(model, subject, photos, scorers, options, callback=callback)
    result.notes[:0] = notes
    if clips:
        listener = Listener(HearOptions(names=(subject.name,)), drive).load()
        result.speech = evaluate_speech(
            model, clips, listener, [subject], scorers.clip, result.options
        )
    if is_base:
        result.name = f"{model.base.name}, not fine-tuned"
    else:
        result.curve = read_curve(folder, card.get("kept_step"))
    return result


def _subject_of(folder: Path, card: dict[str, Any]) -> Subject:
    from s2i_lib.subject import Subject

    try:
        return Subject(**card["subject"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder} does not say whom its weights show (no subject in its run.json). Say it "
            "with --subject NAME:CLASS_NOUN:IDENTIFIER, for instance Rex:dog:sks."
        ) from error


def _photos_of(
    drive: Drive, subject: Subject, card: dict[str, Any]
) -> tuple[list[Path], list[str]]:
    """The crops of the subject's photos; none, with the reason, where there are none."""
    from s2i_lib.dataset import load_dataset

    try:
        dataset = load_dataset(drive, subject.name)
    except InputError as error:
        return [], [str(error)]
    learned = card.get("dataset", {}).get("sha256", dataset.sha256)
    changed = (
        f"The photos of {subject.name} have changed since this run learned from them: its likeness "
        "is to those of today."
    )
    return list(dataset.images), [] if learned == dataset.sha256 else [changed]


def read_curve(folder: Path, kept_step: int | None = None) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl and scores.jsonl; a damaged one ends the curve there."""
    lines: list[dict[str, Any]] = []
    for name in ("metrics.jsonl", "scores.jsonl"):
        try:
            for line in (folder / name).read_text().splitlines():
                lines.append(json.loads(line))
        except (OSError, ValueError):
            continue
    found = [line for line in lines if isinstance(line, dict) and "step" in line]
    return [
        line | {"is_best": True} if "likeness" in line and line["step"] == kept_step else line
        for line in found
    ]
