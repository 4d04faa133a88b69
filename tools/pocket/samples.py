"""Draw prompts with what the trainer saved last, to a sheet of pictures to be looked at.

python -m tools.pocket.samples OUT.png [--unet FOLDER] [--steps 8] [PROMPT ...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from transformers import CLIPTextModel, CLIPTokenizer

from tools.pocket.training import work_folder
from tools.pocket.unet import SCHEDULE

SEED, BATCH = 1234, 20
PROMPTS = [
    "a cat", "a dog wearing a hat", "a red car in the snow at night", "a robot with a guitar",
    "a cat and a penguin", "two small blue fish", "a panda on a beach", "a blue cat on the moon",
    "an elephant on a pink background", "a princess in the forest", "a pizza in space",
    "a frog wearing a crown", "a yellow bus in the city", "three apples on a white background",
    "a dinosaur wearing sunglasses at the beach", "a green house on a farm", "a bear on stage",
    "a unicorn in the clouds", "a purple dragon in the mountains", "a monkey wearing headphones",
    "a snowman in the desert", "a fish under water", "a white rabbit in a garden",
    "an astronaut on the moon",
]  # fmt: skip


def parts(unet_folder: Path) -> StableDiffusionPipeline:
    """Return the pipeline of what there is so far, as it ships."""
    work = work_folder()
    # Trailing steps: the first is t = 999, where training ends; SD's "leading" ones start at 951.
    scheduler = DDIMScheduler(
        **SCHEDULE, clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing"
    )
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(work / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(unet_folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(work / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(unet_folder / "unet"),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def as_the_library(made: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """Return a pipeline with DPM-Solver++, as the library draws with it."""
    made.scheduler = DPMSolverMultistepScheduler.from_config(made.scheduler.config)
    made.set_progress_bar_config(disable=True)
    return made


def draw(
    pipe: StableDiffusionPipeline, prompts: list[str], steps: int, guidance: float = 4.0
) -> np.ndarray:
    """Return one picture for each prompt, each from its own seed: uint8, (n, side, side, 3)."""
    made = []
    for i in range(0, len(prompts), BATCH):
        some = prompts[i : i + BATCH]
        made.append(
            pipe(
                some,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator().manual_seed(SEED + i + k) for k in range(len(some))],
                output_type="np",
            ).images
        )
    return (np.concatenate(made).clip(0, 1) * 255).round().astype(np.uint8)


def sheet(pictures: np.ndarray, prompts: list[str], columns: int = 8) -> Image.Image:
    """Lay pictures out in rows with what was asked for below each."""
    rows = -(-len(pictures) // columns)
    made = Image.new("RGB", (columns * 156, rows * 156), (255, 255, 255))
    pen = ImageDraw.Draw(made)
    for i, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        y, x = divmod(i, columns)
        made.paste(Image.fromarray(picture), (x * 156, y * 156))
        pen.text((x * 156, y * 156 + 129), prompt[:26], fill=(0, 0, 0))
        pen.text((x * 156, y * 156 + 141), prompt[26:52], fill=(0, 0, 0))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("prompts", nargs="*")
    parser.add_argument("--unet", type=Path, default=work_folder() / "unet_trunk")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=4.0)
    o = parser.parse_args()
    torch.set_num_threads(1)
    prompts = o.prompts or PROMPTS
    pipe = as_the_library(parts(o.unet))
    sheet(draw(pipe, prompts, o.steps, o.guidance), prompts).save(o.out)


if __name__ == "__main__":
    main()
