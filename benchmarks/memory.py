"""The plan's memory estimate against PyTorch's own count, for Stable Diffusion 2.1's whole U-Net.

    python -m benchmarks.memory [--settings NAME...] [--out FILE] [--cuda | --saving]

Fake tensors run a training step of all 866 million parameters without their weights, and
torch.distributed's MemTracker counts what is held at its peak. Half precision is CPU autocast made
to compute the norms in fp32, as CUDA's does. bitsandbytes cannot run on fake tensors: its state is
counted as 2 bytes a parameter in place of 8.

With --cuda the plan's own trial steps run on the GPU instead, and the most that its tensors took
there is measured.

With --saving a state of that size, with 8-bit AdamW's tables, is saved, restored and made into
weights to draw with, on this CPU: the most of main memory that each took on top. Needs 7 GiB of
memory and of the disk.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.gpu import own_gib
from s2i_lib.training import checkpoint
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.finetune import make_accelerator
from s2i_lib.training.resources import count_parameters, estimate_memory
from s2i_lib.training.storage_plan import GIB
from s2i_lib.training.train_state import add_lora, make_optimizer
from s2i_lib.training.trial import probe_steps

log = logging.getLogger(__name__)
TOKENS = 77
T4 = FinetuneOptions(precision="fp16", with_8bit_adam=True)
CHECKPOINTED = replace(T4, with_checkpointing=True)
LORA = FinetuneOptions(precision="fp16", method="lora")
SETTINGS = {
    "full, fp32, AdamW, 1 + 1 images": FinetuneOptions(),
    "full, fp32, AdamW, checkpointing, 1 + 1": FinetuneOptions(with_checkpointing=True),
    "full, fp16, 8-bit AdamW, 1 + 1 (a T4's)": T4,
    "full, fp16, 8-bit AdamW, checkpointing, 1 + 1": CHECKPOINTED,
    "full, fp16, 8-bit AdamW, checkpointing, 2 + 2": replace(CHECKPOINTED, batch_size=2),
    "LoRA, fp16, AdamW, 1 + 1": LORA,
    "LoRA, fp16, AdamW, checkpointing, 1 + 1": replace(LORA, with_checkpointing=True),
}


@contextmanager
def norms_in_fp32() -> Iterator[None]:
    """What CUDA's autocast does and the CPU's does not."""
    import torch.nn.functional as F

    originals = {name: getattr(F, name) for name in ("group_norm", "layer_norm")}

    def in_fp32(function):
        def norm(x, *rest, **named):
            with torch.autocast("cpu", enabled=False):
                single = [r.float() if isinstance(r, torch.Tensor) else r for r in rest]
                return function(x.float(), *single, **named)

        return norm

    for name, function in originals.items():
        setattr(F, name, in_fp32(function))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(F, name, function)


@contextmanager
def nothing_moves() -> Iterator[None]:
    """PEFT moves new layers to where they are already, which fake parameters do not survive."""
    module: Any = torch.nn.Module
    to = module.to
    module.to = lambda self, *arguments, **named: self
    try:
        yield
    finally:
        module.to = to


def make_unet(side: int, dtype: torch.dtype | None = None) -> Any:
    """Stable Diffusion 2.1's U-Net, built in ``dtype``: fake parameters cannot be converted."""
    from diffusers import UNet2DConditionModel

    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype or usual)
    try:
        return UNet2DConditionModel(
            sample_size=side,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
        )
    finally:
        torch.set_default_dtype(usual)


