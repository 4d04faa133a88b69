"""Measure changes by voice: whether what was asked for is done, and whether the rest stays.

    python -m benchmarks.changes [--count 200] [--steps 10] [--blend] [--keep FILE]

Each change is a sentence ("make the background green") after a picture of the pocket model. It is
drawn with another seed and from the same noise; with --blend also from the same noise with
everything outside of a mask taken from the last picture at every step ("local blend"). One mask is
where the words that changed look (cross-attention; Hertz et al. 2022, arXiv:2208.01626, section
4), the other where the two prompts' predictions differ (Couairon et al. 2022, arXiv:2210.11427).

Done is judged by the border (grounds), the object's pixels (colours, sizes) and the shipped scorer:
a new noun is among its first five and before the old one, a number is the likeliest of three. The
rest is what the changed words do not speak of: of a new ground the pixels that show the object
before and after, else those that show the ground before and after.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s2i_lib.drawing.attention import split_words
from s2i_lib.drawing.sampling import decode, encode_prompts, initial_noise
from s2i_lib.models.encoders import load_clip
from s2i_lib.models.loading import Model, load
from s2i_lib.models.registry import REGISTRY, known_words
from s2i_lib.models.schedulers import USUAL, make_scheduler
from s2i_lib.speech.changes import read_change
from s2i_lib.speech.phrases import parse_head, split_parts
from s2i_lib.speech.templates import article_for
from s2i_lib.storage.layout import open_drive
from tools.pocket import world

WAYS = ("another seed", "same noise", "blend by attention", "blend by prediction")
THRESHOLD = 0.3  # of a map from 0 to 1; LocalBlend's, whose maps are divided by their largest
START = 0.2  # share of the steps before blending begins, as there
BATCH = 10
BRIGHT = ("red", "yellow", "green", "blue", "purple", "pink", "orange")


@dataclass(frozen=True)
class Case:
    """One change: what it is, the prompts before and after, and what is asked for."""

    kind: str
    before: str
    said: str
    after: str
    wanted: str


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
        cases.append(Case(kind, before, said, change.text, str(wanted)))
    return cases


def places_of(model: Model, text: str, other: str) -> list[int]:
    """Return the tokens of the words that ``other`` does not have, with the noun they describe."""
    _, parts = split_parts(text)
    ground = parts[1].text.split() if len(parts) > 1 else []
    new = [word for word in text.split() if word not in other.split()]
    if any(word in ground for word in new):
        wanted = {word for word in ground if word not in ("on", "a", "an")}
    else:
        wanted = {*new, *parse_head(parts[0].text).noun.split()}
    words = split_words(model.pipeline.tokenizer, text, model.base.token_limit)
    return [place for word, places in words if word in wanted for place in places]


class Attention:
    """Reads a batch's cross-attention: shape = (batch, tokens, side, side)."""

    def __init__(self, unet: Any) -> None:
        from diffusers.models.attention_processor import Attention as Layer

        self.seen: list[torch.Tensor] = []
        for layer in unet.modules():
            if isinstance(layer, Layer) and layer.is_cross_attention:
                layer.set_processor(self._reader(layer.get_processor()))

    def _reader(self, processor: Any) -> Callable[..., Any]:
        def read(
            attn: Any, hidden: Any, encoder_hidden_states: Any = None, mask: Any = None
        ) -> Any:
            query = attn.head_to_batch_dim(attn.to_q(hidden))
            key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
            shares = attn.get_attention_scores(query, key).unflatten(0, (len(hidden), attn.heads))
            self.seen.append(shares.mean(dim=1))
            return processor(attn, hidden, encoder_hidden_states, mask)

        return lambda attn, hidden, encoder_hidden_states=None, attention_mask=None, **_: read(
            attn, hidden, encoder_hidden_states, attention_mask
        )

    def take(self) -> torch.Tensor:
        maps = []
        for layer in self.seen:
            side = round(layer.shape[1] ** 0.5)
            square = layer.transpose(1, 2).unflatten(2, (side, side))
            maps.append(torch.nn.functional.interpolate(square, size=8, mode="bilinear"))
        self.seen.clear()
        return torch.stack(maps).mean(dim=0)


