"""Measure changes by voice: whether what was asked for is done, and whether the rest stays.

    python -m benchmarks.changes [--count 200] [--steps 8] [--keep FILE [--seconds 300]]

Each change is a sentence ("make the background green") after a picture of the pocket model. It is
drawn with another seed, from the same noise, and as the library does: from the same noise, keeping
what the change does not speak of (`s2i_lib.drawing.keeping`).

Done is judged by the border (grounds), the object's pixels (colours, sizes) and the shipped scorer:
a new noun is among its first five and before the old one; a number is that of the pieces which hang
together, so of things that touch it is refused. The rest is what the changed words do not speak of:
of a new ground the pixels that show the object before and after, else those that show the ground
before and after.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL.Image import Image, fromarray
from scipy.ndimage import label

from s2i_lib.conversation.reading import find_what_stays
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.keeping import Kept
from s2i_lib.drawing.sampling import DrawOptions, decode, sample_latents
from s2i_lib.models.encoders import load_clip
from s2i_lib.models.loading import Model, load
from s2i_lib.models.registry import REGISTRY, known_words
from s2i_lib.speech.changes import read_change
from s2i_lib.speech.commands import Change
from s2i_lib.speech.phrases import parse_head, split_parts
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.templates import article_for
from s2i_lib.storage.layout import open_drive
from tools.pocket import world

WAYS = ("another seed", "same noise", "the rest kept")
BATCH = 10
BRIGHT = ("red", "yellow", "green", "blue", "purple", "pink", "orange")


@dataclass(frozen=True)
class Case:
    """One change: what it is, the prompt before, what is said, and what is asked for."""

    kind: str
    before: str
    said: str
    change: Change
    wanted: str

    @property
    def after(self) -> str:
        return self.change.text


def make_cases(count: int, seed: int = 5) -> list[Case]:
    """Return changes of five kinds, mixed; each prompt is what the library makes of the words."""
    words = known_words(REGISTRY["pocket"])
    assert words is not None
    rng = np.random.default_rng(seed)
    nouns = [noun for noun in world.NOUNS if noun not in words["colours"]]
    grounds = [c for c in words["colours"] if c not in ("grey", "violet")]
    kinds = ["ground"] * 3 + ["colour"] * 2 + ["replace"] * 3 + ["size", "count"]
    cases = []
    for i in range(count):
        kind = kinds[i % len(kinds)]
        noun, other = rng.choice(nouns, 2, replace=False)
        ground, to = rng.choice(grounds, 2, replace=False)
        one, another = rng.choice([c for c in BRIGHT if c != ground], 2, replace=False)
        n = str(rng.choice(["two", "three"]))
        size = str(rng.choice(["bigger", "smaller"]))
        what = f"{one} {noun}" if kind == "colour" else str(noun)
        before = f"{article_for(what)} {what} on {article_for(ground)} {ground} background"
        said, wanted = {
            "ground": (f"make the background {to}", to),
            "colour": (f"make it {another}", another),
            "replace": (f"make it {article_for(other)} {other}", other),
            "size": (f"make it {size}", size),
            "count": (f"make it {n}", n),
        }[kind]
        change = read_change(said, before)
        assert change is not None, (before, said)
        cases.append(Case(kind, before, said, change, str(wanted)))
    return cases


def draw_ways(model: Model, cases: list[Case], first_seed: int, steps: int) -> np.ndarray:
    """Return the pictures before and after, shape = (1 + ways, len(cases), side, side, 3)."""
    options = DrawOptions(steps=steps)
    seeds = list(range(first_seed, first_seed + len(cases)))

    def draw_all(texts: list[str], seeds: list[int]) -> list[Image]:
        return decode(model, sample_latents(model, [*map(Prompt, texts)], options, seeds))

    after = [case.after for case in cases]
    before = draw_all([case.before for case in cases], seeds)
    ways = [before, draw_all(after, [seed + 10**6 for seed in seeds]), draw_all(after, seeds), []]
    for case, seed, image, same in zip(cases, seeds, before, ways[2], strict=True):
        stays = find_what_stays(case.change, case.before)
        if stays:
            one = replace(options, seed=seed)
            [picture] = draw(model, case.after, one, kept=[Kept(image, stays)])
        ways[3].append(picture.image if stays else same)
    return np.stack([np.stack([np.asarray(image) for image in way]) for way in ways])


# --- what came of it ----------------------------------------------------------------------------


def border_median(picture: np.ndarray) -> np.ndarray:
    border = np.ones(picture.shape[:2], bool)
    border[3:-3, 3:-3] = False
    return np.median(picture[border].astype(np.float32), 0)


def object_of(picture: np.ndarray) -> np.ndarray:
    """Return which pixels differ from the border's median colour."""
    return np.abs(picture.astype(np.float32) - border_median(picture)).sum(-1) > 60


