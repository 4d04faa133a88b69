"""What is drawn to score a model: the DreamBench prompts, with seeds that are fixed."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    A model that knows few words is asked what it can draw: the DreamBench prompts that it knows,
    then each place, things worn where the subject lives, and backgrounds of one colour.
    """
    is_live = subject.kind != "object"
    protocol = dreambench()["live" if is_live else "object"]
    words = known_words(base)
    if words is None:
        return [p.format(subject=subject.phrase) for p in protocol[:count]], []
    known = {p: name for p in protocol if (name := _asked_for(words, p)) is not None}
    others = [
        f"a {{subject}} {ways[0]}"
        for kind in (("places", "accessories") if is_live else ("places",))
        for name, ways in words[kind].items()
        if name not in known.values()
    ]
    colours = list({str(rgb): name for name, rgb in reversed(words["colours"].items())}.values())
    colours.reverse()  # of two names for a colour the first
    grounds = [f"a {{subject}} on {article_for(c)} {c} background" for c in colours]
    chosen = [*known, *others, *grounds][:count]
    n_others = len(chosen) - min(len(known), count)
    note = (
        f"{base.name} knows {len(known)} of DreamBench's {len(protocol)} prompts for this kind of "
        f"subject; {'places, things worn' if is_live else 'places'} and plain backgrounds stand in "
        f"for the others ({n_others} of {len(chosen)} here). These scores compare runs of this "
        "model, not papers."
    )
    return [p.format(subject=subject.phrase) for p in chosen], [note]


def _asked_for(words: dict[str, Any], prompt: str) -> str | None:
    """The place or the thing worn that a prompt asks for, "" for a colour alone, None for others.

    It goes by the phrases that a model has learned: words that it knows singly say nothing
    together, as in "with a city in the background".
    """
    phrases = {
        way: name
        for kind in ("places", "accessories")
        for name, ways in words[kind].items()
        for way in ways
    }
    said = re.sub(rf"\b(?:{'|'.join(words['colours'])}) ", "", prompt)
    return ({"": ""} | phrases).get(said.removeprefix("a {subject}").strip())


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
