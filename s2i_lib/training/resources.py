"""What training takes of this machine and the Drive, and what is left out where it is too much."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from s2i_lib.training.best_checkpoint import keeps_best
from s2i_lib.training.config import FinetuneOptions, lora_rate
from s2i_lib.training.run import Report, Setup
from s2i_lib.training.storage_plan import GIB, Sizes, choose_storage, room_for
from s2i_lib.training.train_state import find_8bit_fault, find_lora_layers


def count_parameters(pipe: Any, options: FinetuneOptions) -> tuple[int, int]:
    """Count the parameters that are trained, and all those on the device."""
    total = sum(p.numel() for p in pipe.unet.parameters())
    if options.with_text_encoder:
        total += sum(p.numel() for p in pipe.text_encoder.parameters())
    if options.method == "full":
        return total, total
    layers = find_lora_layers(pipe.unet, options.lora_targets)
    additions = options.lora_rank * sum(m.in_features + m.out_features for m in layers)
    return additions, total + additions


# Activations of one image of 512 px in Stable Diffusion's U-Net, in bytes a parameter of the U-Net.
# Fitted to what benchmarks/memory.py counts with fake tensors; benchmarks/README.md has the table.
ACTIVATION_BYTES = {
    # (method, computed in half precision)
    ("full", False): 2.67,
    ("full", True): 1.46,
    ("lora", False): 2.67,  # not counted; frozen layers keep less
    ("lora", True): 1.3,
}
# ... and with gradient checkpointing: what is kept of all blocks, and one block at a time.
CHECKPOINTED_BYTES = {False: 0.33, True: 0.18}


def estimate_memory(
    trained: int, total: int, options: FinetuneOptions, size_px: int
) -> dict[str, float]:
    """Estimate the peak memory of a step on the device in GiB, by what holds it.

    Weights 4 bytes each (frozen ones under half precision: 2), AdamW 8 (in 8 bits: 2) of each that
    is trained. Activations, in proportion to the model, the images and their area, are at their
    most before there are gradients (4 bytes each), and have gone when these are whole: the larger
    of the two counts, except that the gradients of a step's earlier parts are there all along.
    Autocast holds a half-precision copy of trained weights until the backward pass.
    """
    is_half = options.precision != "fp32"
    frozen_bytes = 2 if is_half and options.method == "lora" else 4
    images = options.batch_size // options.accumulation * (2 if options.with_prior else 1)
    area = (size_px / 512) ** 2
    gradients = 4 * trained
    checkpointed = images * area * CHECKPOINTED_BYTES[is_half] * total
    copies = 2 * trained if is_half else 0
    each = ACTIVATION_BYTES[options.method, is_half]
    forward = copies + (
        checkpointed if options.with_checkpointing else images * area * each * total
    )
    there_already = gradients if options.accumulation > 1 else 0
    holders = {
        "weights": 4 * trained + frozen_bytes * (total - trained),
        "optimizer": (2 if options.with_8bit_adam else 8) * trained,
        "mean of weights": 4 * trained * bool(options.ema_decay) * (options.ema_device == "model"),
        "gradients": gradients,
        "activations": max(checkpointed, forward + there_already - gradients),
    }
    return {name: value / GIB for name, value in holders.items() if value}


def estimate_files(trained: int, options: FinetuneOptions, with_best: bool = False) -> Sizes:
    """Estimate what a state takes, and the weights in fp16 of the last and the best step."""
    each = 4 + (2 if options.with_8bit_adam else 8) + (4 if options.ema_decay else 0)
    size = trained / GIB
    return Sizes(state=each * size, weights=2 * size, best=2 * size * with_best)


# ---- What the machine cannot do is replaced before training, and said ----


def settle_options(
    options: FinetuneOptions, device: torch.device, report: Report
) -> FinetuneOptions:
    """Replace what this device cannot do by what it can."""
    if options.precision != "fp32" and device.type != "cuda":
        report(f"Precision {options.precision} needs a CUDA GPU, so this computes in fp32.")
        options = replace(options, precision="fp32")
    if options.precision == "bf16" and torch.cuda.get_device_capability(device) < (8, 0):
        # A T4 says that it supports bf16 and computes it in software, many times slower.
        report("bf16 needs compute capability 8 or more, so this computes in fp16.")
        options = replace(options, precision="fp16")
    if options.with_8bit_adam and (fault := find_8bit_fault(device)):
        report(f"bitsandbytes does not work here ({fault}), so AdamW keeps its state in fp32.")
        options = replace(options, with_8bit_adam=False)
    return options


Rung = tuple[FinetuneOptions, str] | None


def next_rung(options: FinetuneOptions, device: torch.device | str, n_processes: int = 1) -> Rung:
    """Return the next way to need less memory, and its announcement; None at the ladder's foot."""
    n_parts = options.batch_size // n_processes  # of one photo each
    if not options.with_checkpointing:
        return replace(options, with_checkpointing=True), (
            "gradient checkpointing: activations are computed twice, a third more time"
        )
    if options.method == "full" and not options.with_8bit_adam and not find_8bit_fault(device):
        return replace(options, with_8bit_adam=True), "8-bit AdamW"
    if options.accumulation < n_parts:
        return replace(options, accumulation=n_parts), (
            f"one photo at a time, {options.batch_size} in a step: the result stays the same"
        )
    if options.with_text_encoder:
        return replace(options, with_text_encoder=False), (
            "the text encoder is not trained: faces become less alike"
        )
    if options.method == "full":
        return as_lora(options), describe_lora(options)
    return None


def as_lora(options: FinetuneOptions) -> FinetuneOptions:
    """Return the options with LoRA in place of all weights."""
    return replace(
        options,
        method="lora",
        learning_rate=lora_rate(options.learning_rate),
        with_text_encoder=False,
        with_8bit_adam=False,
    )


def describe_lora(options: FinetuneOptions) -> str:
    rate = as_lora(options).learning_rate
    return f"LoRA of rank {options.lora_rank} with learning rate {rate:g}"


def fit_drive(setup: Setup, folder: Path, report: Report) -> FinetuneOptions:
    """Train less where the Drive has no room for it, or none for anything to go on from.

    The text encoder is left out first, then LoRA takes the place of all weights.
    """
    model, options = setup.model, setup.options
    if options.method == "lora":
        return options
    room = room_for(setup.drive, folder)

    def is_safe(wanted: FinetuneOptions) -> bool:
        trained, _ = count_parameters(model.pipeline, wanted)
        sizes = estimate_files(trained, wanted, keeps_best(model.base, wanted))
        storage = choose_storage(sizes, room, wanted.steps, wanted.save_every)
        return storage.fits(room) and storage.is_safe

    lora, unet_alone = as_lora(options), replace(options, with_text_encoder=False)
    fitting = next((way for way in (options, unet_alone, lora) if is_safe(way)), options)
    if fitting == options:
        return options
    what = "all weights of the U-Net but not the text encoder"
    if fitting == lora:
        what = f"{describe_lora(options)}, whose files are small"
    report(
        f"What was to be trained needs more room than the {room.drive:.1f} GiB that are free on "
        f"the Drive and {room.local:.1f} on this disk, if nothing is to be lost when this machine "
        f"goes. So this trains {what}. Free some space first, or ask for method full, to train all."
    )
    return fitting