def count_pieces(there: np.ndarray) -> int:
    """Count the pieces of a mask, but for crumbs: what hangs together is one."""
    pieces, count = label(there)
    sizes = np.bincount(pieces.ravel())[1:] if count else np.zeros(1)
    return int((sizes > sizes.max() / 4).sum())


class Verdicts:
    """Says of a picture whether a change was done."""

    def __init__(self, model: Model) -> None:
        words = known_words(model.base)
        assert words is not None and model.base.scorer is not None
        self.colours = {n: np.array(c) for n, c in words["colours"].items()
                        if n not in ("grey", "violet")}  # fmt: skip
        self.clip = load_clip(model.base.scorer, open_drive())

    def nearest(self, pixels: np.ndarray) -> np.ndarray:
        table = np.stack(list(self.colours.values()))
        return np.square(pixels[:, None].astype(np.float32) - table).sum(-1).argmin(1)

    def is_done(self, case: Case, before: np.ndarray, after: np.ndarray) -> bool:
        there, was = object_of(after), object_of(before)
        names = list(self.colours)
        if case.kind == "ground":
            return names[self.nearest(border_median(after)[None])[0]] == case.wanted
        if case.kind == "colour":  # of the object's bright pixels most are of it
            found = [names[i] for i in self.nearest(after[there])]
            bright = [name for name in found if name in BRIGHT]
            return bool(bright) and max(set(bright), key=bright.count) == case.wanted
        if case.kind == "size":
            grown = there.mean() - was.mean()
            return bool(grown > 0) == (case.wanted == "bigger") and abs(grown) > 0.01
        if case.kind == "count":
            return count_pieces(there) == ("one", "two", "three").index(case.wanted) + 1
        noun = parse_head(split_parts(case.before)[1][0].text).noun
        order = self.order(after, [world.with_article(one) for one in world.NOUNS])
        place = {world.NOUNS[i]: at for at, i in enumerate(order)}
        return place[case.wanted] < min(5, place[noun])

    def order(self, picture: np.ndarray, texts: list[str]) -> list[int]:
        """Return the places of texts, the likeliest first."""
        likeness = self.clip.images([fromarray(picture)]) @ self.clip.texts(texts).T
        return likeness[0].argsort()[::-1].tolist()


def square_error(case: Case, one: np.ndarray, other: np.ndarray) -> float | None:
    """Return the mean square error of the rest; None where there is none."""
    first, second = object_of(one), object_of(other)
    rest = first & second if case.kind == "ground" else ~(first | second)
    if rest.mean() < 0.02:
        return None
    difference = one[rest].astype(np.float32) - other[rest]
    return float(np.square(difference).mean())


def report(cases: list[Case], images: np.ndarray, verdicts: Verdicts) -> list[str]:
    """Return the table: share done and PSNR of the rest, for each way and kind."""
    done: dict[tuple[str, str], list[bool]] = defaultdict(list)
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    for i, case in enumerate(cases[: images.shape[1]]):
        for way, after in zip(WAYS, images[1:, i], strict=False):
            is_done = verdicts.is_done(case, images[0, i], after)
            error = square_error(case, images[0, i], after)
            for kind in (case.kind, "all"):
                done[kind, way].append(is_done)
                if error is not None:
                    errors[kind, way].append(error)
    lines = []
    for kind in dict.fromkeys(kind for kind, _ in done):
        base = np.median(errors[kind, WAYS[0]])
        for way in WAYS[: len(images) - 1]:
            error = max(float(np.median(errors[kind, way])), 1e-3)
            psnr = 10 * np.log10(255**2 / error)
            share, n = np.mean(done[kind, way]), len(done[kind, way])
            lines.append(
                f"| {kind} | {way} | {n} | {share:.0%} | {psnr:.1f} | {base / error:.1f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="number of changes")
    parser.add_argument("--steps", type=int, default=REGISTRY["pocket"].steps)
    parser.add_argument("--keep", type=Path, help="an .npz of the pictures, to look at and go on")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop drawing after")
    o = parser.parse_args()
    cases, model, made = make_cases(o.count), load("pocket", drive=open_drive()), []
    if o.keep and o.keep.exists():
        with np.load(o.keep) as kept:
            made.append(kept["images"])
    began = time.perf_counter()
    while (at := sum(images.shape[1] for images in made)) < o.count:
        if time.perf_counter() - began > o.seconds:
            break
        made.append(draw_ways(model, cases[at : at + BATCH], at, o.steps))
        if o.keep:
            np.savez(o.keep, images=np.concatenate(made, axis=1))
    if at < o.count:
        print(f"{at} of {o.count} changes are drawn; the same command goes on.")
        return
    print("| change | drawn | n | done | PSNR of the rest, dB | nearer than another seed, times |")
    print("|---|---|---|---|---|---|")
    print("\n".join(report(cases, np.concatenate(made, axis=1), Verdicts(model))))


if __name__ == "__main__":
    main()
