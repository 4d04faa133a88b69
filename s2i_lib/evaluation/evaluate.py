"""How much a model's pictures look like the subject, follow the prompt, and leave the class alone.

Pictures are drawn by the DreamBench protocol and scored by whatever networks are available; a
score that is not available is missing from the result, with the reason, and stops nothing.
"""

from __future__ import annotations

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
from s2i_lib.models.loading import Model
from s2i_lib.photos.cut_out import Halves, split
from s2i_lib.photos.manifest import open_photo
from s2i_lib.photos.subject import Subject
from s2i_lib.storage.files import sha256_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from s2i_lib.drawing.records import Picture
    from s2i_lib.models.encoders import ClipScorer, DinoScorer, Scorers

# What each score means, in the report and in the notebook; the arrow says where better lies.
MEANING = {
    "dino": "↑ likeness to the photos (DINO), blind to the class, sees the individual",
    "clip_i": "↑ likeness to the photos (CLIP-I)",
    "subject_dino": "↑ likeness of the subject, cut out of pictures and photos (DINO)",
    "subject_clip": "↑ likeness of the subject, cut out of pictures and photos (CLIP)",
    "leak_dino": "↓ likeness of the surroundings to those of the photos (DINO)",
    "leak_clip": "↓ likeness of the surroundings to those of the photos (CLIP)",
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
        """Negative likeness x fidelity, of what was scored: the report shows the worst first."""
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
    """Name and sha256 of the real images that likeness is to."""
    drawing: dict[str, Any] = field(default_factory=dict)
    """Settings and device that the pictures were drawn with, so that they can be drawn again."""
    speech: dict[str, Any] | None = None
    """Scores of clips that were heard (``evaluate_speech``), where there were any."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    """Lines of training: a step, its losses and whatever was scored at it."""
    images: list[Image] = field(default_factory=list)
    """Images in the order of ``pictures``; not in the JSON."""
    class_images: list[Image] = field(default_factory=list)
    real_images: list[Image] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the images: the same input gives the same bytes."""
        return {
            "name": self.name,
            "subject": asdict(self.subject),
            "base": self.base,
            "source": self.source,
            "options": asdict(self.options),
            "drawing": self.drawing,
            "scores": {key: asdict(score) for key, score in self.scores.items()},
            "speech": self.speech
            and {k: asdict(v) if isinstance(v, Score) else v for k, v in self.speech.items()},
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
    notes += damaged
    if not opened:
        notes.append(
            f"There are no photos of {subject.name} (found 0, need 1 or more), so likeness, "
            "copying and prior drift are not scored. Run notebooks/1_capture_dataset.ipynb."
        )
    # Before the long work: the Drive may have gone when that is done.
    digests = [{"name": path.name, "sha256": sha256_of(path)} for path in opened]
    drawn: list[tuple[str, Picture]] = []
    for done, prompt in enumerate(prompts):
        callback(done, len(prompts) + 1)
        drawn += [(prompt, one) for one in draw_pictures(model, prompt, options.seeds, options)]
    callback(len(prompts), len(prompts) + 1)
    class_prompt = caption(f"a {subject.phrase}", subject)
    of_class = draw_pictures(model, class_prompt, options.class_pictures, options)
    callback(len(prompts) + 1, len(prompts) + 1)
    drawing = {key: drawn[0][1].record[key] for key in DRAWING} | {
        "class_prompt": class_prompt,
        "class_seeds": [picture.record["seed"] for picture in of_class],
    }
    result = Evaluation(
        name=model.run or model.base.name,
        subject=subject,
        base=model.base.name,
        source=model.source,
        options=options,
        scores={},
        pictures=[PictureScore(prompt, picture.record["seed"]) for prompt, picture in drawn],
        scorers={},
        notes=notes,
        photos=digests,
        drawing=drawing,
        images=[picture.image for _, picture in drawn],
        class_images=[picture.image for picture in of_class],
        real_images=list(opened.values()),
    )
    failed = _score(result, scorers)
    missing = scorers.missing | failed
    result.notes += [f"Not scored by {kind.upper()}: {why}" for kind, why in missing.items()]
    result.scorers = replace(scorers, missing=missing, **dict.fromkeys(failed)).to_json()
    return result


def _open_photos(photos: Sequence[Path]) -> tuple[dict[Path, Image], list[str]]:
    opened, notes = {}, []
    for path in photos:
        try:
            opened[path] = open_photo(path)
        except InputError as error:
            notes.append(f"One photo is left out. {error}")
    return opened, notes


def _score(result: Evaluation, scorers: Scorers) -> dict[str, str]:
    """Score all that the networks and photos allow; return which networks failed, and why."""
    table, seeds = _ScoreTable(result.options), result.options.seeds
    failed: dict[str, str] = {}
    images, of_class, real = result.images, result.class_images, result.real_images
    halves = [[split(one) for one in some] for some in (images, real)] if real else None
    if (clip := scorers.clip) is not None:
        with _noting(failed, "clip"):
            seen, seen_class = clip.images(images), clip.images(of_class)
            texts = clip.texts([caption(p.prompt, result.subject) for p in result.pictures])
            photos = clip.images(real) if real else None
            table.add("clip_t", text_cosines(seen, texts))
            far = [1 - group @ group.T for group in _groups(seen, seeds)]
            table.add_diversity("clip", far, 1 - seen_class @ seen_class.T)
            if photos is not None:
                table.add_likeness("clip", seen, seen_class, photos)
            if halves:
                table.add_halves("clip", clip, *halves)
    if (dino := scorers.dino) is not None and real:
        with _noting(failed, "dino"):  # it comes last and has the last word on copies
            table.add_likeness("dino", *[dino.images(some) for some in (images, of_class, real)])
            if halves:
                table.add_halves("dino", dino, *halves)
    if (lpips := scorers.lpips) is not None:
        with _noting(failed, "lpips"):
            far = [lpips.distances(group) for group in _groups(images, seeds)]
            table.add_diversity("lpips", far, lpips.distances(of_class))
    result.scores = {key: table.scores[key] for key in MEANING if key in table.scores}
    result.pictures = [replace(p, **table.row(i)) for i, p in enumerate(result.pictures)]
    return failed


class _ScoreTable:
    """Scores with their intervals, and what was scored of each picture."""

    def __init__(self, options: EvaluateOptions):
        self.seeds = options.seeds
        self.settings = {"seed": options.bootstrap_seed, "resamples": options.resamples}
        self.scores: dict[str, Score] = {}
        self.columns: dict[str, np.ndarray] = {}

    def add(self, key: str, values: np.ndarray) -> None:
        """Add a value of each picture, prompt by prompt."""
        self.columns[key] = values
        self.scores[key] = bootstrap(values.reshape(-1, self.seeds), **self.settings)

    def add_likeness(
        self, kind: str, seen: np.ndarray, seen_class: np.ndarray, photos: np.ndarray
    ) -> None:
        """Add how alike pictures and plain class pictures are to photos, and the nearest photos."""
        self.add("clip_i" if kind == "clip" else "dino", mean_cosines(seen, photos))
        self.scores[f"pres_{kind}"] = bootstrap(mean_cosines(seen_class, photos), **self.settings)
        nearest = nearest_real(seen, photos)
        self.add("copies", np.array([n.is_copy for n in nearest], float))
        self.columns["nearest_photo"] = np.array([n.index for n in nearest])
        self.columns["nearest_cosine"] = np.array([n.cosine for n in nearest])

    def add_halves(
        self,
        kind: str,
        scorer: ClipScorer | DinoScorer,
        pictures: Sequence[Halves],
        photos: Sequence[Halves],
    ) -> None:
        """Add how alike the subjects alone are to the photos', and the surroundings alone."""
        for key, half in (("subject", 0), ("leak", 1)):
            seen, real = (scorer.images([one[half] for one in some]) for some in (pictures, photos))
            self.add(f"{key}_{kind}", mean_cosines(seen, real))

    def add_diversity(
        self, kind: str, by_prompt: Sequence[np.ndarray], of_class: np.ndarray
    ) -> None:
        """Add mean distances by prompt, where there are two pictures of each, and of the class."""
        if self.seeds > 1:
            means = [mean_distance(distances) for distances in by_prompt]
            self.scores[f"div_{kind}"] = bootstrap(means, **self.settings)
        self.scores[f"class_div_{kind}"] = bootstrap_pairs(of_class, **self.settings)

    def row(self, picture: int) -> dict[str, Any]:
        """Return what was scored of one picture, as ``PictureScore`` has it."""
        found = {key: values[picture] for key, values in self.columns.items()}
        row: dict[str, Any] = {
            key: round(float(found[key]), 6)
            for key in ("clip_i", "dino", "clip_t", "nearest_cosine")
            if key in found
        }
        if "copies" in found:
            row |= {
                "is_copy": bool(found["copies"]), "nearest_photo": int(found["nearest_photo"]),
            }  # fmt: skip
        return row


@contextmanager
def _noting(failed: dict[str, str], kind: str) -> Iterator[None]:
    """A network whose numbers are none leaves a note, and the others go on."""
    try:
        yield
    except S2iError as error:
        failed[kind] = str(error)


def _groups(things: Any, size: int) -> list[Any]:
    return [things[i : i + size] for i in range(0, len(things), size)]
