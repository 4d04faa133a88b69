"""Train the judge: a plain classifier that says what a picture shows, and no part of the model.

It sees renders only, never a held-out noun on its held-out background, and nothing that the model
drew; the benchmark counts its verdicts. Two answers: the noun, and how many.
"""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tools.pocket import world
from tools.pocket.scorer import SHARDS, Renders
from tools.pocket.training import as_tensor, cosine, load_state, save_state, work_folder

STEPS, BATCH, PEAK_LR = 800, 128, 3e-3


class Judge(nn.Module):
    """Strided convolutions with batch normalisation; two linear answers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in = 3
        for width, stride in ((24, 2), (48, 2), (96, 2), (96, 1), (192, 2)):
            layers += [
                nn.Conv2d(width_in, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            width_in = width
        self.body = nn.Sequential(*layers)
        self.noun = nn.Linear(width_in * 4, len(world.NOUNS))
        self.count = nn.Linear(width_in * 4, 3)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = F.adaptive_max_pool2d(self.body(pixels), 2).flatten(1)
        return self.noun(seen), self.count(seen)


def answers(scenes: list[dict]) -> list[torch.Tensor]:
    return [
        torch.tensor([world.NOUNS.index(s["noun"]) for s in scenes]),
        torch.tensor([s["count"] - 1 for s in scenes]),
    ]


@torch.no_grad()
def accuracy(judge: Judge, per_noun: int = 5) -> dict[str, float]:
    """Return the shares of right answers on fresh renders."""
    rng = np.random.default_rng(123)
    scenes = [world.random_scene(rng, noun) for noun in world.NOUNS for _ in range(per_noun)]
    made = judge.eval()(as_tensor(np.stack([world.paint(rng, s) for s in scenes])))
    rights = [
        (m.argmax(1) == a).float().mean()
        for m, a in zip(made, answers([vars(s) for s in scenes]), strict=True)
    ]
    return dict(zip(("noun", "count"), map(float, rights), strict=True))


def load() -> Judge:
    """Return the judge, trained first if it has not been (minutes)."""
    file = work_folder() / "judge.pt"
    torch.manual_seed(1)
    judge = Judge()
    if state := load_state(file):
        judge.load_state_dict(state)
        return judge.eval()
    renders = Renders(SHARDS)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=PEAK_LR, weight_decay=0.02)
    began, recent = time.time(), []
    for step in range(STEPS):
        rng = np.random.default_rng([step, 77])
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * cosine(step, STEPS)
        pixels, scenes = renders.batch(rng, BATCH)
        made = judge.train()(pixels)
        loss = sum(
            (F.cross_entropy(m, a) for m, a in zip(made, answers(scenes), strict=True)),
            torch.zeros(()),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recent.append(float(loss.detach()))
        if (step + 1) % 100 == 0:
            took = time.time() - began
            print(
                f"judge: step {step + 1}, loss {np.mean(recent[-100:]):.3f}, {took:.0f} s",
                flush=True,
            )
    save_state(judge.state_dict(), file)
    print(accuracy(judge))
    return judge.eval()


if __name__ == "__main__":
    load()
