"""Trial steps: real ones on a copy say what fits a GPU, and the seconds that one takes."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from s2i_lib.distributed import from_main
from s2i_lib.errors import S2iError
from s2i_lib.models.devices import free_memory
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.data import Moments, TrainingData
from s2i_lib.training.dreambooth import Losses, deterministic, train
from s2i_lib.training.resources import count_parameters, estimate_memory, next_rung
from s2i_lib.training.run import Report, Setup
from s2i_lib.training.storage_plan import GIB
from s2i_lib.training.train_state import make_train_state

if TYPE_CHECKING:
    from accelerate import Accelerator

    from s2i_lib.models.loading import Model

ROOM_GIB = 1.0  # for fragments and cuDNN's workspaces; on an H200 both took 0.2 above the estimate
PROBE_STEPS = 2  # AdamW makes its state in the first, so that the second is the peak


def try_steps(setup: Setup) -> tuple[Setup, float]:
    """Find by real steps what fits every process's device, and the seconds that one takes."""

    def probe(trial: FinetuneOptions) -> float:
        if is_tight(setup.model, trial, free_memory(setup.device)):
            raise TightError
        return probe_steps(setup.model, trial, setup.accelerator)

    options, seconds = descend(setup.options, probe, setup.accelerator, setup.report)
    return replace(setup, options=options), seconds


class TightError(torch.OutOfMemoryError):
    """A step is not tried, since it would fit too narrowly."""


def is_tight(model: Model, options: FinetuneOptions, free: int) -> bool:
    """Return whether a step without gradient checkpointing would leave less than ``ROOM_GIB`` free.

    Such a run may pass two trial steps and end in a full GPU an hour later. With checkpointing the
    trial steps alone decide: there is little left to change.
    """
    if options.with_checkpointing:
        return False
    counts = count_parameters(model.pipeline, options)
    needed = sum(estimate_memory(*counts, options, model.base.size_px).values())
    return needed + ROOM_GIB > free / GIB


def descend(
    options: FinetuneOptions,
    probe: Callable[[FinetuneOptions], float],
    accelerator: Accelerator,
    report: Report,
) -> tuple[FinetuneOptions, float]:
    """Try real steps, one rung down whenever memory runs out; what works, seconds a step.

    Raises
    ------
    S2iError
        When even the last rung does not fit.
    """
    from accelerate.utils import gather_object

    while True:
        seconds, failure = 0.0, None
        try:
            seconds = probe(options)
        except torch.OutOfMemoryError as error:
            failure = error.with_traceback(None)  # its frames would keep what filled the memory
        # The GPU with the least memory decides, and none waits for one that has gone down alone.
        if not any(gather_object([failure is not None])):
            return options, seconds
        rung = next_rung(options, accelerator.device, accelerator.num_processes)
        rung = from_main(accelerator, rung)  # bitsandbytes may work in one process only
        if rung is None:
            raise S2iError(
                "Memory runs out even with LoRA, gradient checkpointing and one photo at a time. "
                "End other programs on this GPU (Runtime > Restart session), or choose a smaller "
                "model."
            ) from failure
        options, sentence = rung
        why = (
            f"A step would leave less than {ROOM_GIB:g} GiB of memory"
            if isinstance(failure, TightError)
            else "A trial step ran out of memory"
        )
        report(f"{why}. Before training begins: {sentence}.")


def probe_steps(model: Model, options: FinetuneOptions, accelerator: Accelerator) -> float:
    """Train a copy for two steps on noise; return the seconds that the second one took."""
    pipe, device = model.pipeline, accelerator.device
    trial = SimpleNamespace(
        unet=trial_copy(pipe.unet, device),
        text_encoder=trial_copy(pipe.text_encoder, device),
        scheduler=pipe.scheduler,
    )
    data = trial_data(pipe, options)
    stamps: list[float] = []

    def stamp(step: int, losses: Losses) -> None:
        losses.instance.item()
        stamps.append(time.monotonic())

    state = None
    try:
        state = make_train_state(trial, options, device)
        with deterministic(options.is_deterministic):
            train(state, data, replace(options, steps=PROBE_STEPS), accelerator, stamp)
    finally:
        del state, trial
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return stamps[-1] - stamps[-2]


def trial_data(pipe: Any, options: FinetuneOptions) -> TrainingData:
    """Make data that say nothing, in the shapes of the run's: for steps that tell a time."""
    size = pipe.unet.config.sample_size
    latents = torch.zeros(1, pipe.unet.config.in_channels, size, size)
    # At most as many prompts as a batch of the run may have: each is encoded in a step.
    n = min(options.batch_size, sum(row.count("|") + 1 for row in options.class_prompts))
    tokens = torch.zeros(n + 2, pipe.tokenizer.model_max_length, dtype=torch.long)
    return TrainingData(
        instances=Moments(latents, latents),
        mirrored=None,
        class_latents=latents.repeat(n, 1, 1, 1) if options.with_prior else None,
        tokens=tokens,
        embeddings=torch.zeros(*tokens.shape, pipe.unet.config.cross_attention_dim),
        class_rows=range(1, n + 1),
    )


def trial_copy(module: torch.nn.Module, device: torch.device) -> Any:
    """Make a copy to train on ``device``, which has no weights of its own until they move there.

    Stable Diffusion a second time in fp32 would leave little of the 12.7 GiB that Colab has.
    """
    shared = {}
    for weight in module.parameters():
        data = weight.detach().clone() if weight.device == device else weight.detach()
        shared[id(weight)] = torch.nn.Parameter(data, weight.requires_grad)
    return copy.deepcopy(module, shared)
