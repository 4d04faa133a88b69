"""Put the trained parts together in a folder, as fp16 safetensors with checksums: a model to load.

python -m tools.pocket_world.assemble OUT [--unet FOLDER]

OUT is drawn with as any folder is (``python -m s2i_lib speak ... --model OUT``). What is not
trained yet is left out (the scorer) or as it begins (the decoder, which shows a thumbnail).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer, VisionTextDualEncoderModel

from s2i_lib.storage.hub import write_checksums
from tools.pocket.assemble import forget_path, say_float32
from tools.pocket_world import words
from tools.pocket_world.training import work_folder
from tools.pocket_world.unet import SCHEDULE


def copy_classic_files(folder: Path) -> None:
    """Put CLIP's own tokenizer files beside tokenizer.json."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(work_folder() / "tokenizer" / name, folder / name)


def assemble_scorer(out: Path) -> None:
    """Write the scorer, which has a tokenizer of its own."""
    scorer = VisionTextDualEncoderModel.from_pretrained(work_folder() / "scorer")
    shutil.copytree(work_folder() / "scorer", out / "scorer", dirs_exist_ok=True)
    scorer.to(torch.float16).save_pretrained(out / "scorer")
    say_float32(out / "scorer" / "config.json")
    copy_classic_files(out / "scorer")


def assemble(unet_folder: Path, out: Path) -> None:
    work = work_folder()
    # Trailing steps: the first is t = 999, where training ends; SD's "leading" ones start at 951.
    scheduler = DDIMScheduler(
        **SCHEDULE, clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing"
    )
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(work / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(unet_folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(work / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(unet_folder / "unet"),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(out, safe_serialization=True)
    say_float32(out / "text_encoder" / "config.json")
    for part in ("unet", "vae"):
        forget_path(out / part / "config.json")
    copy_classic_files(out / "tokenizer")
    if (work / "scorer").exists():
        assemble_scorer(out)
    (out / "words.json").write_text(json.dumps(words.known_words(), indent=1) + "\n")
    write_checksums(out, "the package")
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--unet", type=Path, default=work_folder() / "unet_trunk")
    options = parser.parse_args()
    assemble(options.unet, options.out)


if __name__ == "__main__":
    main()
