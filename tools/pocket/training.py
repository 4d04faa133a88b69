"""What the recipe's scripts share: where their state lives, and how a run is resumed."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parents[1] / "s2i_lib" / "pocket"


def work_folder() -> Path:
    """Return the folder of everything that is made on the way (S2I_POCKET_WORK overrides it)."""
    folder = Path(os.environ.get("S2I_POCKET_WORK", HERE / ".work"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def steps_asked(about: str | None, default: int) -> int:
    """Return how many steps the command line of a script asks for."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("steps", type=int, nargs="?", default=default)
    return parser.parse_args().steps


def save_state(state: dict, path: Path) -> None:
    """Write a checkpoint so that a kill at any moment leaves a whole one behind; keep two."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    if path.exists():
        path.replace(_before(path))
    temporary.replace(path)


def _before(path: Path) -> Path:
    return path.with_suffix(".before" + path.suffix)


def load_state(path: Path) -> dict | None:
    """Return the newest checkpoint; between two renamings that is the one before."""
    for file in (path, _before(path)):
        if file.exists():
            return torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    return None


def cosine(step: int, total: int, warmup: int = 50, floor: float = 0.02) -> float:
    """Return the share of the peak learning rate at `step` of `total`: warm-up, then a cosine."""
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
    return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * fall)


def as_tensor(pictures: np.ndarray, device: torch.device | None = None) -> torch.Tensor:
    """Turn uint8 pictures (n, height, width, 3) into floats in [-1, 1], (n, 3, height, width)."""
    batch = torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2)
    return batch.float().div_(127.5).sub_(1)


def psnr_db(made: torch.Tensor, real: torch.Tensor) -> float:
    """Return the mean over pictures of the peak signal-to-noise ratio, for values in [-1, 1]."""
    error = ((made.float().clamp(-1, 1) - real) / 2).pow(2).mean((1, 2, 3))
    return float((-10 * torch.log10(error)).mean())
