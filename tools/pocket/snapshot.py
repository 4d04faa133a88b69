"""Write a small snapshot of all that was trained (fp16 weights), or make the state anew from one.

python -m tools.pocket.snapshot save FOLDER
python -m tools.pocket.snapshot restore FOLDER
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tools.pocket import data, unet, vae
from tools.pocket.training import load_state, save_state, work_folder

JUDGE = "judge.safetensors"


def save(folder: Path) -> None:
    """Write averaged weights, VAE, PCA, tokenizer, judge, scorer and where the training stands."""
    work, state = work_folder(), load_state(work_folder() / "unet_trunk.pt")
    if not state:
        raise SystemExit(f"No training in {work}: unet_trunk.pt is missing.")
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name, _ in _modules().named_parameters()]
    averages = zip(names, state["ema"], strict=True)
    save_file({n: e.half().contiguous() for n, e in averages}, folder / "ema.safetensors")
    vae.load().half().save_pretrained(folder / "vae")
    config = folder / "vae" / "config.json"
    known = json.loads(config.read_text())
    known.pop("_name_or_path", None)  # a folder of this machine
    config.write_text(json.dumps(known, indent=2) + "\n")
    shutil.copytree(work / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    shutil.copy(work / "pca.npz", folder / "pca.npz")
    if trained := load_state(work / "judge.pt"):  # finished: its optimizer is as large twice over
        _save_half(trained["judge"], folder / JUDGE)
    if (work / "scorer").exists():
        shutil.copytree(work / "scorer", folder / "scorer", dirs_exist_ok=True)
        weights = folder / "scorer" / "model.safetensors"
        _save_half(load_file(weights), weights)
    about = {
        "step": state["step"],
        "pictures": state["seen"],
        "scenes": len(data.ready()) * data.SHARD_SIZE,
        "channels": unet.CHANNELS,
        "text": [unet.TEXT_LAYERS, unet.TEXT_WIDTH],
        "batch": unet.BATCH,
        "rates": [unet.MATRIX_LR, unet.VECTOR_LR, unet.EMBEDDING_LR],
        "ema": unet.EMA["trunk"],
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{about} -> {folder}, {size / 1e6:.1f} MB")


def _save_half(weights: dict[str, torch.Tensor], file: Path) -> None:
    small = {n: w.half() if w.is_floating_point() else w for n, w in weights.items()}
    save_file({n: w.contiguous() for n, w in small.items()}, file, {"format": "pt"})


def _modules() -> torch.nn.ModuleDict:
    made, text = unet.make_models()
    return torch.nn.ModuleDict({"unet": made, "text": text})


def restore(folder: Path) -> None:
    """Write `unet_trunk.pt` with the snapshot's weights and an optimizer that remembers nothing."""
    work, about = work_folder(), json.loads((folder / "about.json").read_text())
    for part in ("vae", "tokenizer", "scorer"):
        if (folder / part).exists():
            shutil.copytree(folder / part, work / part, dirs_exist_ok=True)
    shutil.copy(folder / "pca.npz", work / "pca.npz")
    if (folder / JUDGE).exists():
        save_state({"judge": load_file(folder / JUDGE)}, work / "judge.pt")
    shared = unet.make_shared(1)
    averages = load_file(folder / "ema.safetensors")
    with torch.no_grad():
        for i, (name, p) in enumerate(shared.modules.named_parameters()):
            p.copy_(averages[name])
            shared.ema[i].copy_(averages[name])
    state = {"modules": shared.modules.state_dict(), "step": about["step"], "fork": about["step"]}
    state |= {"seen": about["pictures"], "momentum": shared.momentum, "squares": shared.squares}
    save_state(state | {"ema": shared.ema}, work / "unet_trunk.pt")
    unet.save_models(shared.ema, work / "unet_trunk")
    print(f"{work / 'unet_trunk.pt'}: step {about['step']}, {about['pictures']} pictures")


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in ("save", "restore"):
        raise SystemExit(__doc__)
    {"save": save, "restore": restore}[sys.argv[1]](Path(sys.argv[2]))


if __name__ == "__main__":
    main()
