"""Put the trained parts together as fp16 safetensors with checksums: a model to load.

python -m tools.pocket.assemble                       # what ships: s2i_lib/pocket, of the branch
python -m tools.pocket.assemble OUT [--unet FOLDER]   # a folder to try, of the trunk so far

OUT is drawn with as any folder is (``python -m s2i_lib speak ... --model OUT``). What is not
trained yet is left out of it (the scorer) or as it begins (the decoder, which shows a thumbnail).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from transformers import VisionTextDualEncoderModel

from s2i_lib.storage.hub import write_checksums
from tools.pocket import samples, words
from tools.pocket.training import SHIPPED, work_folder

PARTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae", "scorer")


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
    shutil.copytree(work / "scorer", out / "scorer")
    scorer = VisionTextDualEncoderModel.from_pretrained(work / "scorer")
    scorer.to(torch.float16).save_pretrained(out / "scorer")
    say_float32(out / "scorer" / "config.json")
    copy_classic_files(work / "tokenizer", out / "scorer")


def is_shipped(out: Path) -> bool:
    return out.resolve() == SHIPPED


def assemble(unet_folder: Path, out: Path) -> None:
    """Write the model to ``out``, in place of the parts that lie there; a model card stays."""
    work = work_folder()
    has_scorer = (work / "scorer").exists()
    if is_shipped(out) and not has_scorer:
        raise SystemExit(f"No scorer in {work}. Train it first: python -m tools.pocket.scorer")
    pipeline = samples.parts(unet_folder)
    for part in PARTS:
        shutil.rmtree(out / part, ignore_errors=True)
    write_parts(pipeline, work / "tokenizer", out)
    if has_scorer:
        write_scorer(work, out)
    (out / "words.json").write_text(json.dumps(words.known_words(), indent=1) + "\n")
    write_checksums(out, "the package")
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--unet", type=Path, help="folder of U-Net and text encoder")
    o = parser.parse_args()
    trained = "unet_branch" if is_shipped(o.out) else "unet_trunk"
    assemble(o.unet or work_folder() / trained, o.out)


if __name__ == "__main__":
    main()
