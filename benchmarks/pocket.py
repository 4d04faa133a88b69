"""Measure the pocket model against the targets of its recipe, and print them as a table.

    python -m benchmarks.pocket [--model DIR] [--photos DIR] [--pictures 200] [--grid FILE]

The verdicts on nouns and counts are those of a separate classifier (tools/pocket/judge.py)
that was trained on renders only. It is trained at the first call, which takes minutes and needs
the drawn icons: pip install -e '.[pocket]', then python -m tools.pocket.icons (which needs npm).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image

from tools.pocket import data, judge, world
from tools.pocket.training import SHIPPED, as_tensor, psnr_db

STEPS, GUIDANCE, SEED = 20, 4.0, 1234
BATCH = 20
LOADS, DRAWS = 4, 5  # how many of each are timed


def load(folder: Path):
    """Return the pipeline with DPM-Solver++, as the library draws with it."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, requires_safety_checker=False
    )
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline, prompts: list[str], seed: int = SEED, guidance: float = GUIDANCE) -> np.ndarray:
    """Return one picture for each prompt, each from a seed of its own: uint8, (n, 64, 64, 3)."""
    made = []
    for i in range(0, len(prompts), BATCH):
        some = prompts[i : i + BATCH]
        generators = [torch.Generator().manual_seed(seed + i + k) for k in range(len(some))]
        made.append(
            pipeline(
                some,
                num_inference_steps=STEPS,
                guidance_scale=guidance,
                generator=generators,
                output_type="np",
            ).images
        )
    return (np.concatenate(made).clip(0, 1) * 255).round().astype(np.uint8)


def background_of(picture: np.ndarray) -> str:
    """Return the name of the colour that is nearest to the median of the picture's border."""
    border = np.ones(picture.shape[:2], bool)
    border[3:-3, 3:-3] = False
    median = np.median(picture[border].astype(np.float32), 0)
    distances = {n: float(np.square(median - c).sum()) for n, c in world.COLOURS.items()}
    return min(distances, key=distances.__getitem__)


@torch.no_grad()
def verdicts(pictures: np.ndarray) -> list[torch.Tensor]:
    """Return the judge's logits for the noun and the count of each picture."""
    return list(judge.load()(as_tensor(pictures)))


def pairs(held_out: bool, count: int) -> list[tuple[str, str]]:
    """Return `count` noun and colour pairs; held-out ones are gone through again when they end."""
    chosen = [
        (n, c) for n in world.NOUNS for c in world.COLOURS if world.is_held_out(n, c) == held_out
    ]
    np.random.default_rng(3).shuffle(chosen)
    return [chosen[i % len(chosen)] for i in range(count)]


def measure_prompts(pipeline, held_out: bool, count: int) -> tuple[dict, np.ndarray, list[str]]:
    asked = pairs(held_out, count)
    prompts = [world.on_background(n, c) for n, c in asked]
    pictures = draw(pipeline, prompts)
    nouns = torch.tensor([world.NOUNS.index(n) for n, _ in asked])
    named = verdicts(pictures)[0]
    right = [background_of(p) == c for p, (_, c) in zip(pictures, asked, strict=True)]
    table = {
        "background": float(np.mean(right)),
        "noun top-1": float((named.argmax(1) == nouns).float().mean()),
        "noun top-5": float((named.topk(5).indices == nouns[:, None]).any(1).float().mean()),
    }
    return table, pictures, prompts


def measure_count(pipeline, each: int) -> float:
    """Return how often one, two or three were drawn as asked."""
    nouns = np.random.default_rng(4).choice(world.NOUNS, each)
    prompts, wanted = [], []
    for count in (1, 2, 3):
        for noun in nouns:
            several = f"{world.COUNTS[count - 1]} {world.plural(str(noun))}"
            prompts.append(world.with_article(str(noun)) if count == 1 else several)
            wanted.append(count - 1)
    found = verdicts(draw(pipeline, prompts))[1].argmax(1)
    return float((found == torch.tensor(wanted)).float().mean())


def covered(pictures: np.ndarray) -> np.ndarray:
    """Return the share of each picture that differs from its border's median colour."""
    border = np.ones(pictures.shape[1:3], bool)
    border[3:-3, 3:-3] = False
    median = np.median(pictures[:, border].astype(np.float32), 1)[:, None, None]
    return (np.abs(pictures - median).sum(-1) > 60).mean((1, 2))


