"""Measure the pocket model against the targets of its recipe, and print them as tables.

    python -m benchmarks.pocket [--model DIR] [--photos DIR] [--pictures 200] [--grid FILE]
    python -m benchmarks.pocket --steps 4 6 8 12 20     # accuracy against steps

What a picture shows is said by the judge (tools/pocket/judge.py), a classifier that was trained on
renders only and is no part of the model; a plain ground's colour is that of the border. All prompts
but those for two things, for numbers and for sizes ask for pairs that were never trained on. A
colour that a thing has unpainted is none of them, nor is a ground of that colour: captions say the
one, and the world never shows the other. How well a learned subject is drawn at a place, or with
something worn, benchmarks/dreambooth_quality.py measures.

Needs the drawn icons, the places and the judge of the recipe: ``pip install -e '.[pocket]'``, then
``python -m tools.pocket.icons`` (which needs npm), ``python -m tools.pocket.places`` and ``python
-m tools.pocket.judge``, which trains it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from s2i_lib.models.registry import REGISTRY
from tools.pocket import data, dress, judge, samples, words, world
from tools.pocket.training import SHIPPED, as_tensor, psnr_db

STEPS = REGISTRY["pocket"].steps
LOADS, DRAWS = 4, 5  # how many of each are timed
SCENES = 200  # for the decoder
BORDER_PX = 5  # of a picture of 128, in which no thing stands
STANDS_OUT = 60  # of 765: a pixel that differs more from the border shows a thing
COLUMNS = 12  # of the grid, which has a row of each kind of prompt

# Kind of prompt and what is asked of its pictures -> what the table calls it, and the target.
ROWS: dict[tuple[str, str], tuple[str, float | None]] = {
    ("ground", "noun"): ("noun, on grounds it was never shown on", 0.97),
    ("ground", "ground"): ("plain background", 0.99),
    ("place", "noun"): ("noun, at places it was never shown at", None),
    ("place", "place"): ("place", 0.92),
    ("worn", "noun"): ("noun that wears something it never wore", None),
    ("worn", "accessory"): ("accessory", 0.85),
    ("two", "both"): ("both of two nouns", 0.75),
    ("paint", "colour"): ("colour of the noun, which it never had", 0.9),
    ("number", "count"): ("count", 0.95),
}


@dataclass(frozen=True)
class Asked:
    """A prompt, and what its picture has to show; what is empty is not asked about."""

    prompt: str
    noun: str = ""
    second: str = ""
    """Another noun, of which both have to be there."""
    ground: str = ""
    place: str = ""
    accessory: str = ""
    colour: str = ""
    """Of the noun."""
    count: str = ""

    def rights(self, picture: np.ndarray, seen: judge.Seen) -> dict[str, bool]:
        """Say of each thing that was asked for whether the picture has it."""
        found = {"ground": background_of(picture) == self.ground} if self.ground else {}
        for name in ("place", "accessory", "colour", "count"):
            if wanted := getattr(self, name):
                found[name] = getattr(seen, name) == wanted
        if self.second:
            return found | {"both": set(seen.pair) == {self.noun, self.second}}
        return found | ({"noun": seen.noun == self.noun} if self.noun else {})


def background_of(picture: np.ndarray) -> str:
    """Return the name of the colour that is nearest to that of the picture's border."""
    median = border_of(picture)
    distances = {n: float(np.square(median - c).sum()) for n, c in words.COLOURS.items()}
    return min(distances, key=distances.__getitem__)


def border_of(picture: np.ndarray) -> np.ndarray:
    """Return the median colour of a picture's border, shape = (3,)."""
    border = np.ones(picture.shape[:2], bool)
    border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    return np.median(picture[border].astype(np.float32), 0)


def object_of(picture: np.ndarray) -> np.ndarray:
    """Return which pixels differ from the border's colour, bool, shape = (side, side)."""
    return np.abs(picture - border_of(picture)).sum(-1) > STANDS_OUT


def look(asked: list[Asked], pictures: np.ndarray) -> list[dict[str, bool]]:
    """Say of each picture what it has of what was asked for, by the judge."""
    seen = judge.load().see(pictures)
    return [a.rights(p, s) for a, p, s in zip(asked, pictures, seen, strict=True)]


# --- the prompts --------------------------------------------------------------------------------


def shows_on(noun: str, ground: str) -> bool:
    """Say whether a thing stands out from a ground: in no look it has the ground's colour."""
    return ground not in {noun, *world.own_colours(noun)}  # the orange, too


