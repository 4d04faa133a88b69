"""DreamBooth: options, loss, caches, and the training loop.

Ruiz et al., "DreamBooth: Fine Tuning Text-to-Image Diffusion Models for Subject-Driven
Generation", https://arxiv.org/abs/2208.12242. The loop at the end reads top to bottom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from s2i_lib.errors import InputError, S2iError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers import StableDiffusionPipeline

METHODS = ("full", "lora")
SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = ("fp32", "fp16", "bf16")
# Attention's four projections: what the LoRA paper adapts (https://arxiv.org/abs/2106.09685, 4.2).
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class FinetuneOptions:
    """Everything that a run depends on besides its data; written whole into run.json.

    The defaults of method, steps, learning rate and the other fields that a model's entry in
    ``models.py`` names come from there: ``FinetuneOptions.for_model``.
    """

    method: Literal["full", "lora"] = "full"
    """All weights of the U-Net, or low-rank additions to its attention (less memory)."""
    steps: int = 400
    """Optimizer steps; 100 to 200 for each photo is the usual range."""
    learning_rate: float = 1e-6
    """For full fine-tuning of SD 2.x: above 5e-6 faces burn in."""
    batch_size: int = 1
    """Instance images in an optimizer step over all processes; as many class images come on top."""
    accumulation: int = 1
    """Parts that a step's batch is computed in, one after the other, to save memory."""
    with_prior: bool = True
    """Prior preservation: class images keep "a dog" from turning into this dog."""
    prior_weight: float = 1.0
    """Weight of the class images' loss. Source: the paper, lambda = 1."""
    class_image_count: int = 200
    """Class images to learn from. Source: the paper uses about 200 for 4 photos."""
    with_text_encoder: bool = False
    """Also trains the text encoder: better faces, at 1.4 GB more memory and no cached prompts."""
    with_mirror: bool = False
    """Learns each photo's mirror image too; wrong for writing and for faces, which are lopsided."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate goes on after the warm-up; the last two end at 0."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    with_8bit_adam: bool = False
    """bitsandbytes' AdamW: a quarter of the optimizer's memory. torch's AdamW where it fails."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of the computation; trained weights stay in fp32."""
    with_checkpointing: bool = False
    """Computes activations twice instead of keeping them: less memory, a third more time."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient; one strange image cannot throw the weights off."""
    weight_decay: float = 1e-2
    """Of AdamW. Source: its paper and diffusers' script."""
    lora_rank: int = 8
    """Rank of the additions; 4 to 32."""
    lora_alpha: int = 8
    """Additions count alpha / rank times; equal to the rank means once."""
    lora_targets: tuple[str, ...] = ATTENTION
    """Layers with additions, by the end of their name."""
    ema_decay: float = 0.0
    """Keeps a running mean of the weights and ends with it; 0 is off, 0.999 usual for long runs."""
    ema_device: Literal["model", "cpu"] = "model"
    """Where that mean lives; on the CPU it takes no memory of the GPU, and some time."""
    min_snr_gamma: float = 0.0
    """Caps the weight of nearly clean images. 0 is off: it slows what an object's shape is learnt
    from. 5 in https://arxiv.org/abs/2303.09556."""
    offset_noise: float = 0.0
    """A constant added to each channel's noise, so that very dark and bright pictures are learnt.
    Source: https://www.crosslabs.org/blog/diffusion-with-offset-noise, 0.1 there."""
    seed: int = 0
    """Of everything random in training."""
    sample_prompts: tuple[str, ...] = ("a {subject}", "a {subject} on a beach", "a {noun}")
    """Drawn at intervals with fixed seeds; {subject} and {noun} are filled in."""
    sample_every: int = 100
    """Steps between these samples; 0 draws them before and after only."""
    save_every: int = 100
    """Steps between saved states: what a killed session loses at most."""
    keep: Literal["best", "last"] = "best"
    """Which step's weights a run ends with; "best" needs samples and a scorer at hand."""
    with_early_stop: bool = False
    """Ends training when three samplings in a row are worse than the best; one process only."""
    is_deterministic: bool = False
    """Only algorithms that give the same bits on every run of a GPU; slower."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("method", METHODS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("ema_device", ("model", "cpu")),
            ("keep", ("best", "last")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}."
                )
        for name in ("steps", "batch_size", "accumulation", "class_image_count", "lora_rank"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        for name in ("learning_rate", "gradient_clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; expected more than 0.")
        if self.batch_size % self.accumulation:
            raise InputError(
                f"A batch of {self.batch_size} cannot be computed in {self.accumulation} equal "
                "parts. Choose accumulation so that it divides batch_size."
            )
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"ema_decay is {self.ema_decay}; expected 0 (off) to below 1.")
        if self.with_text_encoder and self.method == "lora":
            raise InputError(
                "The text encoder is trained with method full only. "
                "Leave with_text_encoder off, or choose method full."
            )

    @classmethod
    def for_model(cls, defaults: dict[str, Any], **changes: Any) -> FinetuneOptions:
        """The defaults of a model's registry entry, with what the user changed (None: not)."""
        known = {field.name for field in fields(cls)}
        if unknown := set(changes) - known:
            raise InputError(
                f"There is no option {sorted(unknown)[0]!r}. Known: {', '.join(sorted(known))}."
            )
        chosen = {name: value for name, value in changes.items() if value is not None}
        values: dict[str, Any] = {**defaults, **chosen}
        for name, value in values.items():
            if isinstance(value, list):  # as it comes from JSON
                values[name] = tuple(value)
        return cls(**values)


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE pairs, as the command line gives them, as fields of FinetuneOptions."""
    kinds: dict[str, Any] = {f.name: type(f.default) for f in fields(FinetuneOptions)}
    changes: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        kind = kinds.get(name)
        try:
            if kind is None:
                raise ValueError("no such option")
            if kind is bool:
                changes[name] = {"true": True, "false": False}[text.lower()]
            elif kind is tuple:
                changes[name] = tuple(part.strip() for part in text.split(","))
            else:
                changes[name] = kind(text)
        except (ValueError, KeyError) as error:
            expected = f"{name}=<{kind.__name__}>" if kind else f"one of {', '.join(kinds)}"
            raise InputError(f"--option {pair} cannot be used; expected {expected}.") from error
    return changes


# ---- Everything random, as a function of (seed, step, position in the global batch) ----

INSTANCE, CLASS, ORDER = range(3)  # streams that never share a number


def generator(seed: int, *where: int) -> torch.Generator:
    """A CPU generator that depends on nothing but its arguments."""
    (state,) = np.random.SeedSequence([seed, *where]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)


class Draw(NamedTuple):
    """What is random about one sample of a batch."""

    is_mirrored: bool
    timestep: int
    noise: torch.Tensor
    """shape = (channels, height, width)"""
    posterior: torch.Tensor
    """Standard normal, of the same shape: where in the VAE's posterior the latents lie."""