def measure_size(pipeline, each: int) -> tuple[float, float, float]:
    """Return the mean covered share of small and big ones, and how often big covers more."""
    nouns = [str(n) for n in np.random.default_rng(5).choice(world.NOUNS, each)]
    small = covered(draw(pipeline, [f"a small {n} on a white background" for n in nouns]))
    big = covered(draw(pipeline, [f"a big {n} on a white background" for n in nouns]))
    return float(small.mean()), float(big.mean()), float((big > small).mean())


@torch.no_grad()
def measure_scorer(folder: Path) -> dict[str, float]:
    from transformers import AutoModel, AutoTokenizer

    from tools.pocket import scorer

    model = AutoModel.from_pretrained(folder / "scorer").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "scorer")
    return scorer.report(scorer.Features(model, tokenizer))


@torch.no_grad()
def measure_vae(pipeline, pictures: np.ndarray) -> float:
    real = as_tensor(pictures)
    made = pipeline.vae.decode(pipeline.vae.encode(real).latent_dist.mean).sample
    return psnr_db(made, real)


def crops_of(folder: Path, count: int = 200) -> np.ndarray:
    """Return random crops of the photographs below a folder."""
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in (".jpg", ".png"))
    if not files:
        raise SystemExit(
            f"No photos below {folder} (found 0 .jpg or .png files, need at least 1). "
            "Give another --photos, or leave it out."
        )
    photos = [Image.open(f).convert("RGB") for f in files]
    for photo in photos:
        photo.thumbnail((512, 512))
    rng = np.random.default_rng(6)
    return np.stack([data.random_crop(rng, photos[i % len(photos)]) for i in range(count)])


def seconds(work: Callable[[], object], times: int) -> list[float]:
    """Return how long each of several calls takes, one after the other."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken


def measure(folder: Path, photos: Path | None, count: int, grid: Path | None) -> dict:
    crops = crops_of(photos) if photos else None
    loads = seconds(lambda: load(folder), LOADS)
    table: dict = {f"each of {LOADS} loads, libraries imported, s": loads}
    pipeline = load(folder)
    table["judge on fresh renders"] = judge.accuracy(judge.load())
    table["held-out pairs"], pictures, prompts = measure_prompts(pipeline, True, count)
    table["seen pairs"], seen, seen_prompts = measure_prompts(pipeline, False, count // 2)
    table["count right"] = measure_count(pipeline, max(4, count // 4))
    small, big, larger = measure_size(pipeline, max(4, count // 8))
    table["covered, small and big"] = [small, big]
    table["big covers more"] = larger
    table["scorer"] = measure_scorer(folder)
    rng = np.random.default_rng(8)
    scenes = [world.paint(rng, world.random_scene(rng)) for _ in range(200)]
    table["VAE, scenes, dB"] = measure_vae(pipeline, np.stack(scenes))
    if crops is not None:
        table["VAE, photo crops, dB"] = measure_vae(pipeline, crops)
    draw(pipeline, ["a cat"])
    drawn = seconds(lambda: draw(pipeline, ["a cat on a blue background"]), DRAWS)
    table[f"a picture of {STEPS} steps, median of {DRAWS}, s"] = statistics.median(drawn)
    table["MB"] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    if grid:
        shown = np.concatenate([pictures[:50], seen[:50]])
        world.contact_sheet(shown, 10, zoom=1).save(grid)
        grid.with_suffix(".txt").write_text("\n".join(prompts[:50] + seen_prompts[:50]) + "\n")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--photos", type=Path, help="folder of real photographs, for the VAE")
    parser.add_argument("--pictures", type=int, default=200, help="of held-out pairs to draw")
    parser.add_argument("--grid", type=Path, help="where to write 100 of the pictures")
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args()
    if o.grid:  # what cannot be written is found out before the work, not after it
        if o.grid.suffix.lower() not in Image.registered_extensions():
            parser.error(f"--grid {o.grid}: no picture's name ends so; give one like grid.png")
        o.grid.parent.mkdir(parents=True, exist_ok=True)
    table = measure(o.model, o.photos, o.pictures, o.grid)
    if o.json:
        print(json.dumps(table))
        return
    for name, value in table.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            said = ", ".join(f"{x:.3f}" for x in np.atleast_1d(number))
            print(f"| {name}{': ' + part if part else ''} | {said} |")


if __name__ == "__main__":
    main()
