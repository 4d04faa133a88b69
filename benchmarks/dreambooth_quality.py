"""What a run learns, and what prior preservation keeps: with and without it, over several seeds.

    python -m benchmarks.dreambooth_quality              # 2 subjects x 3 seeds; half an hour
    python -m benchmarks.dreambooth_quality --subjects Racer --seeds 1 --steps 20    # a try

The pocket model learns the sample subject and a drawn sticker. Pictures of the same prompts and
seeds are drawn before and after, and compared by the scorer that ships with the model:

- likeness: "a <identifier> <noun>" to the photos; should rise,
- drift: "a <noun>" to the photos; should stay where it was,
- kept: "a <noun>" and three other nouns, each picture to the one that the base model draws from the
  same seed; 1 is unchanged,
- blue: share of "a <identifier> <noun> on a blue background" whose border is blue,
- seconds from photos to weights; the first run of a subject draws the class images, too.

The runs are those of the model's defaults, but without samples, so that the last step is kept.
``--guidance 2 3`` also draws the preserved ones with other guidance than the model's, and
``--guided-above 0.6 0.8`` with guidance at higher noise levels only.

Prints markdown, and one JSON line a run before it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.pocket import background_of
from s2i_lib.drawing.draw import draw
from s2i_lib.drawing.gallery import grid
from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.evaluation.metrics import cosines, mean_cosines
from s2i_lib.models.encoders import ClipScorer, load_scorers
from s2i_lib.models.loading import Model, load
from s2i_lib.photos.dataset import build_dataset, sample_subject
from s2i_lib.photos.manifest import Dataset, open_photo
from s2i_lib.photos.quality import DatasetOptions
from s2i_lib.photos.subject import Subject, save_subject
from s2i_lib.storage.layout import Drive
from s2i_lib.training.finetune import FinetuneRun

OTHERS = ("tree", "cup", "star")
# The limits are those of photos: drawings of flat colour were left out as blurred or taken twice.
DRAWN = DatasetOptions(max_blur=1.0, max_likeness=1.0)
OWN = DrawOptions(seed=5000)  # not the seeds that class images or samples are drawn with
MEASURES = {
    "likeness": "likeness of the subject",
    "drift": "likeness of a noun",
    "kept noun": "a noun as before",
    "kept others": "other nouns as before",
    "blue": "blue background",
    "seconds": "seconds",
}
BLUE = 20  # pictures


def sticker_subject(drive: Drive) -> Subject:
    """Photos of something made up: a purple cat with white stripes, on five grounds.

    Grounds that differ, as notebook 1 advises: of five pastel ones, whose mean is a light green, a
    run learned that green as a part of the subject.
    """
    from PIL import ImageDraw

    subject = Subject("Violet", "cat", kind="animal")
    folder = drive.subject(subject.name) / "photos"
    folder.mkdir(parents=True)
    for i, ground in enumerate(("white", "green", "orange", "gray", "yellow")):
        image = Image.new("RGB", (512, 512), ground)
        pen, x, purple = ImageDraw.Draw(image), 26 * i % 60, (140, 60, 210)
        pen.ellipse((120 + x, 140, 380 + x, 420), fill=purple)
        pen.polygon([(140 + x, 200), (160 + x, 60), (240 + x, 160)], fill=purple)
        pen.polygon([(360 + x, 200), (340 + x, 60), (260 + x, 160)], fill=purple)
        for stripe in range(150, 380, 60):
            pen.line((stripe + x, 200, stripe - 30 + x, 400), fill="white", width=16)
        image.save(folder / f"{i}.png")
    save_subject(drive, subject)
    return subject


SUBJECTS = {"Violet": (sticker_subject, DRAWN), "Racer": (sample_subject, None)}


def pictures_of(model: Model, prompt: str, options: DrawOptions, count: int) -> list[Image.Image]:
    return [drawn.image for drawn in draw(model, prompt, replace(options, count=count))]


def is_blue(picture: Image.Image) -> bool:
    return background_of(np.asarray(picture)) == "blue"


def measure(seen: dict[str, Any], base: dict[str, Any], real: Any, subject: Subject) -> dict:
    noun = f"a {subject.class_noun}"
    same = {p: float(cosines(seen[p], base[p]).diagonal().mean()) for p in seen}
    return {
        "likeness": float(mean_cosines(seen[f"a {subject.phrase}"], real).mean()),
        "drift": float(mean_cosines(seen[noun], real).mean()),
        "kept noun": same[noun],
        "kept others": statistics.fmean(same[p] for p in seen if p.removeprefix("a ") in OTHERS),
    }


class Study:
    """One subject: what the model draws before, and after each run."""

    def __init__(self, drive: Drive, dataset: Dataset, count: int):
        self.drive, self.dataset, self.count = drive, dataset, count
        self.subject = subject = dataset.subject
        self.prompts = [f"a {subject.phrase}", f"a {subject.class_noun}"]
        self.prompts += [f"a {other}" for other in OTHERS]
        model = load("pocket", drive=drive)
        clip = load_scorers(model.base, drive).clip
        if clip is None:
            raise SystemExit("The pocket model's scorer is missing; install the package again.")
        self.clip: ClipScorer = clip
        self.real = clip.images([open_photo(path) for path in dataset.images])
        self.base: dict[str, Any] = {}
        self.shown: list[list[Image.Image]] = []
        self.rows: list[dict[str, Any]] = []
        self.add("before", None, model, 0.0)

    def add(
        self, way: str, seed: int | None, model: Model, seconds: float, options: DrawOptions = OWN
    ) -> None:
        drawn = {p: pictures_of(model, p, options, self.count) for p in self.prompts}
        seen = {prompt: self.clip.images(pictures) for prompt, pictures in drawn.items()}
        self.base = self.base or seen
        on_blue = f"a {self.subject.phrase} on a blue background"
        blue = pictures_of(model, on_blue, options, BLUE)
        row = {"subject": self.subject.name, "way": way, "seed": seed}
        row |= measure(seen, self.base, self.real, self.subject)
        row |= {"blue": sum(map(is_blue, blue)) / BLUE, "seconds": seconds}
        own, noun = (drawn[prompt] for prompt in self.prompts[:2])
        self.shown.append([*own[:4], *blue[:4], *noun[:4]])
        self.rows.append(row)
        print(json.dumps(row), flush=True)

    def run(
        self, seed: int, with_prior: bool, steps: int | None, others: dict[str, DrawOptions]
    ) -> None:
        began = time.perf_counter()
        run = FinetuneRun(
            self.drive,
            self.dataset,
            model="pocket",
            name=f"{'prior' if with_prior else 'without'}-{seed}",
            steps=steps,
            seed=seed,
            with_prior=with_prior,
            sample_prompts=(),
            sample_every=0,
            keep="last",
        ).train()
        seconds = time.perf_counter() - began
        model = load(drive=self.drive, run=str(run))
        self.add("with prior" if with_prior else "without", seed, model, seconds)
        for way, options in others.items() if with_prior else ():
            self.add(f"with prior, {way}", seed, model, seconds, options)

    def grid(self, side: int = 96) -> Image.Image:
        """A row a run: four of the subject, four of it on blue, four of the class."""
        pictures = [picture for row in self.shown for picture in row]
        return grid(pictures, columns=len(self.shown[0]), cell_px=side, gap_px=0)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: means over the seeds, with the least and the most of them."""
    lines = [
        f"| subject | run | {' | '.join(MEASURES.values())} |",
        "|---" * (2 + len(MEASURES)) + "|",
    ]
    for subject in dict.fromkeys(row["subject"] for row in rows):
        own = [row for row in rows if row["subject"] == subject]
        for way in dict.fromkeys(row["way"] for row in own):
            some = [row for row in own if row["way"] == way]
            cells = []
            for key in MEASURES:
                values = [r[key] for r in some]
                spread = f" ({min(values):.2f} to {max(values):.2f})" * (len(values) > 1)
                cells.append(f"{statistics.fmean(values):.2f}{spread}")
            lines.append(f"| {subject} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=[*SUBJECTS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="optimizer steps [default: the model's]")
    parser.add_argument("--pictures", type=int, default=8, help="of each prompt")
    parser.add_argument("--guidance", type=float, nargs="+", default=(), metavar="SCALE")
    parser.add_argument("--guided-above", type=float, nargs="+", default=(), metavar="LEVEL")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--grids", type=Path, help="folder for a picture of each subject's runs")
    given = parser.parse_args()
    others = {f"guidance {g:g}": replace(OWN, guidance_scale=g) for g in given.guidance}
    for least in given.guided_above:
        others[f"guided above {least:g}"] = replace(OWN, guidance_interval=(least, 1.0))
    rows = []
    with tempfile.TemporaryDirectory(prefix="s2i-quality-") as folder:
        drive = Drive(Path(folder))
        for name in given.subjects:
            make, options = SUBJECTS[name]
            dataset = build_dataset(make(drive), drive, options=options)
            study = Study(drive, dataset, given.pictures)
            for seed in range(given.seeds):
                for with_prior in (True, False):
                    study.run(seed, with_prior, given.steps, others)
            rows += study.rows
            if given.grids:
                given.grids.mkdir(parents=True, exist_ok=True)
                study.grid().save(given.grids / f"{dataset.subject.name.lower()}.png")
    print(table(rows))
    if given.out:
        given.out.write_text(table(rows) + "\n")


if __name__ == "__main__":
    main()
