"""Train the judge: a plain classifier that says what a picture shows, and no part of the model.

It sees renders only, never a held-out pair, and nothing that the model drew; the benchmark counts
its verdicts. Answers: the nouns that are there, how many, the place, what is worn, and the first
noun's colour.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tools.pocket_world import data, words, world
from tools.pocket_world.training import as_tensor, cosine, load_state, save_state, work_folder

STEPS, BATCH, PEAK_LR = 6000, 96, 3e-3
ANSWERS = {
    "noun": words.NOUNS,
    "count": words.COUNTS,
    "place": ["", *words.PLACE_NAMES],
    "accessory": ["", *words.ACCESSORY_NAMES],
    "colour": words.COLOUR_NAMES,
}
LAYERS = ((32, 2), (64, 2), (96, 1), (160, 2), (256, 1), (256, 1))  # width, stride
SECOND = 0.2  # share of the verdict on nouns from which on the second one is there, too


@dataclass(frozen=True)
class Seen:
    """What the judge sees in a picture."""

    nouns: tuple[str, ...]
    """The likeliest, and the second where there are two."""
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

    Nouns are told of the left half, the right half and the whole, with the same weights: so what is
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
        """Return the logits of each answer for halved pictures in [-1, 1]."""
        found = self.body(pixels)
        middle, whole = found.shape[3] // 2, _pooled(found)
        halves = [_pooled(found[..., :middle]), _pooled(found[..., middle:])]
        nouns = self.nouns(torch.stack([whole, *halves])).float().logsumexp(0)
        return {"noun": nouns, **{name: head(whole) for name, head in self.heads.items()}}

    @torch.no_grad()
    def answers(self, pictures: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the logits of each answer for whole pictures: uint8, (n, 128, 128, 3)."""
        return self.eval()(halved(as_tensor(pictures)))

    def see(self, pictures: np.ndarray) -> list[Seen]:
        """Say what some pictures show: uint8, (n, 128, 128, 3)."""
        made = self.answers(pictures)
        shares, order = made.pop("noun").softmax(1).topk(2)
        answers = {k: [ANSWERS[k][i] for i in v.argmax(1).tolist()] for k, v in made.items()}
        rows = zip(shares.tolist(), order.tolist(), *answers.values(), strict=True)
        return [
            Seen(tuple(words.NOUNS[i] for i in top[: 1 + (two[1] >= SECOND)]), *rest)
            for two, top, *rest in rows
        ]


def truths(scenes: list[dict]) -> dict[str, torch.Tensor]:
    """Return the right answers as class numbers, -100 where a question has none.

    Of nouns it is a row of shares: half and half where there are two.
    """
    shown = [world.shown_colour(_scene(s)) for s in scenes]
    asked = {
        "count": [words.COUNTS[s["count"] - 1] for s in scenes],
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


def _number(options: list[str], value: str) -> int:
    return options.index(value) if value in options else -100


def _scene(record: dict) -> world.Scene:
    return world.Scene(**{k: v for k, v in record.items() if k not in ("caption", "plain")})


class Renders:
    """Shards of scenes with pixels, moved about and mirrored as they are taken."""

    def __init__(self, shards: Iterable[int]):
        loaded = [data.shard(number) for number in shards]
        self.pictures = [pictures for pictures, _ in loaded]
        self.records = [record for _, records in loaded for record in records]
        self.starts = np.cumsum([0, *(len(p) for p in self.pictures)])

    def batch(self, rng: np.random.Generator, size: int) -> tuple[torch.Tensor, list[dict]]:
        """Return pictures in [-1, 1], halved and jittered, and what they show."""
        chosen = rng.choice(len(self.records), size)
        rows = []
        for i in chosen:
            shard = int(np.searchsorted(self.starts, i, side="right")) - 1
            rows.append(self.pictures[shard][i - self.starts[shard]])
        return jitter(rng, halved(as_tensor(np.stack(rows)))), [self.records[i] for i in chosen]


def halved(pixels: torch.Tensor) -> torch.Tensor:
    """Return pictures at half their size, as judge and scorer see them.

    At 128 px a step takes four times as long, and after as many minutes they knew less.
    """
    return F.avg_pool2d(pixels, 2)


def jitter(rng: np.random.Generator, pixels: torch.Tensor) -> torch.Tensor:
    """Mirror, turn, scale and shift each picture a little; blur or add noise now and then.

    So that a verdict does not depend on where exactly things are, or on how cleanly drawn.
    """
    n = len(pixels)
    angle, scale = rng.uniform(-0.15, 0.15, n), rng.uniform(0.9, 1.1, n)
    mirror = rng.choice([-1.0, 1.0], n)
    shift = rng.uniform(-0.1, 0.1, (n, 2))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    rows = np.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1)
    turn = torch.tensor(rows.reshape(n, 2, 3), dtype=torch.float32)
    grid = F.affine_grid(turn, list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    blurred = F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, 1)
    soft = torch.tensor(rng.uniform(0, 1, n) * (rng.random(n) < 0.5), dtype=torch.float32)
    moved = torch.lerp(moved, blurred, soft[:, None, None, None])
    grain = torch.tensor(rng.uniform(0, 0.08, n) * (rng.random(n) < 0.3), dtype=torch.float32)
    noise = torch.tensor(rng.standard_normal(moved.shape, dtype=np.float32))
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
        is_both = set(one.nouns) == {record["noun"], record["second"]}
        right["both" if record["second"] else "noun"].append(
            is_both if record["second"] else one.nouns == (record["noun"],)
        )
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
            f"No judge in {work_folder()}. Train it first: python -m tools.pocket_world.judge"
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
        optimizer.load_state_dict(state["optimizer"])
        begin = state["step"]
    renders = Renders(shards)
    began, recent = time.time(), []
    for step in range(begin, steps):
        rng = np.random.default_rng([step, 77])
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * cosine(step, steps)
        pixels, scenes = renders.batch(rng, BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            made = judge.train()(pixels)
        each = {
            name: F.cross_entropy(made[name].float(), answer)
            for name, answer in truths(scenes).items()
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", type=int, nargs="?", default=STEPS)
    o = parser.parse_args()
    torch.set_num_threads(1)
    train(o.steps)


if __name__ == "__main__":
    main()
