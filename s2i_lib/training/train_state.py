"""A model in training: what changes in it, the optimizer, a running mean of the weights.

The mean is not diffusers' EMAModel: that keeps a second copy of the trained weights in main memory
while samples are drawn, which Colab has no room for, and cannot keep the mean on the CPU while the
model trains on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from s2i_lib.errors import InputError
from s2i_lib.models.building import building
from s2i_lib.models.lora import ready_peft
from s2i_lib.training.config import FinetuneOptions

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


@dataclass
class TrainState:
    """A model in training: the networks, the parameters that change, their optimizer, the step."""

    unet: Any
    text_encoder: Any
    alphas_cumprod: torch.Tensor
    prediction_type: str
    parameters: dict[str, torch.nn.Parameter]
    optimizer: Any
    step: int = 0
    ema: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return next(iter(self.parameters.values())).device


def make_train_state(
    pipe: StableDiffusionPipeline, options: FinetuneOptions, device: torch.device | str = "cpu"
) -> TrainState:
    """Put the U-Net on ``device``, choose what is trained, make the optimizer.

    The U-Net stays in eval mode: without dropout a step has no randomness but ``data.draw``'s.
    """
    unet, text_encoder = pipe.unet.eval(), pipe.text_encoder.eval()
    text_encoder.requires_grad_(options.with_text_encoder)
    unet.requires_grad_(options.method == "full")
    if options.method == "lora":
        add_lora(unet, options)
        if options.precision != "fp32":
            half = torch.float16 if options.precision == "fp16" else torch.bfloat16
            unet.to(dtype=half)  # frozen weights need no master copy; the additions keep theirs
            for weight in unet.parameters():
                if weight.requires_grad:
                    weight.data = weight.data.float()
    unet.to(device)
    if options.with_checkpointing:
        unet.enable_gradient_checkpointing()
    else:
        unet.disable_gradient_checkpointing()
    parameters = {f"unet.{k}": p for k, p in unet.named_parameters() if p.requires_grad}
    if options.with_text_encoder:
        text_encoder.to(device)
        parameters |= {f"text_encoder.{k}": p for k, p in text_encoder.named_parameters()}
    state = TrainState(
        unet,
        text_encoder if options.with_text_encoder else None,
        pipe.scheduler.alphas_cumprod.to(device),
        pipe.scheduler.config.prediction_type,
        parameters,
        make_optimizer(list(parameters.values()), options),
    )
    if options.ema_decay:
        place = device if options.ema_device == "model" else "cpu"
        state.ema = {k: p.detach().to(place, copy=True) for k, p in parameters.items()}
    return state


def find_lora_layers(unet: Any, targets: Sequence[str]) -> list[torch.nn.Linear]:
    """Find the linear layers whose names end in ``targets``, as PEFT chooses them.

    Raises
    ------
    InputError
        When a target names no layer; says what names there are.
    """
    layers = {n: m for n, m in unet.named_modules() if isinstance(m, torch.nn.Linear)}
    chosen = {t: [n for n in layers if f".{n}".endswith(f".{t}")] for t in targets}
    if unknown := [target for target, names in chosen.items() if not names]:
        endings = sorted({_ending(name) for name in layers})
        raise InputError(
            f"lora_targets names {', '.join(unknown)}, and no linear layer of this U-Net ends in "
            f"that. Take some of {', '.join(endings)}."
        )
    return [layers[name] for name in dict.fromkeys(n for names in chosen.values() for n in names)]


def _ending(name: str) -> str:
    """The last part of a layer's name; of a numbered one, such as to_out.0, the last two."""
    parts = name.split(".")
    return ".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:])


def add_lora(unet: Any, options: FinetuneOptions) -> None:
    """Add low-rank layers that start as zero; their random half depends on the seed alone."""
    from peft import LoraConfig

    ready_peft()
    find_lora_layers(unet, options.lora_targets)  # PEFT's own error does not name what there is
    with building, torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        unet.add_adapter(
            LoraConfig(
                r=options.lora_rank,
                lora_alpha=options.lora_alpha,
                init_lora_weights="gaussian",
                target_modules=list(options.lora_targets),
            )
        )


def make_optimizer(parameters: list[torch.nn.Parameter], options: FinetuneOptions) -> Any:
    """Make AdamW: bitsandbytes' with 8-bit state if asked for, else torch's in one fused pass."""
    settings = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
    if options.with_8bit_adam:
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(parameters, **settings)
    return torch.optim.AdamW(parameters, fused=True, **settings)


def find_8bit_fault(device: torch.device | str) -> str | None:
    """Say why bitsandbytes cannot be used here, after one small step with it; None if it can."""
    try:
        from bitsandbytes.optim import AdamW8bit

        weight = torch.nn.Parameter(torch.ones(64, 128, device=device))
        weight.sum().backward()
        AdamW8bit([weight], lr=0.1).step()
        if weight.isfinite().all() and (weight < 1).all():
            return None
        return "a test step with it gave wrong weights"
    except Exception as error:  # a broken CUDA library raises anything from OSError to KeyError
        return f"{type(error).__name__}: {error}"


@torch.no_grad()
def update_ema(state: TrainState, decay: float) -> None:
    """Move the running mean towards the weights; faster at first, so that it forgets the start."""
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for name, mean in state.ema.items():
        mean.lerp_(state.parameters[name].detach().to(mean.device), 1 - decay)


@contextmanager
def with_mean_weights(state: TrainState) -> Iterator[None]:
    """Have the running mean in the networks for a while, if there is one: a run ends with it."""
    trained = {name: state.parameters[name].data for name in state.ema}
    for name, mean in state.ema.items():
        state.parameters[name].data = mean.to(trained[name].device)
    try:
        yield
    finally:
        for name, weight in trained.items():
            state.parameters[name].data = weight
