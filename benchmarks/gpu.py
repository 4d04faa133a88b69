"""A whole run at the size of Stable Diffusion 2.1 on a CUDA GPU, held to the memory of a T4.

    python -m benchmarks.gpu [--gib 14] [--steps 40] [--class-images 16] [--option NAME=VALUE ...]
                             [--scorer]

The sample subject, the defaults of a T4 (full fine-tuning, fp16, 8-bit AdamW, 1 + 1 images of
512 px), random weights (`against_diffusers.make_full_size`), so that nothing is said of
the pictures. PyTorch gets no more than --gib of the GPU, and the attention kernels that need a
newer card than a T4 are switched off; its speed cannot be had that way. With --scorer a CLIP
ViT-L/14, random as well, lies on the Drive and watches the run. Afterwards the run is drawn with in
fp16, one picture and four at a time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.against_diffusers import make_full_size
from s2i_lib.training.storage_plan import GIB


class Gauge:
    """Peaks by stage: of the GPU's memory, and of this process's own."""

    def __init__(self) -> None:
        self.gpu_gib: dict[str, float] = {}
        self.ram_gib: dict[str, float] = {}
        self.stage = "photos encoded, trial steps"
        self.is_over = False
        self.step_stamps: list[tuple[int, float]] = []
        threading.Thread(target=self._watch_ram, daemon=True).start()

    def enter(self, stage: str) -> None:
        peak = torch.cuda.max_memory_reserved() / GIB
        self.gpu_gib[self.stage] = max(peak, self.gpu_gib.get(self.stage, 0.0))
        if stage != self.stage:
            self.stage = stage
            torch.cuda.reset_peak_memory_stats()

    def watch(self, event: str, info: dict) -> None:
        """What ``finetune`` tells."""
        if event == "class_images":
            self.enter("class images, first samples")
        elif event == "samples":
            self.enter("training, samples, saving")
        elif event == "step":
            torch.cuda.synchronize()
            self.step_stamps.append((info["lines"][-1]["step"], time.perf_counter()))

    def _watch_ram(self) -> None:
        """Not counting what a file on the disk stands behind, as behind mapped weights."""
        while not self.is_over:
            text = Path("/proc/self/status").read_text()
            gib = int(text.split("RssAnon:")[1].split()[0]) / 2**20
            self.ram_gib[self.stage] = max(gib, self.ram_gib.get(self.stage, 0.0))
            time.sleep(0.05)


@contextmanager
def held_to(gib: float) -> Iterator[None]:
    """As a card of that memory and of a T4's generation, whose attention is the older one."""
    total = torch.cuda.get_device_properties(0).total_memory / GIB
    torch.cuda.set_per_process_memory_fraction(min(1.0, gib / total))
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.backends.cuda.enable_flash_sdp(True)
        torch.backends.cuda.enable_cudnn_sdp(True)


def make_scorer(folder: Path) -> None:
    """CLIP ViT-L/14's configuration in fp32, as the hub's, with random weights."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    from s2i_lib.models.registry import PACKAGE

    text = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "projection_dim": 768,
    }
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "projection_dim": 768,
    }
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=768)
    CLIPModel(config).save_pretrained(folder)
    CLIPTokenizer.from_pretrained(PACKAGE / "pocket" / "tokenizer").save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "CLIPImageProcessor",
                "do_center_crop": True,
                "size": {"shortest_edge": 224},
                "crop_size": {"height": 224, "width": 224},
                "image_mean": [0.48145466, 0.4578275, 0.40821073],
                "image_std": [0.26862954, 0.26130258, 0.27577711],
            }
        )
    )


def measure(
    work: Path, steps: int, class_images: int, changes: dict, with_scorer: bool = False
) -> dict:
    """Photos to weights, then pictures; see the module."""
    from s2i_lib.drawing import sampling
    from s2i_lib.drawing.draw import draw
    from s2i_lib.models import loading
    from s2i_lib.models.registry import REGISTRY
    from s2i_lib.photos.dataset import build_dataset, sample_subject
    from s2i_lib.storage.files import size_of
    from s2i_lib.storage.layout import Drive, folder_name
    from s2i_lib.training.finetune import finetune

    os.environ["S2I_LOCAL"] = str(work / "local")
    with ProcessPoolExecutor(1, get_context("spawn")) as other:  # its memory is not of the run
        other.submit(make_full_size, work / "model", is_half=True).result()
        drive = Drive(work / "drive")
        if with_scorer:
            scorer = REGISTRY["sd2.1-base"].scorer or ""
            other.submit(make_scorer, drive.models / folder_name(scorer)).result()
    dataset = build_dataset(sample_subject(drive), drive)
    gauge, said = Gauge(), []
    began = time.perf_counter()
    options = {
        "steps": steps,
        "class_image_count": class_images,
        "save_every": max(1, steps // 2),
        "sample_every": max(1, steps // 2),
        "sample_prompts": ("a {subject}", "a {noun}"),
        **changes,
    }
    torch.cuda.reset_peak_memory_stats()
    run = finetune(
        drive, dataset, model=str(work / "model"), watch=gauge.watch, report=said.append, **options
    )
    gauge.enter("drawing")
    left_gib = torch.cuda.memory_reserved() / GIB
    total_s = time.perf_counter() - began
    between = [
        (then - now) / (b - a)
        for (a, now), (b, then) in itertools.pairwise(gauge.step_stamps)
        if b - a == 10  # read in tens; the others end at a picture or a state
    ]
    card = json.loads((run / "run.json").read_text())
    drawn = {}
    model = loading.load("auto", run=str(run), drive=drive)
    model.hashes()
    for count in (1, 4):
        torch.cuda.reset_peak_memory_stats()
        settings = sampling.DrawOptions(count=count, seed=0)
        draw(model, "a ohwx car on a beach", settings)
        began = time.perf_counter()
        draw(model, "a ohwx car on a beach", settings)
        drawn[f"{count} pictures"] = {
            "s": round(time.perf_counter() - began, 2),
            "GiB": round(torch.cuda.max_memory_reserved() / GIB, 2),
        }
    gauge.is_over = True
    return {
        "gpu": torch.cuda.get_device_name(),
        "said": said,
        "options": {k: card["options"][k] for k in ("method", "precision", "with_8bit_adam")},
        "peak of the GPU, GiB": {k: round(v, 2) for k, v in gauge.gpu_gib.items()},
        "left on the GPU after the run, GiB": round(left_gib, 2),
        "peak of main memory, GiB": {k: round(v, 2) for k, v in gauge.ram_gib.items()},
        "seconds a step, median": round(statistics.median(between), 3) if between else None,
        "photos to weights, s": round(total_s, 1),
        "run on the Drive, GiB": round(size_of(run) / GIB, 2),
        "drawing in fp16 (20 steps)": drawn,
        "registry says drawing needs, GiB": REGISTRY["sd2.1-base"].gpu_gib,
    }


if __name__ == "__main__":
    from s2i_lib.training.config import parse_options

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gib", type=float, default=14.0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--class-images", type=int, default=16)
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--scorer", action="store_true", help="a CLIP of full size watches the run")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, held_to(chosen.gib):
        figures = measure(
            Path(folder),
            chosen.steps,
            chosen.class_images,
            parse_options(chosen.option),
            chosen.scorer,
        )
    print(json.dumps(figures, indent=1))
