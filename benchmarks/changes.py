"""Measure changes by voice: whether what was asked for is done, and whether the rest stays.

    python -m benchmarks.changes [--count 200] [--steps 8] [--keep FILE [--seconds 300]]

Each change is a sentence ("make the background green") after a picture of the pocket model. It is
drawn with another seed, from the same noise, and as the library does: from the same noise, keeping
what the change does not speak of (`s2i_lib.drawing.keeping`).

Done is judged as in benchmarks/pocket.py (what it needs stands there): a ground by the border,
sizes by how much stands out from the ground, all else by the judge. The rest is what the changed
words do not speak of: of a new ground or place the pixels that show the object, else those that
show the ground before and after. Of who puts something on, or takes it off, the lower half is
looked at, too: what is worn here is worn on the head.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL.Image import Image
from scipy.ndimage import binary_erosion

from benchmarks.pocket import Asked, object_of, shows_on
from s2i_lib.conversation.reading import find_what_stays
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.keeping import Kept
from s2i_lib.drawing.sampling import DrawOptions, decode, sample_latents
from s2i_lib.models.digests import fingerprint
from s2i_lib.models.loading import Model, load
from s2i_lib.models.registry import REGISTRY
from s2i_lib.speech.changes import read_change
from s2i_lib.speech.commands import Change
from s2i_lib.speech.prompt import Prompt
from s2i_lib.storage.layout import open_drive
from tools.pocket import dress, judge, words

WAYS = ("another seed", "same noise", "the rest kept")
BATCH = 10
KINDS = (
    "ground", "place", "colour", "replace", "worn", "add", "size", "ground", "place", "colour",
    "replace", "worn", "add", "count", "ground", "place", "colour", "replace", "take off", "remove",
)  # fmt: skip
NOUNS = [n for n in words.COUNTABLE if n not in words.COLOURS]
WORN = [a.name for a in words.ACCESSORIES if a.spot in ("head", "eyes", "ears")]


@dataclass(frozen=True)
class Case:
    """One change: its kind, the prompt before, what is said, and what is asked for."""

    kind: str
    before: str
    said: str
    change: Change
    wanted: Asked
    """The prompt after, and what the judge has to see."""
    gone: str = ""
    """The second noun that is taken out."""


def make_cases(count: int, seed: int = 5) -> list[Case]:
    """Return changes of `KINDS`, mixed; each prompt is what the library makes of the words."""
    rng = np.random.default_rng(seed)
    return [make_case(KINDS[i % len(KINDS)], rng) for i in range(count)]


def make_case(kind: str, rng: np.random.Generator) -> Case:
    """Return a change of a kind, drawn by lot, of a picture on a plain ground.

    Neither thing has the ground's colour, or it would not be seen.
    """

    def one_of(options: Sequence[str], but: Sequence[str] = ()) -> str:
        return str(rng.choice([option for option in options if option not in but]))

    among = {"colour": words.PAINTABLE, "worn": dress.WEARERS, "take off": dress.WEARERS}
    noun = one_of([n for n in among.get(kind, NOUNS) if n in NOUNS])
    other = one_of(NOUNS, but=[noun, *words.ACCESSORY_NAMES])  # "with a balloon" may be held
    grounds = [c for c in words.COLOUR_NAMES if shows_on(noun, c) and shows_on(other, c)]
    ground = one_of(grounds)
    colour = one_of(words.COLOUR_NAMES, but=[ground])
    another = one_of(grounds, but=[ground, colour])
    worn, place = one_of(WORN), one_of(words.PLACE_NAMES)
    number, size = one_of(words.COUNTS[1:]), one_of(["bigger", "smaller"])
    wearing = words.way_of_wearing(worn)
    head = words.with_article(f"{colour} {noun}" if kind == "colour" else noun)
    more = {"take off": f" {wearing}", "remove": f" with {words.with_article(other)}"}.get(kind, "")
    before = f"{head}{more} {words.on_ground(ground)}"
    said, wanted = {
        "ground": (f"make the background {another}", {"ground": another}),
        "place": (f"put it {words.BY_PLACE[place].ways[0]}", {"place": place}),
        "colour": (f"make it {another}", {"colour": another}),
        "replace": (f"make it {words.with_article(other)}", {"noun": other}),
        "worn": (wearing, {"accessory": worn}),
        "take off": (f"take off the {worn}", {"noun": noun}),
        "add": (f"add {words.with_article(other)}", {"noun": noun, "second": other}),
        "remove": (f"remove the {other}", {"noun": noun}),
        "size": (f"make it {size}", {}),
        "count": (f"make it {number}", {"count": number}),
    }[kind]
    change = read_change(said, before)
    assert change is not None, (before, said)
    gone = other if kind == "remove" else ""
    return Case(kind, before, said, change, Asked(change.text, **wanted), gone)


def describe(model: Model, steps: int, cases: list[Case]) -> list[str]:
    """Say what pictures of some cases are drawn by: model, steps, and what was asked for."""
    return [fingerprint(model.pipeline), str(steps), *(f"{c.before}: {c.said}" for c in cases)]


def read_kept(file: Path, wanted: list[str]) -> np.ndarray:
    """Return the pictures that were kept, shape = (1 + ways, cases so far, side, side, 3).

    ``wanted`` is what `describe` says of all cases; pictures may be kept of fewer, or of more.
    """
    with np.load(file) as kept:
        images, drawn = kept["images"], kept["drawn"].tolist() if "drawn" in kept else []
    if not drawn or drawn[: len(wanted)] != wanted[: len(drawn)]:
        raise SystemExit(
            f"{file} has pictures of another model, of other changes or with other steps. "
            "Delete it, or give another --keep."
        )
    return images


def draw_ways(model: Model, cases: list[Case], first_seed: int, steps: int) -> np.ndarray:
    """Return the pictures before and after, shape = (1 + ways, len(cases), side, side, 3)."""
    options = DrawOptions(steps=steps)
    seeds = list(range(first_seed, first_seed + len(cases)))

    def draw_all(texts: list[str], seeds: list[int]) -> list[Image]:
        return decode(model, sample_latents(model, [*map(Prompt, texts)], options, seeds))

    after = [case.wanted.prompt for case in cases]
    before = draw_all([case.before for case in cases], seeds)
    ways = [before, draw_all(after, [seed + 10**6 for seed in seeds]), draw_all(after, seeds), []]
    for case, seed, image, same in zip(cases, seeds, before, ways[2], strict=True):
        stays = find_what_stays(case.change, case.before)
        if stays:
            one = replace(options, seed=seed)
            [picture] = draw(model, case.wanted.prompt, one, kept=[Kept(image, stays)])
        ways[3].append(picture.image if stays else same)
    return np.stack([np.stack([np.asarray(image) for image in way]) for way in ways])


# --- what came of it ----------------------------------------------------------------------------


def is_done(case: Case, before: np.ndarray, after: np.ndarray, seen: judge.Seen) -> bool:
    """Say whether the picture after has what was asked for."""
    if case.kind == "size":
        grown = object_of(after).mean() - object_of(before).mean()
        return bool(grown > 0) == (case.said == "make it bigger") and abs(grown) > 0.01
    if case.kind == "take off" and seen.accessory:
        return False
    if case.gone and case.gone in seen.pair:
        return False
    return all(case.wanted.rights(after, seen).values())


def find_rests(case: Case, one: np.ndarray, other: np.ndarray) -> dict[str, np.ndarray]:
    """Return the pixels that the change does not speak of, by the row that they count for."""
    first, second = object_of(one), object_of(other)
    if case.kind == "ground":
        return {case.kind: first & second}
    if case.kind == "place":  # what is drawn there has no plain ground to tell it from
        return {case.kind: binary_erosion(first, iterations=2)}
    rests = {case.kind: ~(first | second)}
    if case.kind in ("worn", "take off"):
        rows = np.flatnonzero(first.any(1))
        middle = (rows[0] + rows[-1]) // 2 if len(rows) else 0
        below = np.arange(len(first))[:, None] > middle
        rests[f"{case.kind}: the lower half"] = first & second & below
    return rests


def square_error(rest: np.ndarray, one: np.ndarray, other: np.ndarray) -> float | None:
    """Return the mean square error of the rest; None where there is hardly any."""
    if rest.mean() < 0.02:
        return None
    difference = one[rest].astype(np.float32) - other[rest]
    return float(np.square(difference).mean())


def report(cases: list[Case], images: np.ndarray) -> list[str]:
    """Return the table: share done and PSNR of the rest, for each way and kind."""
    done: dict[tuple[str, str], list[bool]] = defaultdict(list)
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    who = judge.load()
    for way, afters in zip(WAYS, images[1:], strict=True):
        for case, before, after, seen in zip(
            cases, images[0], afters, who.see(afters), strict=True
        ):
            is_right = is_done(case, before, after, seen)
            for row, rest in find_rests(case, before, after).items():
                error = square_error(rest, before, after)
                for kind in (row, "all") if row == case.kind else (row,):
                    done[kind, way].append(is_right)
                    if error is not None:
                        errors[kind, way].append(error)
    lines = []
    for kind in dict.fromkeys(kind for kind, _ in done):
        base = np.median(errors[kind, WAYS[0]])
        for way in WAYS:
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
    judge.load()  # where there is none, that is said before anything is drawn
    if o.keep and o.keep.exists():
        made.append(read_kept(o.keep, describe(model, o.steps, cases)))
    began = time.perf_counter()
    while (at := sum(images.shape[1] for images in made)) < o.count:
        if time.perf_counter() - began > o.seconds:
            break
        made.append(draw_ways(model, cases[at : at + BATCH], at, o.steps))
        if o.keep:
            drawn = describe(model, o.steps, cases[: at + BATCH])
            np.savez(o.keep, images=np.concatenate(made, axis=1), drawn=drawn)
    if at < o.count:
        print(f"{at} of {o.count} changes are drawn; the same command goes on.")
        return
    print("| change | drawn | n | done | PSNR of the rest, dB | nearer than another seed, times |")
    print("|---|---|---|---|---|---|")
    print("\n".join(report(cases, np.concatenate(made, axis=1)[:, : o.count])))


if __name__ == "__main__":
    main()