def as_mask(maps: torch.Tensor) -> torch.Tensor:
    """Return where maps, shape = (n, side, side), reach the threshold, as (n, 1, side, side)."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return ((maps - low) / (high - low) > THRESHOLD).float()[:, None]


def draw_ways(
    model: Model, attention: Attention | None, cases: list[Case], first_seed: int, steps: int
) -> np.ndarray:
    """Return the pictures before and after, shape = (1 + ways, len(cases), side, side, 3).

    Without ``attention`` nothing is blended.
    """
    n, guidance = len(cases), model.base.guidance_scale
    schedulers = make_scheduler(model, USUAL)
    schedulers.set_timesteps(steps)
    seeds = list(range(first_seed, first_seed + n))
    noise, new = initial_noise(model, seeds), initial_noise(model, [s + 10**6 for s in seeds])
    latents = torch.cat([noise, new, noise, *([noise, noise] if attention else [])])
    before = encode_prompts(model, [case.before for case in cases])
    after = encode_prompts(model, [case.after for case in cases])
    texts = torch.cat([before, *[after] * (len(latents) // n - 1)])
    empty = encode_prompts(model, [model.base.negative]).expand(len(texts), -1, -1)
    old = [places_of(model, case.before, case.after) for case in cases]
    came = [places_of(model, case.after, case.before) for case in cases]
    sums: dict[str, Any] = {"attention": 0.0, "prediction": 0.0}

    def looks(maps: torch.Tensor, places: list[list[int]]) -> torch.Tensor:
        return torch.stack([m[p].sum(dim=0) if p else m[:1].sum(dim=0) * 0
                            for m, p in zip(maps, places, strict=True)])  # fmt: skip

    with torch.inference_mode():
        for number, t in enumerate(schedulers.timesteps, start=1):
            without = model.pipeline.unet(latents, t, encoder_hidden_states=empty).sample
            if attention:
                attention.take()
            given = model.pipeline.unet(latents, t, encoder_hidden_states=texts).sample
            predicted = without + guidance * (given - without)
            latents = schedulers.step(predicted, t, latents).prev_sample
            if attention is None:
                continue
            maps, parts = attention.take().split(n), predicted.split(n)
            there = looks(maps[0], old)
            sums["attention"] = sums["attention"] + torch.maximum(there, looks(maps[3], came))
            sums["prediction"] = sums["prediction"] + (parts[4] - parts[0]).abs().mean(dim=1)
            if number > START * steps:
                each = list(latents.split(n))
                for i, kind in ((3, "attention"), (4, "prediction")):
                    mask = as_mask(sums[kind])
                    each[i] = mask * each[i] + (1 - mask) * each[0]
                latents = torch.cat(each)
    images = np.stack([np.asarray(image) for image in decode(model, latents)])
    return images.reshape(-1, n, *images.shape[1:])


# --- what came of it ----------------------------------------------------------------------------


def border_median(picture: np.ndarray) -> np.ndarray:
    border = np.ones(picture.shape[:2], bool)
    border[3:-3, 3:-3] = False
    return np.median(picture[border].astype(np.float32), 0)


def object_of(picture: np.ndarray) -> np.ndarray:
    """Return which pixels differ from the border's median colour."""
    return np.abs(picture.astype(np.float32) - border_median(picture)).sum(-1) > 60


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
        noun = parse_head(split_parts(case.before)[1][0].text).noun
        if case.kind == "count":
            texts = [f"{n} {world.plural(noun)}" for n in ("two", "three")]
            texts.append(world.with_article(noun))
            return ("two", "three", "one")[self.order(after, texts)[0]] == case.wanted
        order = self.order(after, [world.with_article(one) for one in world.NOUNS])
        place = {world.NOUNS[i]: at for at, i in enumerate(order)}
        return place[case.wanted] < min(5, place[noun])

    def order(self, picture: np.ndarray, texts: list[str]) -> list[int]:
        """Return the places of texts, the likeliest first."""
        from PIL import Image

        likeness = self.clip.images([Image.fromarray(picture)]) @ self.clip.texts(texts).T
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
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--blend", action="store_true", help="blend with the last picture, too")
    parser.add_argument("--keep", type=Path, help="an .npz of the pictures, to look at")
    o = parser.parse_args()
    cases, model, made = make_cases(o.count), load("pocket", drive=open_drive()), []
    attention = Attention(model.pipeline.unet) if o.blend else None
    for at in range(0, o.count, BATCH):
        made.append(draw_ways(model, attention, cases[at : at + BATCH], at, o.steps))
        if o.keep:
            np.savez(o.keep, images=np.concatenate(made, axis=1),
                     cases=json.dumps([vars(case) for case in cases]))  # fmt: skip
    print("| change | drawn | n | done | PSNR of the rest, dB | nearer than another seed, times |")
    print("|---|---|---|---|---|---|")
    print("\n".join(report(cases, np.concatenate(made, axis=1), Verdicts(model))))


if __name__ == "__main__":
    main()
