"""Where the minutes of a run go, on paper: what a GPU that others have measured should take.

Nothing here was measured by this project, and nothing on a T4 at all. Each part is a count, times
the least and the most seconds of one as published. A step that was measured takes the place of
those on paper. benchmarks/README.md has the tables that come of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from s2i_lib.drawing.sampling import DrawOptions
from s2i_lib.models.registry import BaseModel
from s2i_lib.training import callbacks, class_images
from s2i_lib.training.callbacks import SAMPLES_A_ROW
from s2i_lib.training.config import FinetuneOptions

Range = tuple[float, float]
"""The least and the most, in seconds."""


@dataclass(frozen=True)
class Speed:
    """What a GPU needs for pictures of 512 px, in seconds, with Stable Diffusion's U-Net."""

    evaluation_s: Range
    """The U-Net once on one picture, in half precision."""
    step_s: Range
    """A step of one photo and one class image: the U-Net in half precision, 8-bit AdamW."""
    step_with_checkpointing_s: Range
    lora_step_s: Range
    text_encoder_s: Range
    """What it adds to a step where it is trained."""
    decode_s: Range
    """The VAE once, in fp32."""


# U-Net: diffusers' docs (optimization/torch2.0, 2023) have a T4 at 6.9 iterations a second for one
# picture of Stable Diffusion 1.5 and 1.79 for four, with guidance: 13.8 and 14.3 evaluations a
# second, in fp16. SD 2.1's U-Net has the same 0.80 TFLOP an evaluation (counted by PyTorch). Under
# autocast, as here, Lambda's benchmark took a quarter more (lambdalabs.com/blog/
# inference-benchmark-stable-diffusion, 2022).
# Steps: ShivamShrirao's table for a T4 (README of github.com/ShivamShrirao/diffusers,
# examples/dreambooth): fp16, 8-bit Adam, one photo and one class image, the text encoder trained:
# 1.14 steps a second, 0.93 with checkpointing. That is the most; the least is what this loop took
# of the seconds of diffusers' script on an H200, 0.72 (benchmarks/README.md).
# LoRA: no source for a T4. By arithmetic: a backward pass without gradients of weights costs one
# forward pass and not two, so 4 evaluations in place of 6, and no large optimizer.
# Text encoder: 0.34 billion parameters see 2 x 77 tokens, 0.3 TFLOP forward and backward, and its
# optimizer reads and writes 16 bytes of each at 320 GB/s (NVIDIA's data sheet): 17 ms and up.
# VAE: 2.5 TFLOP (counted) at half to four fifths of the 8.1 TFLOPS in fp32 of the data sheet.
_T4 = Speed(
    evaluation_s=(0.070, 0.095),
    step_s=(0.63, 0.88),
    step_with_checkpointing_s=(0.77, 1.08),
    lora_step_s=(0.35, 0.55),
    text_encoder_s=(0.03, 0.10),
    decode_s=(0.39, 0.62),
)
SPEEDS = {"Tesla T4": _T4}
"""By what CUDA calls the GPU."""

SAVE_S: Range = (15, 50)
"""While a state of 5 GiB is written to Colab's disk, at 100 to 350 MB a second; its copy to the
Drive is in the background. A guess."""


def seconds_of_run(
    options: FinetuneOptions,
    size_px: int,
    speed: Speed,
    seconds_a_step: float | None = None,
    from_step: int = 0,
) -> dict[str, Range]:
    """Return the parts of what is left of a run, without loading and downloads.

    Parameters
    ----------
    seconds_a_step : float, optional
        Measured; it takes the place of what is on paper.
    from_step : int, optional
        That it goes on from; class images are there then, and samples of step 0.
    """
    n_steps = max(0, options.steps - from_step)
    area = (size_px / 512) ** 2  # attention grows faster than this, and is a small part
    n_class_images = options.class_image_count if options.with_prior and not from_step else 0
    step = _times(_step(options, speed), area)
    if seconds_a_step is not None:
        step = seconds_a_step, seconds_a_step
    n_samplings = (not from_step) + -(-n_steps // (options.sample_every or options.steps))
    n_samples = n_samplings * SAMPLES_A_ROW * len(options.sample_prompts)
    sample = total(_times(speed.evaluation_s, evaluations(callbacks.SAMPLING)), speed.decode_s)
    every = options.save_every or -(-options.steps // 4)  # as storage.py has it for states so large
    n_saves = -(-n_steps // every) if options.method == "full" else 0
    parts = {
        "class images": _times(
            speed.evaluation_s, evaluations(class_images.SAMPLING) * n_class_images * area
        ),
        "steps": _times(step, n_steps),
        "samples": _times(sample, n_samples * area),
        "saves": _times(SAVE_S, n_saves),
    }
    return {name: span for name, span in parts.items() if span[1]}


def evaluations(options: DrawOptions) -> int:
    """Count those of the U-Net for a picture: a guided step takes two."""
    low, high = options.guidance_interval or (0.0, 1.0)
    steps = options.steps or BaseModel.steps  # that of the models that have a GPU
    levels = [1 - index / steps for index in range(steps)]
    return steps + sum(low <= level <= high for level in levels)


def _step(options: FinetuneOptions, speed: Speed) -> Range:
    """One step of one GPU, in proportion to the images of its batch."""
    share = options.batch_size * (1.0 if options.with_prior else 0.5)
    if options.method == "lora":
        more = 4 / 3 if options.with_checkpointing else 1.0  # a forward pass more
        return _times(speed.lora_step_s, share * more)
    step = speed.step_with_checkpointing_s if options.with_checkpointing else speed.step_s
    step = _times(step, share)
    return total(step, speed.text_encoder_s) if options.with_text_encoder else step


def total(*parts: Range) -> Range:
    """Add up all parts."""
    return sum(low for low, _ in parts), sum(high for _, high in parts)


def in_minutes(span: Range) -> str:
    """Say "12 to 17 minutes"; of a minute or less "1 minute", of equal ends one number."""
    low, high = (max(1, round(seconds / 60)) for seconds in span)
    if low == high:
        return f"{low} minute{'s' * (low > 1)}"
    return f"{low} to {high} minutes"


def explain(
    options: FinetuneOptions,
    size_px: int,
    device: str,
    measured_s: float | None,
    from_step: int = 0,
) -> str:
    """Say for the plan how long it takes on a GPU of which something is known; else nothing."""
    speed = SPEEDS.get(device)
    if speed is None:
        return ""
    parts = seconds_of_run(options, size_px, speed, measured_s, from_step)
    listed = ", ".join(f"{name} {in_minutes(span)}" for name, span in parts.items())
    steps = "on paper" if measured_s is None else f"steps measured, {measured_s:.2g} s each"
    kept = "; class images that are kept take none" * ("class images" in parts)
    return f"about {in_minutes(total(*parts.values()))} ({listed}; {steps}{kept})"


def _times(span: Range, factor: float) -> Range:
    return span[0] * factor, span[1] * factor