def ground_for(noun: str, painted: str = "") -> str:
    """Return a ground that a thing was trained on and stands out from, painted or not."""
    return next(
        ground
        for ground in words.COLOUR_NAMES
        if ground != painted
        and shows_on(noun, ground)
        and not words.is_held_out(noun, "on", ground)
    )


def is_asked(noun: str, relation: str, other: str) -> bool:
    """Say whether a held-out pair would be in the world but for that, and is not anyway."""
    if relation == "on":
        return shows_on(noun, other)
    if relation == "in":
        return noun in words.PAINTABLE and other not in world.own_colours(noun)
    return noun in dress.WEARERS if relation == "wearing" else True


def held_out(relation: str, count: int) -> list[tuple[str, str]]:
    """Return ``count`` pairs that were never trained on, gone through again when they end."""
    pairs = [(n, o) for n, o in words.held_out(relation) if is_asked(n, relation, o)]
    np.random.default_rng(3).shuffle(pairs)
    return [pairs[i % len(pairs)] for i in range(count)]


def two_things(rng: np.random.Generator) -> Asked:
    """Ask for two things as the world has them: one "and" or "with" another."""
    noun = str(rng.choice(words.NOUNS))
    link, second = world.random_second(rng, noun)
    if second in words.ACCESSORY_NAMES:  # "with a balloon" may be held as well
        return two_things(rng)
    return Asked(f"{words.with_article(noun)} {link} {words.with_article(second)}", noun, second)


def make_prompts(count: int) -> dict[str, list[Asked]]:
    """Return ``count`` prompts of each kind; always the same."""
    rng = np.random.default_rng(4)
    one_by_one = rng.choice(words.COUNTABLE, count)
    counted = [(str(n), words.COUNTS[i % 3]) for i, n in enumerate(one_by_one)]
    return {
        "ground": [Asked(words.on_background(n, c), n, ground=c) for n, c in held_out("on", count)],
        "place": [Asked(words.at_place(n, p), n, place=p) for n, p in held_out("at", count)],
        "worn": [Asked(words.wearing(n, a), n, accessory=a) for n, a in held_out("wearing", count)],
        "two": [two_things(rng) for _ in range(count)],
        "paint": [
            Asked(words.on_background(f"{c} {n}", ground_for(n, c)), colour=c)
            for n, c in held_out("in", count)
        ],
        "number": [
            Asked(words.with_article(n) if c == "one" else f"{c} {words.plural(n)}", count=c)
            for n, c in counted
        ],
    }


def size_prompts(count: int) -> list[list[str]]:
    """Return prompts for small things and for the same ones big, on grounds they stand out from."""
    nouns = [str(n) for n in np.random.default_rng(5).choice(words.COUNTABLE, count)]
    return [
        [words.on_background(f"{size} {n}", ground_for(n)) for n in nouns]
        for size in ("small", "big")
    ]


# --- what is measured ---------------------------------------------------------------------------


def load(folder: Path) -> StableDiffusionPipeline:
    """Return the pipeline with DPM-Solver++, as the library draws with it."""
    made = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, requires_safety_checker=False
    )
    return samples.as_the_library(made)


def measure_prompts(
    pipeline: StableDiffusionPipeline, count: int, steps: int
) -> tuple[dict[str, float], list[tuple[np.ndarray, list[str]]]]:
    """Return the share of right answers for each row, and (pictures, prompts) of each kind."""
    table, drawn = {}, []
    for kind, asked in make_prompts(count).items():
        prompts = [one.prompt for one in asked]
        pictures = samples.draw(pipeline, prompts, steps)
        drawn.append((pictures, prompts))
        rights = defaultdict[str, list[bool]](list)
        for found in look(asked, pictures):
            for name, is_right in found.items():
                rights[name].append(is_right)
        for name, answers in rights.items():
            table[ROWS[kind, name][0]] = float(np.mean(answers))
    return table, drawn


def measure_size(pipeline: StableDiffusionPipeline, count: int, steps: int) -> dict[str, float]:
    """Return the mean shares that small and big ones cover, and how often big covers more."""
    small, big = (
        np.array([object_of(picture).mean() for picture in samples.draw(pipeline, prompts, steps)])
        for prompts in size_prompts(count)
    )
    return {
        "share of the picture that small ones cover": float(small.mean()),
        "that big ones cover": float(big.mean()),
        "big covers more": float((big > small).mean()),
    }


