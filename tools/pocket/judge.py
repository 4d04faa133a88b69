"""Train the judge: a plain classifier that says what a picture shows, and no part of the model.

It sees renders only, never a held-out pair, and nothing that the model drew; the benchmark counts
its verdicts. Answers: the nouns that are there, how many, the place, what is worn, and the first
noun's colour.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tools.pocket import data, words, world
from tools.pocket.training import (
    as_tensor,
    cosine,
    load_state,
    save_state,
    steps_asked,
    work_folder,
)

STEPS, BATCH, PEAK_LR = 11_500, 64, 1.5e-3
SEEN_PX = 128  # side of the pictures that it sees; at 64 it missed one in five of the things worn
WORN = 0.5  # of a batch, beside what chance brings: one scene in six has something worn
OVERLAP = 1  # columns of features beyond the middle that a half of the picture has
ANSWERS = {
    "noun": words.NOUNS,
    "count": words.COUNTS,
    "place": ["", *words.PLACE_NAMES],
    "accessory": ["", *words.ACCESSORY_NAMES],
    "colour": words.COLOUR_NAMES,
}
LAYERS = ((32, 2), (64, 2), (96, 1), (160, 2), (256, 1), (256, 1))  # width, stride


@dataclass(frozen=True)
class Seen:
    """What the judge sees in a picture."""

    noun: str
    """Of the whole picture, as where there is one thing."""
    pair: tuple[str, str]
    """Of its left and its right half, as where there are two."""
    count: str
    place: str
    accessory: str
    colour: str


def _pooled(features: torch.Tensor) -> torch.Tensor:
    """Return the largest values in each quarter, and the means: (n, 5 * width)."""
    quarters = F.adaptive_max_pool2d(features, 2).flatten(1)
    return torch.cat([quarters, features.mean((2, 3))], 1)


class Judge(nn.Module):
    """Strided convolutions with batch normalisation; an answer to each question.

    Nouns are told of the whole, the left half and the right half, with the same weights: so what is
    learned from one thing in the middle tells two beside each other, too.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in = 3
        for width, stride in LAYERS:
            layers += [
                nn.Conv2d(width_in, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            width_in = width
        self.body = nn.Sequential(*layers)
        self.nouns = nn.Linear(width_in * 5, len(words.NOUNS))
        self.heads = nn.ModuleDict(
            {k: nn.Linear(width_in * 5, len(v)) for k, v in ANSWERS.items() if k != "noun"}
        )

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the logits of each answer for pictures in [-1, 1], (n, 3, SEEN_PX, SEEN_PX)."""
        found = self.body(pixels)
        middle, whole = found.shape[3] // 2, _pooled(found)
        parts = {
            "noun": whole,
            "left": _pooled(found[..., : middle + OVERLAP]),
            "right": _pooled(found[..., middle - OVERLAP :]),
        }
        nouns = {name: self.nouns(part) for name, part in parts.items()}
        return nouns | {name: head(whole) for name, head in self.heads.items()}

    @torch.no_grad()
    def see(self, pictures: np.ndarray) -> list[Seen]:
        """Say what some pictures show: uint8, (n, 128, 128, 3)."""
        made = self.eval()(resized(as_tensor(pictures), SEEN_PX))
        said = {
            name: [ANSWERS.get(name, words.NOUNS)[i] for i in logits.argmax(1).tolist()]
            for name, logits in made.items()
        }
        pairs = zip(said.pop("left"), said.pop("right"), strict=True)
        return [
            Seen(pair=pair, **dict(zip(said, rest, strict=True)))
            for pair, *rest in zip(pairs, *said.values(), strict=True)
        ]


def truths(scenes: list[dict]) -> dict[str, torch.Tensor]:
    """Return the right answers as class numbers, -100 where a question has none.

    Of nouns it is a row of shares: half and half where there are two.
    """
    shown = [world.shown_colour(_scene(s)) for s in scenes]
    asked = {
        # Of a pair, one of each, it would learn to call two that are alike "one".
        "count": ["" if s["second"] else words.COUNTS[s["count"] - 1] for s in scenes],
        "place": [s["place"] for s in scenes],
        "accessory": [s["accessory"] for s in scenes],
        "colour": ["none" if s["pattern"] else c for s, c in zip(scenes, shown, strict=True)],
    }
    nouns = torch.zeros(len(scenes), len(words.NOUNS))
    for row, scene in zip(nouns, scenes, strict=True):
        for noun in filter(None, (scene["noun"], scene["second"])):
            row[words.NOUNS.index(noun)] += 1 / (1 + bool(scene["second"]))
    return {"noun": nouns} | {
        name: torch.tensor([_number(ANSWERS[name], value) for value in values])
        for name, values in asked.items()
    }


def sides(scenes: list[dict], mirrored: np.ndarray) -> dict[str, torch.Tensor]:
    """Return which nouns are in the whole picture, its left and its right half; -100 where unsaid.

    The whole is asked where there is one kind of thing, its halves where there are two things.
    """
    nouns = np.array([words.NOUNS.index(s["noun"]) for s in scenes])
    others = [words.NOUNS.index(s["second"] or s["noun"]) for s in scenes]
    is_pair = np.array([bool(s["second"]) for s in scenes])
    is_two = is_pair | np.array([s["count"] == 2 for s in scenes])
    ends = np.stack([nouns, others])
    ends = np.where(mirrored, ends[::-1], ends)
    left, right = np.where(is_two, ends, -100)
    asked = {"noun": np.where(is_pair, -100, nouns), "left": left, "right": right}
    return {name: torch.tensor(numbers) for name, numbers in asked.items()}


def _number(options: list[str], value: str) -> int:
    return options.index(value) if value in options else -100


def _scene(record: dict) -> world.Scene:
    return world.Scene(**{k: v for k, v in record.items() if k not in ("caption", "plain")})


class Renders:
    """Shards of scenes with pixels, moved about and mirrored as they are taken."""

    def __init__(self, shards: Iterable[int], side: int):
        self.side = side
        loaded = [data.shard(number) for number in shards]
        self.pictures = [pictures for pictures, _ in loaded]
        self.records = [record for _, records in loaded for record in records]
        self.starts = np.cumsum([0, *(len(p) for p in self.pictures)])
        self.worn = np.flatnonzero([bool(record["accessory"]) for record in self.records])

    def batch(
        self,
        rng: np.random.Generator,
        size: int,
        worn: float = 0.0,
        device: torch.device | None = None,
    ) -> tuple[torch.Tensor, list[dict], np.ndarray]:
        """Return pictures in [-1, 1], jittered, what they show, and which ones are mirrored.

        In a share ``worn`` of them something is worn for certain.
        """
        chosen = rng.choice(len(self.records), size)
        certain = int(worn * size)
        chosen[:certain] = rng.choice(self.worn, certain)
        rows = []
        for i in chosen:
            shard = int(np.searchsorted(self.starts, i, side="right")) - 1
            rows.append(self.pictures[shard][i - self.starts[shard]])
        mirrored = rng.random(size) < 0.5
        pixels = resized(as_tensor(np.stack(rows), device), self.side)
        pixels = jitter(rng, pixels, mirrored)
        return pixels, [self.records[i] for i in chosen], mirrored


def resized(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Return pictures as small as judge and scorer see them: means of their pixels."""
    return F.adaptive_avg_pool2d(pixels, side)


def jitter(rng: np.random.Generator, pixels: torch.Tensor, mirrored: np.ndarray) -> torch.Tensor:
    """Turn, scale and shift each picture a little, mirror some; blur or add noise now and then.

    So that a verdict does not depend on where exactly things are, or on how cleanly drawn.
    """
    n = len(pixels)
    angle, scale = rng.uniform(-0.15, 0.15, n), rng.uniform(0.9, 1.1, n)
    mirror = np.where(mirrored, -1.0, 1.0)
    shift = rng.uniform(-0.1, 0.1, (n, 2))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    rows = np.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1)
    turn = torch.tensor(rows.reshape(n, 2, 3)).to(pixels)
    grid = F.affine_grid(turn, list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    blurred = F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, 1)
    soft = torch.tensor(rng.uniform(0, 1, n) * (rng.random(n) < 0.5)).to(pixels)
    moved = torch.lerp(moved, blurred, soft[:, None, None, None])
    grain = torch.tensor(rng.uniform(0, 0.08, n) * (rng.random(n) < 0.3)).to(pixels)
    seeded = torch.Generator(pixels.device).manual_seed(int(rng.integers(2**62)))
    noise = torch.randn(moved.shape, generator=seeded, device=pixels.device)
    return moved + grain[:, None, None, None] * noise


def accuracy(judge: Judge, count: int = 1000) -> dict[str, float]:
    """Return the shares of right answers on renders that nothing was trained on.

    A place and what is worn count only where there is one; of two nouns both must be seen.
    """
    pictures, records = data.shard(data.HELD_BACK)
    seen = [
        one
        for i in range(0, min(count, len(records)), 100)
        for one in judge.see(np.array(pictures[i : i + 100]))
    ]
    right = defaultdict[str, list[bool]](list)
    for one, record in zip(seen, records, strict=False):
        if record["second"]:
            right["both"].append(set(one.pair) == {record["noun"], record["second"]})
        else:
            right["noun"].append(one.noun == record["noun"])
            right["count"].append(one.count == words.COUNTS[record["count"] - 1])
        colour = world.shown_colour(_scene(record))
        if colour in words.COLOUR_NAMES and not record["pattern"]:
            right["colour"].append(one.colour == colour)
        for name in ("place", "accessory"):
            if record[name]:
                right[name].append(getattr(one, name) == record[name])
            else:
                right[f"no {name}"].append(getattr(one, name) == "")
    return {name: float(np.mean(values)) for name, values in right.items()}


def load() -> Judge:
    """Return the judge as it was trained last."""
    state = load_state(work_folder() / "judge.pt")
    if not state:
        raise FileNotFoundError(
            f"No judge in {work_folder()}. Train it first: python -m tools.pocket.judge"
        )
    judge = Judge()
    judge.load_state_dict(state["judge"])
    return judge.eval()


def train(steps: int, shards: Iterable[int] = data.LEARNED) -> Judge:
    """Train the judge from where it was stopped, `steps` in all."""
    file = work_folder() / "judge.pt"
    torch.manual_seed(1)
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=PEAK_LR, weight_decay=0.02)
    begin = 0
    if state := load_state(file):
        judge.load_state_dict(state["judge"])
        if "optimizer" not in state:  # out of a snapshot
            print("The judge of the snapshot is finished: nothing left to train.")
            return judge.eval()
        optimizer.load_state_dict(state["optimizer"])
        begin = state["step"]
    renders = Renders(shards, SEEN_PX)
    began, recent = time.time(), []
    for step in range(begin, steps):
        rng = np.random.default_rng([step, 77])
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * cosine(step, steps)
        pixels, scenes, mirrored = renders.batch(rng, BATCH, WORN)
        with torch.autocast("cpu", torch.bfloat16):
            made = judge.train()(pixels)
        each = {
            name: F.cross_entropy(made[name].float(), answer)
            for name, answer in (truths(scenes) | sides(scenes, mirrored)).items()
        }
        loss = sum(each.values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recent.append([float(x.detach()) for x in each.values()])
        done = step + 1
        if done % 50 == 0:
            means = zip(each, np.mean(recent[-50:], 0), strict=True)
            said = ", ".join(f"{name} {x:.2f}" for name, x in means)
            print(f"step {done}/{steps} {said}, {time.time() - began:.0f} s", flush=True)
        if done % 250 == 0 or done == steps:
            print("  ", {k: round(v, 3) for k, v in accuracy(judge).items()}, flush=True)
            state = {"judge": judge.state_dict(), "optimizer": optimizer.state_dict()}
            save_state(state | {"step": done}, file)
    return judge.eval()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(steps_asked(__doc__, STEPS))
