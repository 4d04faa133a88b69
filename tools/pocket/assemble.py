"""Put the trained parts together in `s2i_lib/pocket`, as fp16 safetensors, with checksums.

python -m tools.pocket.assemble [--unet FOLDER] [--out FOLDER]
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
from tools.pocket import world
from tools.pocket.training import SHIPPED, work_folder
from tools.pocket.unet import SCHEDULE


def say_float32(config_file: Path) -> None:
    """Make a plain load give float32: transformers would take the stored half precision."""
    config = json.loads(config_file.read_text())
    for part in (config, config.get("text_config", {}), config.get("vision_config", {})):
        if "dtype" in part:
            part["dtype"] = "float32"
    config_file.write_text(json.dumps(config, indent=2) + "\n")


def forget_path(config_file: Path) -> None:
    """Take out where the part lay when it was put in: that is this machine's business."""
    config = json.loads(config_file.read_text())
    config.pop("_name_or_path", None)
    config_file.write_text(json.dumps(config, indent=2) + "\n")


def copy_classic_files(tokenizer: Path, folder: Path) -> None:
    """Put CLIP's own tokenizer files beside tokenizer.json."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(tokenizer / name, folder / name)


def write_parts(pipeline: StableDiffusionPipeline, tokenizer: Path, out: Path) -> None:
    """Write all parts of a pipeline in fp16, with nothing in them of this machine."""
    pipeline.to(torch.float16).save_pretrained(out, safe_serialization=True)
    say_float32(out / "text_encoder" / "config.json")
    for part in ("unet", "vae"):
        forget_path(out / part / "config.json")
    copy_classic_files(tokenizer, out / "tokenizer")


def write_scorer(work: Path, out: Path) -> None:
    """Write the scorer, which has a tokenizer of its own, so it fits whatever lies beside it."""
    shutil.rmtree(out / "scorer", ignore_errors=True)
    shutil.copytree(work / "scorer", out / "scorer")
    scorer = VisionTextDualEncoderModel.from_pretrained(work / "scorer")
    scorer.to(torch.float16).save_pretrained(out / "scorer")
    say_float32(out / "scorer" / "config.json")
    copy_classic_files(work / "tokenizer", out / "scorer")


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
    write_parts(pipeline, work / "tokenizer", out)
    write_scorer(work, out)
    # What was trained here was trained on the whole world, so no word of it is unseen.
    (out / "words.json").write_text(json.dumps(world.known_words(), indent=1) + "\n")
    write_checksums(out, "the package")
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unet", type=Path, default=work_folder() / "unet_branch")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--scorer-only", action="store_true")
    options = parser.parse_args()
    if options.scorer_only:
        write_scorer(work_folder(), options.out)
        write_checksums(options.out, "the package")
    else:
        assemble(options.unet, options.out)


if __name__ == "__main__":
    main()