@torch.no_grad()
def measure_scorer(folder: Path) -> dict[str, float]:
    from transformers import AutoModel, AutoTokenizer

    from tools.pocket import scorer

    model = AutoModel.from_pretrained(folder / "scorer").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "scorer")
    found = scorer.report(scorer.Features(model, tokenizer))
    return {f"scorer on fresh renders: {name}": value for name, value in found.items()}


@torch.no_grad()
def measure_vae(pipeline: StableDiffusionPipeline, pictures: np.ndarray) -> float:
    made = []
    for real in as_tensor(pictures).split(20):
        made.append(pipeline.vae.decode(pipeline.vae.encode(real).latent_dist.mean).sample)
    return psnr_db(torch.cat(made), as_tensor(pictures))


def crops_of(folder: Path, count: int = SCENES) -> np.ndarray:
    """Return random crops of the photographs below a folder."""
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in (".jpg", ".png"))
    if not files:
        raise SystemExit(
            f"No photos below {folder} (found 0 .jpg or .png files, need at least 1). "
            "Give another --photos, or leave it out."
        )
    photos = [Image.open(f).convert("RGB") for f in files]
    for photo in photos:
        photo.thumbnail((512, 512))
    rng = np.random.default_rng(6)
    return np.stack([data.random_crop(rng, photos[i % len(photos)]) for i in range(count)])


def seconds(work: Callable[[], object], times: int) -> list[float]:
    """Return how long each of several calls takes, one after the other."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken


def measure_parts(
    pipeline: StableDiffusionPipeline, folder: Path, crops: np.ndarray | None, count: int
) -> dict[str, float]:
    """Return all that does not depend on the number of steps."""
    table = {
        f"judge on fresh renders: {name}": value
        for name, value in judge.accuracy(judge.load()).items()
    }
    if (folder / "scorer").exists():  # a folder to try may have none yet
        table |= measure_scorer(folder)
    table |= measure_size(pipeline, count, STEPS)
    rng = np.random.default_rng(8)
    scenes = [world.paint(rng, world.random_scene(rng)) for _ in range(SCENES)]
    table["decoder, scenes, dB"] = measure_vae(pipeline, np.stack(scenes))
    if crops is not None:
        table["decoder, photo crops, dB"] = measure_vae(pipeline, crops)
    samples.draw(pipeline, ["a cat"], STEPS)
    drawn = seconds(lambda: samples.draw(pipeline, ["a cat on a blue background"], STEPS), DRAWS)
    table[f"a picture of {STEPS} steps, median of {DRAWS}, s"] = statistics.median(drawn)
    table["MB"] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--photos", type=Path, help="folder of real photographs, for the decoder")
    parser.add_argument("--pictures", type=int, default=200, help="of each kind of prompt")
    parser.add_argument("--steps", type=int, nargs="+", default=[STEPS], help="a column for each")
    parser.add_argument("--grid", type=Path, help="where to write some pictures of each kind")
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args()
    if o.grid:  # what cannot be written is found out before the work, not after it
        if o.grid.suffix.lower() not in Image.registered_extensions():
            parser.error(f"--grid {o.grid}: no picture's name ends so; give one like grid.png")
        o.grid.parent.mkdir(parents=True, exist_ok=True)
    crops = crops_of(o.photos) if o.photos else None
    loads = seconds(lambda: load(o.model), LOADS)
    pipeline = load(o.model)
    judge.load()  # where there is none, that is said before anything is drawn
    columns: dict[int, dict[str, float]] = {}
    for steps in o.steps:
        columns[steps], drawn = measure_prompts(pipeline, o.pictures, steps)
    parts = measure_parts(pipeline, o.model, crops, max(4, o.pictures // 8))
    parts |= {"first load, libraries imported, s": loads[0], "later ones": min(loads[1:])}
    if o.grid:  # of the last number of steps
        pictures = np.concatenate([some[:COLUMNS] for some, _ in drawn])
        prompts = [prompt for _, some in drawn for prompt in some[:COLUMNS]]
        samples.sheet(pictures, prompts, min(COLUMNS, o.pictures)).save(o.grid)
    print(json.dumps({"steps": columns, "parts": parts}) if o.json else table(columns, parts))


def table(columns: dict[int, dict[str, float]], parts: dict[str, float]) -> str:
    """Markdown: accuracy at each number of steps with its target, then the rest."""
    lines = [f"| by the judge | {' | '.join(f'{s} steps' for s in columns)} | target |"]
    lines.append("|---" * (2 + len(columns)) + "|")
    for name, target in ROWS.values():
        cells = [f"{column[name]:.3f}" for column in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {'' if target is None else target} |")
    lines += ["", "| the rest | |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in parts.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
