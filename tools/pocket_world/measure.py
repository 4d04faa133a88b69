"""Measure what the model draws against what was asked for, by the judge, and print a table.

    python -m tools.pocket_world.measure [--unet FOLDER] [--pictures 100] [--sheet OUT.png]

All prompts but those of the counts ask for pairs that were never trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from tools.pocket_world import judge, samples, words
from tools.pocket_world.training import work_folder


def background_of(picture: np.ndarray) -> str:
    """Return the name of the colour that is nearest to the median of the picture's border."""
    border = np.ones(picture.shape[:2], bool)
    border[5:-5, 5:-5] = False
    median = np.median(picture[border].astype(np.float32), 0)
    distances = {n: float(np.square(median - c).sum()) for n, c in words.COLOURS.items()}
    return min(distances, key=distances.__getitem__)


def asked(relation: str, count: int, among: list[str] | None = None) -> list[tuple[str, str]]:
    """Return `count` held-out pairs of a relation, gone through again when they end."""
    pairs = [(n, o) for n, o in words.held_out(relation) if not among or n in among]
    np.random.default_rng(3).shuffle(pairs)
    return [pairs[i % len(pairs)] for i in range(count)]


def share(found: list, wanted: list) -> float:
    return float(np.mean([f == w for f, w in zip(found, wanted, strict=True)]))


def measure(pipe, count: int, steps: int) -> tuple[dict[str, float], list[tuple]]:
    """Return the table and what was drawn for it: (pictures, prompts) of each row."""
    who = judge.load()
    living = [t.noun for t in words.THINGS if t.kind in words.LIVING]
    paintable = [t.noun for t in words.THINGS if t.part != "-"]
    table, drawn = {}, []

    def draw(prompts: list[str]) -> tuple[np.ndarray, list[judge.Seen]]:
        pictures = samples.draw(pipe, prompts, steps)
        drawn.append((pictures, prompts))
        return pictures, who.see(pictures)

    pairs = asked("on", count)
    pictures, said = draw([words.on_background(n, c) for n, c in pairs])
    table["noun, held-out grounds"] = share([one.noun for one in said], [n for n, _ in pairs])
    table["plain background"] = share([background_of(p) for p in pictures], [c for _, c in pairs])
    pairs = asked("at", count)
    _, said = draw([words.at_place(n, p) for n, p in pairs])
    table["noun, held-out places"] = share([one.noun for one in said], [n for n, _ in pairs])
    table["place"] = share([one.place for one in said], [p for _, p in pairs])
    pairs = asked("wearing", count, living)
    _, said = draw([words.wearing(n, a) for n, a in pairs])
    table["noun that wears something"] = share([one.noun for one in said], [n for n, _ in pairs])
    table["accessory"] = share([one.accessory for one in said], [a for _, a in pairs])
    pairs = asked("in", count, paintable)
    grounds = ["white" if c != "white" else "green" for _, c in pairs]
    prompts = [words.on_background(f"{c} {n}", g) for (n, c), g in zip(pairs, grounds, strict=True)]
    _, said = draw(prompts)
    table["colour of the noun"] = share([one.colour for one in said], [c for _, c in pairs])
    rng = np.random.default_rng(4)
    both = [tuple(rng.choice(living, 2, replace=False)) for _ in range(count)]
    prompts = [f"{words.with_article(a)} and {words.with_article(b)}" for a, b in both]
    _, said = draw(prompts)
    table["both of two nouns"] = share([set(one.pair) for one in said], [set(w) for w in both])
    wanted = [words.COUNTS[i % 3] for i in range(count)]
    nouns = [str(n) for n in rng.choice(living, count)]
    prompts = [
        words.with_article(n) if c == "one" else f"{c} {words.plural(n)}"
        for n, c in zip(nouns, wanted, strict=True)
    ]
    _, said = draw(prompts)
    table["count"] = share([one.count for one in said], wanted)
    return table, drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unet", type=Path, default=work_folder() / "unet_trunk")
    parser.add_argument("--pictures", type=int, default=100, help="for each row of the table")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--sheet", type=Path, help="where to write some of the pictures")
    o = parser.parse_args()
    torch.set_num_threads(1)
    table, drawn = measure(samples.as_the_library(samples.parts(o.unet)), o.pictures, o.steps)
    for name, value in table.items():
        print(f"| {name} | {value:.3f} |")
    if o.sheet:
        pictures = np.concatenate([p[:16] for p, _ in drawn])
        samples.sheet(pictures, [p for _, ps in drawn for p in ps[:16]], 16).save(o.sheet)


if __name__ == "__main__":
    main()
