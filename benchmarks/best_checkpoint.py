"""Is the checkpoint that training keeps the one that a full evaluation likes best?

    python -m benchmarks.best_checkpoint                    # 3 subjects x 2 seeds; hours
    python -m benchmarks.best_checkpoint --subjects 1 --seeds 1 --every 2 --samplings 2   # a try

Each run of the pocket model is trained once with ``keep="best"`` and the samples that a user gets.
Then it is trained again, in pieces that end at every step that was sampled (training is a function
of the seed, so these are the very weights that it went through), and each of them is scored in full
twice, with other seeds each time. The table says how far below the best full score (the mean of the
two) the chosen step is, what any single step for all runs would have got, and how far the two full
scores of a step lie apart: less than that nobody can choose better by.
Prints markdown, and one JSON line a run before it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dreambooth_quality import DRAWN
from s2i_lib.best import Point, value
from s2i_lib.dataset import Dataset, Subject, build_dataset, sample_subject
from s2i_lib.drive import Drive
from s2i_lib.evaluate import evaluate_run
from s2i_lib.evaluation import Evaluation
from s2i_lib.finetune import finetune
from s2i_lib.models import read_card
from s2i_lib.protocol import EvaluateOptions


@dataclass(frozen=True)
class Run:
    """One subject with one seed."""

    subject: str
    seed: int
    chosen: int
    full: dict[int, tuple[float, float]]
    """Values by two full evaluations, by step."""

    def score(self, step: int) -> float:
        return sum(self.full[step]) / 2

    @property
    def best(self) -> int:
        return max(self.full, key=self.score)


def drawn_subject(drive: Drive, name: str, noun: str, colours: tuple[str, str]) -> Subject:
    """Photos of something made up: a shape of two colours, five times near and far and tilted."""
    from PIL import Image, ImageDraw

    subject = Subject(name, noun, "sks", "object")
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


def as_point(step: int, evaluation: Evaluation) -> Point:
    likeness, fidelity, of_class = (
        evaluation.scores[key].mean for key in ("clip_i", "clip_t", "pres_clip")
    )
    return Point(step, likeness, fidelity, of_class)


def study(
    drive: Drive, dataset: Dataset, seed: int, steps: list[int], full: list[EvaluateOptions]
) -> Run:
    """Train with the rule, then score every step that it could have chosen."""
    common = {"model": "pocket", "seed": seed}
    quietly = common | {"sample_prompts": (), "sample_every": 0, "keep": "last"}
    name = f"seed{seed}"
    judged = finetune(drive, dataset, name=name, steps=steps[-1], sample_every=steps[0], **common)
    first = [as_point(0, evaluate_run(drive, str(judged), each, is_base=True)) for each in full]
    scored = {}
    for step in steps:  # more steps of one run: it goes on where it ended
        run = finetune(drive, dataset, name=f"{name}-pieces", steps=step, **quietly)
        points = [as_point(step, evaluate_run(drive, str(run), each)) for each in full]
        scored[step] = tuple(value(p, f) for p, f in zip(points, first, strict=True))
    return Run(dataset.subject.name, seed, read_card(judged)["kept_step"], scored)


def table(runs: list[Run], steps: list[int]) -> str:
    """Markdown: a row a run, then the means."""
    lines = [
        "| subject, seed | chosen step | its full score | best step | its full score | loss |",
        "|---|---|---|---|---|---|",
    ]
    losses = []
    for run in runs:
        chosen, best = run.score(run.chosen), run.score(run.best)
        losses.append(1 - chosen / best)
        cells = (f"{run.subject}, {run.seed}", run.chosen, f"{chosen:.3f}", run.best, f"{best:.3f}")
        lines.append(f"| {' | '.join(map(str, cells))} | {losses[-1]:.1%} |")
    within, loss = sum(loss <= 0.03 for loss in losses), statistics.fmean(losses)
    mean = statistics.fmean(run.score(run.chosen) for run in runs)
    fixed = {step: statistics.fmean(run.score(step) for run in runs) for step in steps}
    means = ", ".join(f"{step}: {each:.3f}" for step, each in fixed.items())
    pairs = [pair for run in runs for pair in run.full.values()]
    apart = statistics.fmean(abs(a - b) / max(1e-9, (a + b) / 2) for a, b in pairs)
    lines += [
        "",
        f"Within 3 % of the best: {within} of {len(runs)} runs; {loss:.1%} below it on average. "
        f"Mean full score of the chosen steps {mean:.3f}; of a fixed step: {means}. "
        f"Two full scores of one step differ by {apart:.1%} on average.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subjects", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--every", type=int, default=40, help="steps between samplings")
    parser.add_argument("--samplings", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=8, help="of the full evaluation")
    parser.add_argument("--draw-steps", type=int, default=20)
    given = parser.parse_args()
    steps = [given.every * (i + 1) for i in range(given.samplings)]
    # Other seeds than the samples that the choice was made by.
    full = [
        EvaluateOptions(prompts=given.prompts, seeds=2, first_seed=seed, steps=given.draw_steps)
        for seed in (1000, 2000)
    ]
    runs = []
    with tempfile.TemporaryDirectory(prefix="s2i-best-") as folder:
        drive = Drive(Path(folder))
        for dataset in datasets(drive, given.subjects):
            for seed in range(given.seeds):
                runs.append(study(drive, dataset, seed, steps, full))
                print(json.dumps(runs[-1].__dict__), file=sys.stderr, flush=True)
    print(table(runs, steps))


if __name__ == "__main__":
    main()
