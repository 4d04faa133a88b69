"""What is drawn to score a model: the DreamBench prompts, with seeds that are fixed."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2i_lib.drawing.advice import unknown_words
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.records import Picture
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.errors import InputError
from s2i_lib.evaluation.metrics import RESAMPLES
from s2i_lib.models.loading import Model
from s2i_lib.models.registry import BaseModel, known_words
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.templates import article_for
from s2i_lib.storage.json_file import load_object

BATCH = 4  # pictures at a time: what a T4 has room for at 512 px
DREAMBENCH = Path(__file__).with_name("dreambench.json")


@dataclass(frozen=True)
class EvaluateOptions:
    """What is drawn and how it is scored. The defaults are the paper's protocol."""

    prompts: int = 25
    """Number of DreamBench's prompts, from the first. Fewer are quicker, and their intervals wider;
    one has none."""
    seeds: int = 4
    """Pictures of each prompt. Source: Ruiz et al. 2023, section 4.1."""
    first_seed: int = 0
    class_pictures: int = 16
    """Pictures of the plain class, for prior drift and diversity."""
    steps: int | None = None
    """Steps of DPM-Solver++; None: the model's own."""
    guidance_scale: float | None = None
    """Guidance scale; None: the model's own."""
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


@functools.cache
def dreambench() -> dict[str, Any]:
    """Return the DreamBench prompts and their source: 25 for objects, 25 for live subjects."""
    return load_object(DREAMBENCH)


def choose_prompts(base: BaseModel, subject: Subject, count: int) -> tuple[list[str], list[str]]:
    """Return the first ``count`` DreamBench prompts for this kind of subject, and notes on them.

    A model that knows few words is asked what it can draw: DreamBench prompts of known words only,
    then backgrounds of every colour it knows.
    """
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


def batches(options: EvaluateOptions, count: int) -> Iterator[DrawOptions]:
    """Yield how ``count`` pictures are drawn: a few at a time.

    A picture depends on its own seed only, and memory on how many there are.
    """
    for done in range(0, count, BATCH):
        yield DrawOptions(
            steps=options.steps,
            guidance_scale=options.guidance_scale,
            count=min(BATCH, count - done),
            seed=options.first_seed + done,
        )


def draw_pictures(model: Model, prompt: str, count: int, options: EvaluateOptions) -> list[Picture]:
    """Draw ``count`` pictures of a prompt, from the seeds that the options say."""
    return [one for some in batches(options, count) for one in draw(model, prompt, some)]
