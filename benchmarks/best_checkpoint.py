"""Is the checkpoint that training keeps the one that a full evaluation likes best?

    python -m benchmarks.best_checkpoint --processes 2      # 3 subjects x 2 seeds; half an hour
    python -m benchmarks.best_checkpoint --subjects 1 --seeds 1 --every 2 --samplings 2   # a try

Each run of the pocket model is trained once with ``keep="best"`` and the samples that a user gets.
Then it is trained again with a state kept of every step that was sampled (training is a function of
the seed, so these are the very weights that it went through), and each of them is scored in full
twice, by all prompts that the model knows and other seeds each time.

Of several noisy scores the largest is overrated, so "how far below the best" is also asked fairly:
one half of the pictures says which step is best, the other how far the chosen one lies below it,
and the other way round. A second table says how well choosing by so many pictures can do at all:
samples are drawn again and again from one half, and what they choose is scored by the other. Its
last line chooses by nearly a whole evaluation. Prints markdown, one JSON line a run before it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.dreambooth_quality import DRAWN
from s2i_lib.evaluation.dreambench import EvaluateOptions
from s2i_lib.evaluation.evaluate import Evaluation
from s2i_lib.evaluation.metrics import mean_cosines
from s2i_lib.evaluation.model_selection import Point, value
from s2i_lib.evaluation.runs import evaluate_run
from s2i_lib.models.encoders import ClipScorer, load_clip
from s2i_lib.models.registry import REGISTRY
from s2i_lib.photos.dataset import build_dataset, sample_subject
from s2i_lib.photos.manifest import Dataset
from s2i_lib.photos.subject import Subject
from s2i_lib.storage.layout import Drive, folder_name
from s2i_lib.storage.run_card import RUN_CARD, WEIGHTS, read_card
from s2i_lib.training.checkpoint import restore, save_weights
from s2i_lib.training.finetune import FinetuneRun, choose_recipe, load_for_training
from s2i_lib.training.saves import list_states
from s2i_lib.training.train_state import make_train_state

RESAMPLES = 200


@dataclass(frozen=True)
class Half:
    """One full evaluation of one step: the scores of each picture."""

    likeness: np.ndarray
    """Shape = (prompts, pictures of each); so has fidelity."""
    fidelity: np.ndarray
    of_class: np.ndarray
    """Likeness of the plain class pictures, shape = (pictures,)."""

    def point(self, step: int, own: np.ndarray | None = None, plain: Any = slice(None)) -> Point:
        """All of it; or of each prompt the pictures in ``own``, of the class those in ``plain``."""
        likeness, fidelity = (
            scores if own is None else np.take_along_axis(scores, own, axis=1)
            for scores in (self.likeness, self.fidelity)
        )
        means = (float(each.mean()) for each in (likeness, fidelity, self.of_class[plain]))
        return Point(step, *means)


@dataclass(frozen=True)
class Run:
    """One subject with one seed."""

    subject: str
    seed: int
    chosen: int
    halves: dict[int, tuple[Half, Half]]
    """Two full evaluations of each step, with that of step 0."""

    @cached_property
    def full(self) -> dict[int, tuple[float, float]]:
        """Values by the two full evaluations, by step."""
        first = self.halves[0]
        return {
            step: tuple(value(h.point(step), f.point(0)) for h, f in zip(pair, first, strict=True))
            for step, pair in self.halves.items()
            if step
        }

    def score(self, step: int) -> float:
        return sum(self.full[step]) / 2

    @property
    def best(self) -> int:
        return max(self.full, key=self.score)

    @property
    def loss(self) -> float:
        """How far below the best step the chosen one is, by the same pictures: never negative."""
        return 1 - self.score(self.chosen) / self.score(self.best)

    @property
    def fair_loss(self) -> float:
        """The same where other pictures said which step is best; the mean of both ways."""
        lost = []
        for says, judges in ((0, 1), (1, 0)):
            best = max(self.full, key=lambda step: self.full[step][says])
            lost.append(1 - self.full[self.chosen][judges] / self.full[best][judges])
        return statistics.fmean(lost)

    def resample(self, each: int, rng: np.random.Generator) -> list[float]:
        """Losses where samples with ``each`` pictures of a prompt choose, judged by the other half.

        As in the samples of a run, there are four pictures of the class to one of each prompt.
        """
        prompts, pictures = self.halves[0][0].likeness.shape
        lost = []
        for says, judges in ((0, 1), (1, 0)) * RESAMPLES:
            own = rng.permuted(np.tile(np.arange(pictures), (prompts, 1)), axis=1)[:, :each]
            plain = rng.permutation(self.halves[0][0].of_class.size)[: 4 * each]
            points = {s: pair[says].point(s, own, plain) for s, pair in self.halves.items()}
            chosen = max(self.full, key=lambda step: value(points[step], points[0]))
            best = max(each[judges] for each in self.full.values())
            lost.append(1 - self.full[chosen][judges] / best)
        return lost


def drawn_subject(drive: Drive, name: str, noun: str, colours: tuple[str, str]) -> Subject:
    """Photos of something made up: a shape of two colours, five times near and far and tilted."""
    from PIL import Image, ImageDraw

    subject = Subject(name, noun, kind="object")
    folder = drive.subject(name) / "photos"
    folder.mkdir(parents=True)
    views = (("white", 0, 440), ("lightgreen", 14, 400), ("khaki", -12, 360),
             ("lightblue", 6, 480), ("lightgray", -20, 420))  # fmt: skip
    for i, (ground, degrees, size_px) in enumerate(views):
        shape = Image.new("RGBA", (512, 512))
        pen = ImageDraw.Draw(shape)
        pen.rounded_rectangle((80, 110, 320, 400), 40, fill=colours[0])
        pen.ellipse((280, 170, 430, 320), outline=colours[0], width=30)
        for top in (160, 240, 320):
            pen.rectangle((80, top, 320, top + 30), fill=colours[1])
        shape = shape.rotate(degrees, Image.Resampling.BICUBIC).resize((size_px, size_px))
        image = Image.new("RGB", (512, 512), ground)
        image.paste(shape, (12 * i, 72 - 15 * i), shape)
        image.save(folder / f"{i}.png")
    return subject


def datasets(drive: Drive, count: int) -> list[Dataset]:
    drawn = {"Stripes": ("mug", ("purple", "white")), "Bee": ("cup", ("black", "gold"))}
    made = [build_dataset(sample_subject(drive), drive)]
    for name, (noun, colours) in list(drawn.items())[: count - 1]:
        subject = drawn_subject(drive, name, noun, colours)
        made.append(build_dataset(subject, drive, options=DRAWN))
    return made


def as_half(evaluation: Evaluation, scorer: ClipScorer) -> Half:
    plain, real = map(scorer.images, (evaluation.class_images, evaluation.real_images))
    shape = (-1, evaluation.options.seeds)
    return Half(
        np.reshape([picture.clip_i for picture in evaluation.pictures], shape),
        np.reshape([picture.clip_t for picture in evaluation.pictures], shape),
        mean_cosines(plain, real),
    )


def train_and_keep(
    drive: Drive, dataset: Dataset, name: str, steps: list[int], seed: int
) -> dict[int, Path]:
    """The weights that a run goes through, by step, each as a run of its own."""
    folder = drive.runs / folder_name(dataset.subject.name) / name
    kept = drive.root / "states" / name

    def keep(event: str, info: dict[str, Any]) -> None:
        if event != "pointed":  # a state is on the Drive, whole
            return
        for state in list_states(folder):
            if not (kept / state.name).exists():
                shutil.rmtree(kept / "part", ignore_errors=True)
                shutil.copytree(state, kept / "part").rename(kept / state.name)

    changes = {"seed": seed, "steps": steps[-1], "save_every": steps[0], "keep": "last"}
    changes |= {"sample_prompts": (), "sample_every": 0}
    FinetuneRun(drive, dataset, model="pocket", name=name, callback=keep, **changes).train()
    base, wanted = choose_recipe(dataset, "pocket", "auto", changes)
    train_state = make_train_state(
        load_for_training(base, drive).pipeline, wanted.options, torch.device("cpu")
    )
    runs = {steps[-1]: folder}
    for state in list_states(kept)[: len(steps) - 1]:
        step = restore(train_state, state)["step"]
        runs[step] = folder.with_name(f"{name}-{step}")
        save_weights(train_state, wanted.options, runs[step] / WEIGHTS)
        shutil.copy(folder / RUN_CARD, runs[step])
    if sorted(runs) != steps:
        raise RuntimeError(f"Of steps {steps} only {sorted(runs)} were kept; is the disk slow?")
    shutil.rmtree(kept)
    return runs


def study(
    root: Path, dataset: Dataset, seed: int, steps: list[int], full: list[EvaluateOptions]
) -> Run:
    """Train with the rule, then score every step that it could have chosen."""
    drive = Drive(root)
    name = f"seed{seed}"
    given = {"steps": steps[-1], "sample_every": steps[0], "seed": seed}
    judged = FinetuneRun(drive, dataset, model="pocket", name=name, **given).train()
    source = REGISTRY["pocket"].scorer
    assert source is not None, "pocket ships with its scorer"
    scorer = load_clip(source, drive)

    def score(run: Path, is_base: bool = False) -> tuple[Half, Half]:
        a, b = (evaluate_run(drive, str(run), each, is_base=is_base) for each in full)
        return as_half(a, scorer), as_half(b, scorer)

    halves = {0: score(judged, is_base=True)}
    for step, run in sorted(train_and_keep(drive, dataset, f"{name}-kept", steps, seed).items()):
        halves[step] = score(run)
    result = Run(dataset.subject.name, seed, read_card(judged)["kept_step"], halves)
    shown = {key: getattr(result, key) for key in ("subject", "seed", "chosen", "full")}
    print(json.dumps(shown), file=sys.stderr, flush=True)
    return result


def table(runs: list[Run], steps: list[int]) -> str:
    """Markdown: a row a run, then the means."""
    lines = [
        "| subject, seed | chosen step | its full score | best step | its full score | loss "
        "| loss, best found by other pictures |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        cells = (
            f"{run.subject}, {run.seed}",
            run.chosen,
            f"{run.score(run.chosen):.3f}",
            run.best,
            f"{run.score(run.best):.3f}",
            f"{run.loss:.1%}",
            f"{run.fair_loss:.1%}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    mean = statistics.fmean(run.score(run.chosen) for run in runs)
    fixed = {step: statistics.fmean(run.score(step) for run in runs) for step in steps}
    means = ", ".join(f"{step}: {each:.3f}" for step, each in fixed.items())
    pairs = [pair for run in runs for pair in run.full.values()]
    apart = statistics.fmean(abs(a - b) / max(1e-9, (a + b) / 2) for a, b in pairs)
    within = [sum(each <= 0.03 for each in losses) for losses in _losses(runs)]
    lost = [statistics.fmean(losses) for losses in _losses(runs)]
    lines += [
        "",
        f"Within 3 % of the best: {within[0]} of {len(runs)} runs; {lost[0]:.1%} below it on "
        f"average. Where other pictures found the best: {within[1]} of {len(runs)}, {lost[1]:.1%}. "
        f"Mean full score of the chosen steps {mean:.3f}; of a fixed step: {means}. "
        f"Two full scores of one step differ by {apart:.1%} on average.",
    ]
    prompts = len(runs[0].halves[0][0].likeness)
    pictures = runs[0].halves[0][0].likeness.shape[1]
    lines += [
        "",
        "| pictures that choose | within 3 % of the best | below the best |",
        "|---|---|---|",
    ]
    rng = np.random.default_rng(0)
    for each in [2**i for i in range(pictures.bit_length())]:
        lost = [loss for run in runs for loss in run.resample(each, rng)]
        near = statistics.fmean(loss <= 0.03 for loss in lost)
        below = statistics.fmean(lost)
        lines.append(f"| {prompts * each} and {4 * each} | {near:.0%} | {below:.1%} |")
    return "\n".join(lines)


def _losses(runs: list[Run]) -> tuple[list[float], list[float]]:
    return [run.loss for run in runs], [run.fair_loss for run in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subjects", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--every", type=int, default=75, help="steps between samplings")
    parser.add_argument("--samplings", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=25, help="of a half; fewer where unknown")
    parser.add_argument("--pictures", type=int, default=4, help="of a prompt, in a half")
    parser.add_argument("--class-pictures", type=int, default=24, help="of a half")
    parser.add_argument("--draw-steps", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    steps = [given.every * (i + 1) for i in range(given.samplings)]
    # Other seeds than the samples that the choice was made by.
    full = [
        EvaluateOptions(
            prompts=given.prompts,
            seeds=given.pictures,
            first_seed=seed,
            class_pictures=given.class_pictures,
            steps=given.draw_steps,
        )
        for seed in (1000, 2000)
    ]
    with (
        tempfile.TemporaryDirectory(prefix="s2i-best-") as folder,
        ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool,
    ):
        made = datasets(Drive(Path(folder)), given.subjects)
        jobs = [
            pool.submit(study, Path(folder), dataset, seed, steps, full)
            for dataset in made
            for seed in range(given.seeds)
        ]
        runs = [job.result() for job in jobs]
    print(table(runs, steps))


if __name__ == "__main__":
    main()