def draw(
    options: FinetuneOptions, step: int, position: int, stream: int, shape: Sequence[int], n: int
) -> Draw:
    """The randomness of the sample at ``position`` of step ``step``, with ``n`` timesteps."""
    rng = generator(options.seed, stream, step, position)
    is_mirrored = bool(torch.randint(2, (), generator=rng)) and options.with_mirror
    timestep = int(torch.randint(n, (), generator=rng))
    noise = torch.randn(tuple(shape), generator=rng)
    if options.offset_noise:
        noise = noise + options.offset_noise * torch.randn(shape[0], 1, 1, generator=rng)
    return Draw(is_mirrored, timestep, noise, torch.randn(tuple(shape), generator=rng))


def pick(seed: int, stream: int, index: int, count: int) -> int:
    """Which of ``count`` images the ``index``-th sample since the start of training is.

    Every image comes once before any comes again, in an order that is new each time around.
    """
    epoch, place = divmod(index, count)
    order = torch.randperm(count, generator=generator(seed, ORDER, stream, epoch))
    return int(order[place])


# ---- Loss ----


def signal_and_noise(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> tuple:
    """Both coefficients of x_t = alpha x_0 + sigma noise, shape = (n, 1, 1, 1)."""
    mean = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return mean.sqrt(), (1 - mean).sqrt()


def target(
    prediction_type: str,
    latents: torch.Tensor,
    noise: torch.Tensor,
    alpha: torch.Tensor,
    sigma: torch.Tensor,
) -> torch.Tensor:
    """What the U-Net is to predict: the noise, or the velocity alpha noise - sigma x_0.

    Source: Salimans and Ho, https://arxiv.org/abs/2202.00512, appendix D.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return alpha * noise - sigma * latents
    raise S2iError(
        f"The scheduler predicts {prediction_type!r}; training knows epsilon and v_prediction. "
        "Use another base model."
    )


def min_snr_weight(prediction_type: str, snr: torch.Tensor, gamma: float) -> torch.Tensor:
    """Weight of each sample's squared error, from its own signal-to-noise ratio, shape = (n,).

    Source: Hang et al., https://arxiv.org/abs/2303.09556, section 3.4 and its velocity form.
    """
    capped = snr.clamp(max=gamma)
    return capped / snr if prediction_type == "epsilon" else capped / (snr + 1)


def sample_losses(
    prediction: torch.Tensor,
    target: torch.Tensor,
    prediction_type: str,
    snr: torch.Tensor,
    gamma: float,
) -> torch.Tensor:
    """Mean squared error of each sample, weighted if ``gamma`` is not 0, shape = (n,), fp32."""
    losses = (prediction.float() - target.float()).square().mean(dim=(1, 2, 3))
    return losses * min_snr_weight(prediction_type, snr, gamma) if gamma else losses


def learning_rate_at(step: int, options: FinetuneOptions) -> float:
    """The learning rate of step ``step``: a function of it, so that nothing has to be saved."""
    if step < options.warmup_steps:
        return options.learning_rate * step / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    if options.schedule == "linear":
        return options.learning_rate * max(0.0, 1 - done)
    if options.schedule == "cosine":
        return options.learning_rate * max(0.0, 0.5 * (1 + math.cos(math.pi * done)))
    return options.learning_rate


# ---- Caches: the VAE and the frozen text encoder run once ----


class Moments(NamedTuple):
    """The VAE's posterior of each image, shape = (n, channels, height, width), scaled latents."""

    mean: torch.Tensor
    std: torch.Tensor


def read_images(paths: Iterable[Path], size_px: int) -> torch.Tensor:
    """Square images as the VAE wants them, shape = (n, 3, size_px, size_px), -1 to 1."""
    from PIL import Image

    images = []
    for path in paths:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((size_px, size_px), Image.Resampling.LANCZOS)
        images.append(torch.from_numpy(np.array(small)).permute(2, 0, 1))
    return torch.stack(images).float() / 127.5 - 1


@torch.no_grad()
def encode_images(vae: Any, images: torch.Tensor) -> Moments:
    """The posterior's mean and standard deviation, scaled as the U-Net expects its latents."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    means, stds = [], []
    for image in images.split(1):  # one at a time: the encoder's memory peaks at full size
        posterior = vae.encode(image.to(vae.device, vae.dtype)).latent_dist
        means.append(((posterior.mean - shift) * vae.config.scaling_factor).float().cpu())
        stds.append((posterior.std * vae.config.scaling_factor).float().cpu())
    return Moments(torch.cat(means), torch.cat(stds))


@torch.no_grad()
def embed_prompts(pipe: StableDiffusionPipeline, prompts: Sequence[str]) -> torch.Tensor:
    """Prompts as the U-Net sees them, shape = (n, tokens, width), fp32 on the CPU."""
    return pipe.text_encoder(token_ids(pipe, prompts).to(pipe.text_encoder.device))[0].float().cpu()


def token_ids(pipe: StableDiffusionPipeline, prompts: Sequence[str]) -> torch.Tensor:
    """Padded tokens, shape = (n, tokens); a prompt too long is an error, not a shorter prompt."""
    limit = pipe.tokenizer.model_max_length
    ids = pipe.tokenizer(list(prompts), padding="longest", return_tensors="pt").input_ids
    if ids.shape[1] > limit:
        raise InputError(
            f"A prompt has {ids.shape[1]} tokens; this model reads {limit}. "
            f"Shorten it: {max(prompts, key=len)!r}"
        )
    return pipe.tokenizer(
        list(prompts), padding="max_length", max_length=limit, return_tensors="pt"
    ).input_ids


class Batch(NamedTuple):
    """One part of a step: instance images, then as many class images (none without prior)."""

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    prompts: torch.Tensor
    """0 for the instance prompt, 1 for the class prompt, shape = (n,)"""


@dataclass
class TrainingData:
    """All that a run learns from, in latents; built once, small, on the CPU."""

    instances: Moments
    mirrored: Moments | None
    class_latents: torch.Tensor | None
    """shape = (n, channels, height, width), scaled; sampled, never decoded"""
    tokens: torch.Tensor
    """of the instance prompt and the class prompt, shape = (2, tokens)"""
    embeddings: torch.Tensor
    """of the same, shape = (2, tokens, width)"""

    def batch(
        self, options: FinetuneOptions, step: int, positions: Iterable[int], timesteps: int
    ) -> Batch:
        """The samples at ``positions`` of the global batch of step ``step``."""
        rows = []
        shape = self.instances.mean.shape[1:]
        for position in positions:
            chance = draw(options, step, position, INSTANCE, shape, timesteps)
            moments = self.mirrored if chance.is_mirrored and self.mirrored else self.instances
            index = step * options.batch_size + position
            image = pick(options.seed, INSTANCE, index, len(self.instances.mean))
            latents = moments.mean[image] + moments.std[image] * chance.posterior
            rows.append((latents, chance.noise, chance.timestep, 0))
        if self.class_latents is not None:
            for position in positions:
                chance = draw(options, step, position, CLASS, shape, timesteps)
                index = step * options.batch_size + position
                image = pick(options.seed, CLASS, index, len(self.class_latents))
                rows.append((self.class_latents[image], chance.noise, chance.timestep, 1))
        latents, noise, times, prompts = zip(*rows, strict=True)
        return Batch(
            torch.stack(latents), torch.stack(noise), torch.tensor(times), torch.tensor(prompts)
        )


# ---- What is trained ----


@dataclass
class Learner:
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


def make_learner(
    pipe: StableDiffusionPipeline, options: FinetuneOptions, device: torch.device | str = "cpu"
) -> Learner:
    """Put the U-Net on ``device``, choose what is trained, make the optimizer.

    The U-Net stays in eval mode: without dropout a step has no randomness but the draws above.
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
    learner = Learner(
        unet,
        text_encoder if options.with_text_encoder else None,
        pipe.scheduler.alphas_cumprod.to(device),
        pipe.scheduler.config.prediction_type,
        parameters,
        make_optimizer(list(parameters.values()), options),
    )
    if options.ema_decay:
        place = device if options.ema_device == "model" else "cpu"
        learner.ema = {k: p.detach().to(place, copy=True) for k, p in parameters.items()}
    return learner


def add_lora(unet: Any, options: FinetuneOptions) -> None:
    """Add low-rank layers that start as zero; their random half depends on the seed alone."""
    from peft import LoraConfig

    with torch.random.fork_rng(devices=[]):
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
    """AdamW: bitsandbytes' with 8-bit state if asked for, else torch's in one fused pass."""
    settings = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
    if options.with_8bit_adam:
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(parameters, **settings)
    return torch.optim.AdamW(parameters, fused=True, **settings)


def find_8bit_fault(device: torch.device | str) -> str | None:
    """Why bitsandbytes cannot be used here, found by one small step with it; None if it can."""
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
def update_ema(learner: Learner, decay: float) -> None:
    """Move the running mean towards the weights; faster at first, so that it forgets the start."""
    decay = min(decay, (1 + learner.step) / (10 + learner.step))
    for name, mean in learner.ema.items():
        mean.lerp_(learner.parameters[name].detach().to(mean.device), 1 - decay)


# ---- The loop ----


def synchronised(accelerator: Accelerator, learner: Learner, is_last: bool) -> Any:
    """Gradients of a step's parts are summed up first and exchanged between processes once."""
    stack = ExitStack()
    if not is_last:
        for module in (learner.unet, learner.text_encoder):
            if module is not None:
                stack.enter_context(accelerator.no_sync(module))
    return stack


class Losses(NamedTuple):
    """Means over the global batch, still on the device: reading them every step would wait."""

    instance: torch.Tensor
    prior: torch.Tensor


def train(
    learner: Learner,
    data: TrainingData,
    options: FinetuneOptions,
    accelerator: Accelerator,
    callback: Callable[[int, Losses], None],
) -> None:
    """Train from ``learner.step`` to ``options.steps``; ``callback`` sees each step when done.

    Parameters
    ----------
    accelerator : Accelerator
        Its processes share each global batch; ``learner`` must have been prepared by it if there
        are several (``distribute``).
    callback : callable
        Gets the number of steps done and their losses. What it raises ends the training.
    """
    n_parts = options.accumulation * accelerator.num_processes
    if options.batch_size % n_parts:
        raise InputError(
            f"A batch of {options.batch_size} cannot be shared by {accelerator.num_processes} "
            f"processes in {options.accumulation} parts each. "
            f"Choose a batch size that {n_parts} divides."
        )
    share = options.batch_size // n_parts
    device, parameters = learner.device, list(learner.parameters.values())
    embeddings = data.embeddings.to(device)
    tokens = data.tokens.to(device)

    for step in range(learner.step, options.steps):
        for group in learner.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, options)
        totals = torch.zeros(2, device=device)

        for part in range(options.accumulation):
            first = (part * accelerator.num_processes + accelerator.process_index) * share
            positions = range(first, first + share)
            batch = data.batch(options, step, positions, len(learner.alphas_cumprod))
            latents, noise, timesteps, prompts = (t.to(device, non_blocking=True) for t in batch)

            alpha, sigma = signal_and_noise(learner.alphas_cumprod, timesteps)
            noisy = alpha * latents + sigma * noise
            wanted = target(learner.prediction_type, latents, noise, alpha, sigma)
            is_last = part == options.accumulation - 1
            with synchronised(accelerator, learner, is_last), accelerator.autocast():
                if learner.text_encoder is not None:
                    embeddings = learner.text_encoder(tokens)[0]
                prediction = learner.unet(noisy, timesteps, embeddings[prompts]).sample
                snr = (alpha / sigma).square().flatten()
                losses = sample_losses(
                    prediction, wanted, learner.prediction_type, snr, options.min_snr_gamma
                )
                instance = losses[:share].mean()
                prior = losses[share:].mean() if data.class_latents is not None else 0 * instance
                loss = instance + options.prior_weight * prior
                accelerator.backward(loss / options.accumulation)
            totals += torch.stack([instance.detach(), prior.detach()]) / options.accumulation

        accelerator.clip_grad_norm_(parameters, options.gradient_clip)
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)
        learner.step = step + 1
        if learner.ema:
            update_ema(learner, options.ema_decay)
        if accelerator.num_processes > 1:
            totals = accelerator.reduce(totals, "mean")
        callback(learner.step, Losses(*totals))
