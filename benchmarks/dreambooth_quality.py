"""What a run learns, and what prior preservation keeps: with and without it, over several seeds.

    python -m benchmarks.dreambooth_quality                          # 2 subjects x 3 seeds; an hour
    python -m benchmarks.dreambooth_quality --seeds 1 --steps 20 --subjects 1 --pictures 2   # a try

The pocket model learns the sample subject and a drawn sticker. Pictures of the same prompts and
seeds are drawn before and after, and compared by the scorer that ships with the model:

- likeness: "a sks <noun>" to the photos; should rise,
- drift: "a <noun>" to the photos; should stay where it was,
- kept: "a <noun>" and three other nouns, each picture to the one that the base model draws from the
  same seed; 1 is unchanged.

Prints markdown, and one JSON line a run before it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from s2i_lib.dataset import Dataset, build_dataset, sample_subject, save_subject
from s2i_lib.drive import Drive
from s2i_lib.finetune import finetune
from s2i_lib.generate import DrawOptions, draw
from s2i_lib.manifest import open_photo
from s2i_lib.models import Model, load
from s2i_lib.scorer import ClipScorer, load_scorers
from s2i_lib.scores import cosines, mean_cosines
from s2i_lib.subject import Subject

OTHERS = ("tree", "cup", "star")
FIRST_SEED = 5000  # not those that class images or samples are drawn with
MEASURES = {
    "likeness": "likeness of a sks noun",
    "drift": "likeness of a noun",
    "kept noun": "a noun as before",
    "kept others": "other nouns as before",
}


def sticker_subject(drive: Drive) -> Subject:
    """Photos of something made up: a purple cat with white stripes, on five grounds."""
    from PIL import Image, ImageDraw

    subject = Subject("Violet", "cat", "sks", "animal")
    folder = drive.subject(subject.name) / "photos"
    folder.mkdir(parents=True)
    for i, ground in enumerate(("white", "lightgreen", "khaki", "lightblue", "lightgray")):
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


def see(model: Model, prompts: list[str], count: int, clip: ClipScorer) -> dict[str, Any]:
    """Embeddings of ``count`` pictures of each prompt."""
    options = DrawOptions(count=count, seed=FIRST_SEED)
    return {p: clip.images([drawn.image for drawn in draw(model, p, options)]) for p in prompts}


def measure(seen: dict[str, Any], base: dict[str, Any], real: Any, subject: Subject) -> dict:
    noun = f"a {subject.class_noun}"
    same = {p: float(cosines(seen[p], base[p]).diagonal().mean()) for p in seen}
    return {
        "likeness": float(mean_cosines(seen[f"a {subject.phrase}"], real).mean()),
        "drift": float(mean_cosines(seen[noun], real).mean()),
        "kept noun": same[noun],
        "kept others": statistics.fmean(same[p] for p in seen if p.removeprefix("a ") in OTHERS),
    }


def study(drive: Drive, dataset: Dataset, seeds: int, steps: int | None, pictures: int) -> list:
    """A row for the base model, then one for each seed with and without prior preservation."""
    subject = dataset.subject
    prompts = [f"a {subject.phrase}", f"a {subject.class_noun}", *(f"a {o}" for o in OTHERS)]
    model = load("pocket", drive=drive)
    clip = load_scorers(model.base, drive).clip
    if clip is None:
        raise SystemExit("The pocket model's scorer is missing; install the package again.")
    real = clip.images([open_photo(path) for path in dataset.images])
    base = see(model, prompts, pictures, clip)

    def row(way: str, seed: int | None, seen: dict[str, Any]) -> dict[str, Any]:
        done = {"subject": subject.name, "way": way, "seed": seed}
        done |= measure(seen, base, real, subject)
        print(json.dumps(done), flush=True)
        return done

    rows = [row("before", None, base)]
    for seed in range(seeds):
        for way, with_prior in (("with prior", True), ("without", False)):
            run = finetune(
                drive,
                dataset,
                model="pocket",
                name=f"{way[:7].strip()}-{seed}",
                steps=steps,
                seed=seed,
                with_prior=with_prior,
                sample_prompts=(),
                sample_every=0,
                keep="last",
            )
            rows.append(
                row(way, seed, see(load(drive=drive, run=str(run)), prompts, pictures, clip))
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: means over the seeds, with the least and the most of them."""
    lines = [
        f"| subject | run | {' | '.join(MEASURES.values())} |",
        "|---" * (2 + len(MEASURES)) + "|",
    ]
    for subject in dict.fromkeys(row["subject"] for row in rows):
        for way in ("before", "with prior", "without"):
            some = [r for r in rows if (r["subject"], r["way"]) == (subject, way)]
            cells = []
            for key in MEASURES:
                values = [r[key] for r in some]
                spread = f" ({min(values):.2f} to {max(values):.2f})" * (len(values) > 1)
                cells.append(f"{statistics.fmean(values):.2f}{spread}")
            lines.append(f"| {subject} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subjects", type=int, default=2, choices=(1, 2))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="optimizer steps [default: the model's]")
    parser.add_argument("--pictures", type=int, default=8, help="of each prompt")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="s2i-quality-") as folder:
        drive = Drive(Path(folder))
        for make in (sample_subject, sticker_subject)[: given.subjects]:
            dataset = build_dataset(make(drive), drive)
            rows += study(drive, dataset, given.seeds, given.steps, given.pictures)
    print(table(rows))
    if given.out:
        given.out.write_text(table(rows) + "\n")


if __name__ == "__main__":
    main()
