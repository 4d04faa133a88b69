"""From photos to weights: this library against diffusers' own DreamBooth script.

    python -m benchmarks.against_diffusers PATH/TO/train_dreambooth.py [--steps 200]
    python -m benchmarks.against_diffusers PATH/TO/train_dreambooth.py --full-size   # 20 minutes
    python -m benchmarks.against_diffusers PATH/TO/train_dreambooth.py --cuda        # a GPU: 4

The script is that of the installed version, v0.39.0:examples/dreambooth/train_dreambooth.py of
https://github.com/huggingface/diffusers; its code is no part of this repository. Both sides are a
fresh process with the pocket model, the same crops, 48 class images, 1 photo + 1 class image a step
and no sample pictures; each keeps what it keeps by default in so many steps. CPU seconds decide,
since other programs may run here; one thread each, so that none is spent on waiting.

With --full-size the model is Stable Diffusion 2.1 with random weights, for a few steps of 1 photo
at 512 px without class images. fp32 AdamW does not fit into 24 GiB beside anything else, so both
sides take 8-bit AdamW.

With --cuda it is that model on a GPU as it fits a T4: fp16, 8-bit AdamW, gradient checkpointing,
60 steps of 1 photo + 1 class image of 16. Seconds on the clock, taken when the GPU
is done, decide there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.run_train_dreambooth import now, peak_of_gpu

HERE = Path(__file__).parent
SAVE_EVERY = 500  # the script's --checkpointing_steps, so that neither saves on the way


@dataclass(frozen=True)
class Measured:
    """What one whole process took."""

    total_cpu_s: float
    total_s: float
    class_images_cpu_s: float
    class_images_s: float
    step_cpu_s: float
    """Median from one step to the next."""
    step_s: float
    peak_gib: float
    gpu_gib: float


def run(command: list[str], stamps: Path, sizes: Sizes) -> Measured:
    """Run a process that notes its times in ``stamps``; what it used, read from the system."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(sizes.threads)}
    if not sizes.is_on_gpu:
        environment["ACCELERATE_USE_CPU"] = "true"
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, cwd=HERE.parent)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    noted = json.loads(stamps.read_text())
    class_images = noted.get("class images", [])

    def each_step(clock: int) -> float:
        stamps = [stamp[clock] for stamp in noted["steps"]]
        return statistics.median(b - a for a, b in itertools.pairwise(stamps))

    return Measured(
        total_cpu_s=used.ru_utime + used.ru_stime,
        total_s=seconds,
        class_images_cpu_s=sum(end - began for _, began, _, end in class_images),
        class_images_s=sum(end - began for began, _, end, _ in class_images),
        step_cpu_s=each_step(1),
        step_s=each_step(0),
        peak_gib=used.ru_maxrss * 1024 / 2**30,
        gpu_gib=noted["gpu_gib"],
    )


@dataclass(frozen=True)
class Sizes:
    """What both sides do."""

    model: Path
    size_px: int
    steps: int
    class_images: int
    """0: without prior preservation."""
    with_8bit_adam: bool
    threads: int
    is_on_gpu: bool = False
    """Then in half precision and with gradient checkpointing."""
    learning_rate: float = 1e-4


def ours(work: Path, sizes: Sizes) -> Measured:
    stamps = work / "ours.json"
    (work / "sizes.json").write_text(json.dumps({**vars(sizes), "model": str(sizes.model)}))
    module = "benchmarks.against_diffusers"
    command = [sys.executable, "-m", module, "--child", str(work), str(stamps)]
    return run(command, stamps, sizes)


def theirs(work: Path, script: Path, sizes: Sizes) -> Measured:
    card, stamps = json.loads((work / "subject.json").read_text()), work / "theirs.json"
    options = {
        "pretrained_model_name_or_path": sizes.model,
        "instance_data_dir": work / "crops",
        "instance_prompt": f"a {card['identifier']} {card['class_noun']}",
        "class_data_dir": work / "class",
        "class_prompt": f"a {card['class_noun']}",
        "num_class_images": sizes.class_images,
        "sample_batch_size": 8,
        "resolution": sizes.size_px,
        "train_batch_size": 1,
        "max_train_steps": sizes.steps,
        "learning_rate": sizes.learning_rate,
        "checkpointing_steps": SAVE_EVERY,
        "seed": 0,
        "output_dir": work / "theirs",
    }
    runner = [sys.executable, str(HERE / "run_train_dreambooth.py"), str(stamps), str(script)]
    named = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    flags = ["--with_prior_preservation"] * bool(sizes.class_images)
    flags += ["--use_8bit_adam"] * sizes.with_8bit_adam
    if sizes.is_on_gpu:
        flags += ["--mixed_precision", "fp16", "--gradient_checkpointing"]
    return run([*runner, *named, *flags], stamps, sizes)