def measure(options: FinetuneOptions, size_px: int = 512) -> tuple[float, int, int]:
    """Peak of one step in GiB, parameters trained, and all of them.

    The optimizer has its state already, as in every step but the first.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    side = size_px // 8
    is_half = options.precision != "fp32"
    with FakeTensorMode():
        unet = make_unet(side, torch.float16 if is_half and options.method == "lora" else None)
        unet.requires_grad_(options.method == "full").eval()
        if options.method == "lora":
            with nothing_moves():
                add_lora(unet, options)
        if options.with_checkpointing:
            unet.enable_gradient_checkpointing()
        parameters = [p for p in unet.parameters() if p.requires_grad]
        optimizer = make_optimizer(parameters, replace(options, with_8bit_adam=False))
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        images = options.batch_size // options.accumulation * (2 if options.with_prior else 1)
        latents = torch.randn(images, 4, side, side)
        prompts = torch.randn(images, TOKENS, 1024)
        times = torch.zeros(images, dtype=torch.long)

        tracker = MemTracker()
        nothing = SimpleNamespace(remove=lambda: None)
        for parameter in unet.parameters():
            if not parameter.requires_grad:  # it would ask for a gradient hook, as of all others
                tracker._param_to_grad_hook_handles[parameter] = (nothing, nothing)
        tracker.track_external(unet, optimizer, latents, prompts, times)
        with tracker, norms_in_fp32():
            with torch.autocast("cpu", torch.float16, enabled=is_half):
                loss = (unet(latents, times, prompts).sample.float() - latents).square().mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, options.gradient_clip)
            optimizer.step()
        (device,) = tracker.get_tracker_snapshot("peak").values()
        peak = device["Total"]
        log.info({getattr(k, "value", k): round(v / GIB, 2) for k, v in device.items()})
    trained = sum(p.numel() for p in parameters)
    total = sum(p.numel() for p in unet.parameters())
    if options.with_8bit_adam:
        peak -= (8 - 2) * trained
    return peak / GIB, trained, total


def measure_on_gpu(options: FinetuneOptions, size_px: int = 512) -> tuple[float, int, int]:
    """As `measure`, of real steps on the GPU."""
    from diffusers import DDIMScheduler

    pipe: Any = SimpleNamespace(
        unet=make_unet(size_px // 8),
        text_encoder=torch.nn.Linear(1, 1),  # its prompts are encoded before
        scheduler=DDIMScheduler(beta_schedule="scaled_linear"),
        tokenizer=SimpleNamespace(model_max_length=TOKENS),
    )
    accelerator = make_accelerator(options.precision)
    torch.cuda.reset_peak_memory_stats()
    probe_steps(SimpleNamespace(pipeline=pipe), options, accelerator)
    return torch.cuda.max_memory_allocated() / GIB, *count_parameters(pipe, options)


class Gauge:
    """The most of this process's own memory, in GiB, that was seen since it began."""

    def __init__(self) -> None:
        self.peak_gib, self.is_over = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Gauge:
        self.before_gib = own_gib()
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.is_over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.is_over.wait(0.02):
            self.peak_gib = max(self.peak_gib, own_gib())


def saving_table() -> Iterator[str]:
    """What saving and restoring Stable Diffusion 2.1's U-Net takes of main memory on top of it."""
    unet = make_unet(64)
    parameters = {f"unet.{name}": p for name, p in unet.named_parameters()}
    tables: Any = defaultdict(dict)  # as an optimizer's
    for p in parameters.values():
        for name in ("state1", "state2"):
            tables[p][name] = torch.zeros(p.shape, dtype=torch.uint8).random_()
    optimizer = SimpleNamespace(state=tables, param_groups=[{}])
    train_state: Any = SimpleNamespace(
        unet=unet, text_encoder=None, parameters=parameters, ema={}, step=1, optimizer=optimizer
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        state = place / "state-00000001"
        work = {
            "a state saved": lambda: checkpoint.save_state(
                checkpoint.take_snapshot(train_state, {}), place
            ),
            "the weights saved": lambda: checkpoint.save_weights(
                train_state, T4, place / "weights"
            ),
            "the state restored": lambda: checkpoint.restore(train_state, state),
        }
        yield "| what | held before, GiB | more at its peak, GiB | seconds |"
        yield "|---|---|---|---|"
        for name, function in work.items():
            began = time.perf_counter()
            with Gauge() as gauge:
                function()
            seconds = time.perf_counter() - began
            more = max(0.0, gauge.peak_gib - gauge.before_gib)
            yield f"| {name} | {gauge.before_gib:.2f} | {more:.2f} | {seconds:.0f} |"


def table(names: list[str], is_on_gpu: bool = False) -> Iterator[str]:
    how = f"on {torch.cuda.get_device_name()}" if is_on_gpu else "counted"
    yield f"| setting, 512 px | {how}, GiB | estimated, GiB | estimate / {how} |"
    yield "|---|---|---|---|"
    for name in names:
        seen, trained, total = (measure_on_gpu if is_on_gpu else measure)(SETTINGS[name])
        parts = estimate_memory(trained, total, SETTINGS[name], 512)
        estimated = sum(parts.values())
        yield f"| {name} | {seen:.2f} | {estimated:.2f} | {estimated / seen:.2f} |"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), help="some of them")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--cuda", action="store_true", help="measure on the GPU")
    parser.add_argument("--saving", action="store_true", help="measure what saving takes instead")
    chosen = parser.parse_args()
    lines = []
    for line in saving_table() if chosen.saving else table(chosen.settings, chosen.cuda):
        print(line, flush=True)
        lines.append(line)
    if chosen.out:
        chosen.out.write_text("\n".join(lines) + "\n")
