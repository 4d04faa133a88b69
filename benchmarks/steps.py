"""How many steps a picture needs: what the pocket model draws, and what its runs draw of a subject.

    python -m benchmarks.steps --photos PHOTOS --out out/quality     # six runs; half an hour
    python -m benchmarks.steps --subjects Racer --steps 4 8 20

PHOTOS and the subjects are those of benchmarks/dreambooth_quality.py, whose measures these are;
each is taught once, cut out, and its run draws the same pictures at every number of steps. Beside
them "a NOUN on a COLOUR background" of benchmarks/speech_to_image.py by the model as it ships; the
noun is the one that its own scorer finds nearest. CPU seconds are those of a picture, drawn alone.
Prints markdown; a second call goes on with the subjects that are missing in ``steps.jsonl``.
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
from benchmarks.speech_to_image import Referee, make_wishes
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.models.encoders import ClipScorer
from s2i_lib.models.loading import Model
from tools.pocket import world

STEPS = (3, 4, 5, 6, 8, 10, 14, 20)
BASE = "the model as it ships"


def look_at_base(model: Model, scorer: ClipScorer, steps: int, count: int) -> dict[str, Any]:
    """Draw wishes, and say how often the noun and the ground are those that were asked for."""
    wishes, referee = make_wishes(count), Referee()
    nouns = scorer.texts([f"a {noun}" for noun in world.NOUNS])
    began = time.process_time()
    pictures = [
        draw(model, text, DrawOptions(seed=seed, steps=steps))[0].image
        for seed, (_, _, text) in enumerate(wishes)
    ]
    seconds = (time.process_time() - began) / count
    named = (scorer.images(pictures) @ nouns.T).argmax(1)
    rights = [
        referee.background(picture) == referee.colours[colour]
        for picture, (_, colour, _) in zip(pictures, wishes, strict=True)
    ]
    heard = [world.NOUNS[i] == noun for i, (noun, _, _) in zip(named, wishes, strict=True)]
    return {
        "noun": statistics.fmean(heard),
        "ground": statistics.fmean(rights),
        "cpu_seconds": seconds,
    }


def measure(study: quality.Study, name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each number of steps, of the base model or of a subject's run."""
    rows = []
    model = study.base if name == BASE else study.train(name, "cut out", options.seed, None)[0]
    for steps in options.steps:
        if name == BASE:
            row = look_at_base(model, study.clip, steps, options.count)
        else:
            quality.OWN = replace(quality.OWN, steps=steps)
            row, _ = study.look(model, name)
        rows.append({"subject": name, "steps": steps, **row})
    return rows


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row for each number of steps; the subjects' means."""
    rows = [
        "| steps | noun | ground | CPU s a picture | runs: ground | whose | judge | likeness |",
        "|---" * 8 + "|",
    ]
    for steps in sorted({line["steps"] for line in lines}):
        some = [line for line in lines if line["steps"] == steps]
        base = next((line for line in some if line["subject"] == BASE), {})
        runs = [line for line in some if line["subject"] != BASE]
        cells = [base.get(key) for key in ("noun", "ground", "cpu_seconds")]
        for key in ("ground", "whose", "judge", "likeness"):
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
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
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
