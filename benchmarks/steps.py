"""How many steps a picture needs: what the pocket model draws, and what its runs draw of a subject.

    python -m benchmarks.steps --photos PHOTOS --out out/quality     # six runs
    python -m benchmarks.steps --subjects Racer --steps 4 8 20

PHOTOS and the subjects are those of benchmarks/dreambooth_quality.py, whose measures these are;
each is taught once, cut out, and its run draws the same pictures at every number of steps. Beside
them the wishes of benchmarks/speech_to_image.py by the model as it ships, judged as there. CPU
seconds are those of a picture, drawn alone. What else the model can do, against steps:
``benchmarks.pocket --steps``. Prints markdown; a second call goes on with the subjects that are
missing in ``steps.jsonl``. Lines of another pocket model than the one that is installed are passed
over.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import dreambooth_quality as quality
from benchmarks.speech_to_image import judge, make_wishes
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.models.loading import Model

STEPS = (4, 6, 8, 12, 20)
BASE = "the model as it ships"


def look_at_base(model: Model, steps: int, count: int) -> dict[str, float]:
    """Draw wishes; return how often noun, and background or place, are as asked, and the time."""
    wishes = make_wishes(count)
    began = time.process_time()
    pictures = [
        draw(model, wish.prompt, DrawOptions(seed=seed, steps=steps))[0].image
        for seed, wish in enumerate(wishes)
    ]
    seconds = (time.process_time() - began) / count
    return judge(pictures, wishes) | {"cpu_seconds": seconds}


def measure(study: quality.Study, name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each number of steps, of the base model or of a subject's run."""
    rows = []
    model = study.base if name == BASE else study.train(name, "cut out", options.seed, None)[0]
    for steps in options.steps:
        if name == BASE:
            row = look_at_base(model, steps, options.count)
        else:
            quality.OWN = replace(quality.OWN, steps=steps)
            row, _ = study.look(model, name)
        rows.append({"subject": name, "steps": steps, **row, "model": study.model})
    return rows


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row for each number of steps; the subjects' means."""
    rows = [
        "| steps | noun | background or place | CPU s a picture | runs: ground | place | worn | "
        "whose | judge | likeness |",
        "|---" * 10 + "|",
    ]
    for steps in sorted({line["steps"] for line in lines}):
        some = [line for line in lines if line["steps"] == steps]
        base = next((line for line in some if line["subject"] == BASE), {})
        runs = [line for line in some if line["subject"] != BASE]
        cells = [base.get(key) for key in ("noun", "background or place", "cpu_seconds")]
        for key in ("ground", "place", "worn", "whose", "judge", "likeness"):
            cells.append(statistics.fmean(line[key] for line in runs) if runs else None)
        said = " | ".join("" if cell is None else f"{cell:.2f}" for cell in cells)
        rows.append(f"| {steps} | {said} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder with the photo sets")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    parser.add_argument("--subjects", nargs="*", choices=quality.SUBJECTS)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200, help="wishes of the model as it ships")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    study, path = quality.Study(options.out, options.photos), options.out / "steps.jsonl"
    lines = quality.read_lines(path, study.model)
    names = options.subjects if options.subjects is not None else list(study.datasets)
    for name in (BASE, *names):
        if any(line["subject"] == name for line in lines):
            continue
        new = measure(study, name, options)
        with path.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in new)
        lines += new
        print(table(new), flush=True)
    print(table(lines))


if __name__ == "__main__":
    main()
