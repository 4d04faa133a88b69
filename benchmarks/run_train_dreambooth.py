"""Runs diffusers' examples/dreambooth/train_dreambooth.py as it is, and notes when things happen.

    python benchmarks/run_train_dreambooth.py STAMPS.json train_dreambooth.py ITS ARGUMENTS...

The script needs five of torchvision's transforms; where torchvision is missing, these stand in.
They are put in place after transformers was imported, which would otherwise believe in the rest.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import random
import runpy
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch


class Compose:
    def __init__(self, steps: list) -> None:
        self.steps = steps

    def __call__(self, image: Any) -> Any:
        for step in self.steps:
            image = step(image)
        return image


class Resize:
    """The shorter side to ``size``."""

    def __init__(self, size: int, interpolation: int) -> None:
        self.size, self.interpolation = size, interpolation

    def __call__(self, image: Any) -> Any:
        scale = self.size / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        return image.resize((width, height), self.interpolation)


class RandomCrop:
    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Any) -> Any:
        left, top = (random.randint(0, side - self.size) for side in image.size)
        return image.crop((left, top, left + self.size, top + self.size))


class ToTensor:
    def __call__(self, image: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


class Normalize:
    def __init__(self, mean: list[float], std: list[float]) -> None:
        (self.mean,), (self.std,) = mean, std

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return (image - self.mean) / self.std


def stand_in_for_torchvision() -> None:
    """Where it is missing, modules with just these transforms."""
    if importlib.util.find_spec("torchvision") is not None:
        return
    import diffusers  # noqa: F401  (looks for torchvision when it is imported)
    import transformers  # noqa: F401
    from PIL import Image

    whole, transforms = ModuleType("torchvision"), ModuleType("torchvision.transforms")
    for module in (whole, transforms):
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
        sys.modules[module.__name__] = module
    for part in (Compose, Resize, RandomCrop, ToTensor, Normalize):
        setattr(transforms, part.__name__, part)
    transforms.InterpolationMode = Image.Resampling
    whole.transforms = transforms


def now() -> list[float]:
    """Seconds on the clock and of the CPU, once the GPU has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return [time.perf_counter(), time.process_time()]


def peak_of_gpu() -> float:
    """The most that PyTorch held of the GPU in this process, in GiB."""
    return torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_initialized() else 0.0


def note_times(stamps: dict[str, Any]) -> None:
    """Have the pipeline's calls and each step's clipping noted, when they began and ended."""
    from accelerate import Accelerator
    from diffusers import StableDiffusionPipeline

    def noted(function, name):
        def call(*args, **named):
            began = now()
            result = function(*args, **named)
            stamps.setdefault(name, []).append([*began, *now()])
            return result

        return call

    pipeline: Any = StableDiffusionPipeline
    pipeline.__call__ = noted(pipeline.__call__, "class images")
    accelerator: Any = Accelerator
    accelerator.clip_grad_norm_ = noted(accelerator.clip_grad_norm_, "steps")


if __name__ == "__main__":
    stamps: dict[str, Any] = {}
    stand_in_for_torchvision()
    note_times(stamps)
    out, script, *arguments = sys.argv[1:]
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
    Path(out).write_text(json.dumps({**stamps, "gpu_gib": peak_of_gpu()}))
