"""Write the weighted mean of a GPU's weights and of what was trained on from them.

    python -m tools.pocket.mix ema.safetensors FOLDER SHARE OUT

FOLDER, as `unet.py branch --from` leaves it, has a SHARE of it; 0 writes the GPU's alone. OUT is a
folder of U-Net and text encoder for `assemble.py --unet`.

Source: Wortsman et al. 2022 (arXiv:2109.01903), there of a model before and after fine-tuning.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

FILES = {
    "unet.": Path("unet/diffusion_pytorch_model.safetensors"),
    "text.": Path("text_encoder/model.safetensors"),
}


def mix(ema: Path, folder: Path, share: float, out: Path) -> None:
    """Write the mean of two trainings' weights, of which the folder's have a share."""
    weights = load_file(ema)
    for prefix, file in FILES.items():
        trained = load_file(folder / file)
        shutil.copytree((folder / file).parent, (out / file).parent, dirs_exist_ok=True)
        # What is no parameter, such as the numbers of places in a sentence, is as it is in both.
        made = {
            name: torch.lerp(weights[prefix + name].to(w), w, share)
            if prefix + name in weights
            else w
            for name, w in trained.items()
        }
        save_file(made, out / file, {"format": "pt"})


def main() -> None:
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    ema, folder, share, out = sys.argv[1:]
    mix(Path(ema), Path(folder), float(share), Path(out))


if __name__ == "__main__":
    main()