def prepare(work: Path) -> None:
    """The sample subject's crops, for either side."""
    import shutil

    from s2i_lib.photos.dataset import build_dataset, sample_subject
    from s2i_lib.storage.layout import Drive

    drive = Drive(work / "drive")
    subject = sample_subject(drive)
    dataset = build_dataset(subject, drive)
    (work / "crops").mkdir()
    for path in dataset.images:
        shutil.copy(path, work / "crops")
    card = {
        "name": subject.name,
        "identifier": subject.identifier,
        "class_noun": subject.class_noun,
    }
    (work / "subject.json").write_text(json.dumps(card))


def child(work: Path, stamps: Path) -> None:
    """Our side, in its own process: photos to weights, noting when things happen."""
    from accelerate import Accelerator

    from s2i_lib.photos.manifest import load_dataset
    from s2i_lib.storage.layout import Drive
    from s2i_lib.training.finetune import FinetuneRun

    drive = Drive(work / "drive")
    noted: dict[str, list] = {"class images": [], "steps": []}

    last: list[float] = []

    def note(event: str, info: dict) -> None:
        nonlocal last
        if event == "class_images":  # the first of them comes before the first batch
            noted["class images"] += [[*last, *now()]] if last else []
            last = now()

    clip = Accelerator.clip_grad_norm_

    def noted_clip(*args, **named):
        began, result = now(), clip(*args, **named)
        noted["steps"].append([*began, *now()])
        return result

    Accelerator.clip_grad_norm_ = noted_clip
    name = json.loads((work / "subject.json").read_text())["name"]
    sizes = Sizes(**json.loads((work / "sizes.json").read_text()))
    FinetuneRun(
        drive,
        load_dataset(drive, name),
        model=str(sizes.model),
        callback=note,
        method="full",
        precision="fp16" if sizes.is_on_gpu else "fp32",
        with_checkpointing=sizes.is_on_gpu,
        with_8bit_adam=sizes.with_8bit_adam,
        with_text_encoder=False,  # as the script has it without --train_text_encoder
        steps=sizes.steps,
        batch_size=1,  # of a photo as it is
        background_prompts=(),
        surroundings_weight=1.0,
        learning_rate=sizes.learning_rate,
        schedule="constant",  # so have the script's class images one prompt, and never none
        class_prompts=("a {noun}",),
        class_dropout=0.0,
        with_prior=bool(sizes.class_images),
        class_image_count=sizes.class_images or None,
        save_every=SAVE_EVERY,
        sample_prompts=(),
        sample_every=0,
    ).train()
    stamps.write_text(json.dumps({**noted, "gpu_gib": peak_of_gpu()}))


def make_full_size(folder: Path) -> None:
    """Stable Diffusion 2.1's configuration with random weights, and the pocket's tokenizer."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTokenizer

    from s2i_lib.models.registry import PACKAGE
    from tests.twin.repositories import REAL, configs_of, make_network

    torch.manual_seed(0)
    StableDiffusionPipeline(
        **{part: make_network(part, config) for part, config in configs_of(REAL, 64).items()},
        tokenizer=CLIPTokenizer.from_pretrained(PACKAGE / "pocket" / "tokenizer"),
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def table(rows: list[tuple[Measured, Measured]]) -> str:
    """Medians over the rounds, and the ratio of each."""
    lines = ["| | train_dreambooth.py | s2i_lib | ratio |", "|---|---|---|---|"]
    for field, text in (
        ("total_cpu_s", "photos to weights, CPU seconds"),
        ("total_s", "photos to weights, seconds on the clock"),
        ("class_images_cpu_s", "class images, CPU seconds"),
        ("class_images_s", "class images, seconds on the clock"),
        ("step_cpu_s", "a step, CPU seconds"),
        ("step_s", "a step, seconds on the clock"),
        ("peak_gib", "peak memory, GiB"),
        ("gpu_gib", "peak memory of the GPU, GiB"),
    ):
        a, b = (statistics.median(getattr(row[side], field) for row in rows) for side in (0, 1))
        if a:  # there are class images, there is a GPU
            lines.append(f"| {text} | {a:.3g} | {b:.3g} | {b / a:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("script", type=Path, nargs="?")
    parser.add_argument("--steps", type=int, help="[default: 200, or 3 of the full size]")
    parser.add_argument("--class-images", type=int, help="[default: 48, or 16 with --cuda]")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--full-size", action="store_true")
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        child(*chosen.child)
        sys.exit()
    pocket = HERE.parent / "s2i_lib" / "pocket"
    measured = []
    for _ in range(chosen.rounds):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            os.environ["S2I_LOCAL"] = f"{folder}/local"
            prepare(work)
            n, some, threads = chosen.steps, chosen.class_images, chosen.threads
            if chosen.cuda or chosen.full_size:
                make_full_size(work / "model")
            if chosen.cuda:
                sizes = Sizes(work / "model", 512, n or 60, some or 16, True, threads, True)
            elif chosen.full_size:
                sizes = Sizes(work / "model", 512, n or 3, 0, True, threads)
            else:
                sizes = Sizes(pocket, 64, n or 200, some or 48, False, threads)
            measured.append((theirs(work, chosen.script, sizes), ours(work, sizes)))
    print(table(measured))
