"""Diffusion sampling: prompts, noise, guidance and schedulers to latents and pictures."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from s2i_lib.drawing.panorama import WIDTHS, Turning
from s2i_lib.errors import InputError
from s2i_lib.models.loading import Model
from s2i_lib.models.schedulers import SCHEDULERS, USUAL, make_scheduler
from s2i_lib.speech.prompt import Prompt

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


MAX_COUNT = 64

MAX_STEPS = 1000  # the length of the noise schedules that the models were trained with

SEEDS = 2**32
_DRESSED = re.compile(r"\b(?:wearing|holding)\b")


@dataclass(frozen=True)
class DrawOptions:
    """How pictures are sampled."""

    steps: int | None = None
    """Denoising steps; None: the model's own."""
    guidance_scale: float | None = None
    """Classifier-free guidance (Ho & Salimans 2022); None: the model's own; 1: off."""
    count: int = 1
    seed: int | None = None
    """Seed of the first picture, the next ones count up; None: a fresh one, which is recorded."""
    scheduler: str = USUAL
    guidance_interval: tuple[float, float] | None = None
    """Noise levels, 0 (none) to 1 (all noise), between which guidance is applied: elsewhere it
    costs time and changes little (Kynkäänniemi et al. 2024, arXiv:2404.07724). None: the model's
    own; (0, 1): always."""
    subject_guidance: float | None = None
    """Where somebody learned is to wear or hold something: how far guidance leads away from their
    plain picture, too, 0 (not) to 1. What few photos taught is firm, and a hat is lost in it. The
    prompt of the subject alone is mixed into the negative one: compositional guidance (Liu et al.
    2022, arXiv:2206.01714) without a third pass of the U-Net. None: the model's own."""
    is_panorama: bool = False
    """Twice as wide as high, and the edges meet (`s2i_lib.drawing.panorama`)."""

    def __post_init__(self) -> None:
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise InputError(
                f"{self.steps} steps cannot draw a picture. Give 1 to {MAX_STEPS}; 8 to 20 suit."
            )
        if not 1 <= self.count <= MAX_COUNT:
            raise InputError(f"{self.count} pictures were asked for. Give 1 to {MAX_COUNT}.")
        if self.seed is not None and not 0 <= self.seed < SEEDS:
            raise InputError(f"The seed {self.seed} is out of range. Give 0 to {SEEDS - 1}.")
        if self.guidance_scale is not None and not 0 <= self.guidance_scale <= 50:
            raise InputError(
                f"A guidance scale of {self.guidance_scale} is out of range. "
                "Give 1 (off) to 50; 4 to 8 is usual."
            )
        if self.guidance_interval is not None:
            low, high = self.guidance_interval
            if not 0 <= low <= high <= 1:
                raise InputError(
                    f"Guidance from noise level {low} to {high} is no interval. "
                    "Give two numbers that rise from 0 to 1; (0, 1) guides always."
                )
        if self.subject_guidance is not None and not 0 <= self.subject_guidance <= 1:
            raise InputError(
                f"A subject guidance of {self.subject_guidance} is out of range. Give 0 (off) to 1."
            )
        if self.scheduler not in SCHEDULERS:
            raise InputError(
                f"There is no scheduler {self.scheduler!r}. Known are: {', '.join(SCHEDULERS)}."
            )

    def with_seed(self) -> DrawOptions:
        """Return these options with a seed: a fresh one where there was none."""
        if self.seed is not None:
            return self
        return replace(self, seed=secrets.randbelow(SEEDS - self.count))


@dataclass(frozen=True)
class Step:
    """What a callback sees after each denoising step."""

    number: int
    """1 to ``total``."""
    total: int
    latents: torch.Tensor
    """shape = (count, channels, height, width)"""
    denoised: torch.Tensor
    """What the model takes the finished latents to be, seen from here; same shape. The first of
    these already show the picture, while ``latents`` are noise until late."""


def is_black(image: Image) -> bool:
    """Check whether no pixel is brighter than 3 %, as decoded NaN is, and no night scene."""
    return image.convert("L").point(lambda value: value >= 8).getbbox() is None


def sample_latents(
    model: Model,
    prompts: Prompt | Sequence[Prompt],
    options: DrawOptions,
    seeds: Sequence[int],
    on_step: Callable[[Step], object] | None = None,
    blend: Callable[[Step, Callable[[torch.Tensor], torch.Tensor]], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Denoise one picture a seed, all of one prompt or each of its own.

    Under autocast the U-Net computes in half precision, and the latents keep their own.
    ``blend`` may exchange the latents after each step (`s2i_lib.drawing.keeping.Keeper.blend`).

    Returns
    -------
    Tensor, shape = (len(seeds), channels, h, w)
        Scaled as the U-Net has them.

    Source
    ------
    Rombach et al. 2022 (arXiv:2112.10752), with classifier-free guidance.
    """
    import torch

    pipeline = model.pipeline
    guidance, (low, high) = guidance_of(model, options), guidance_interval_of(model, options)
    scheduler = make_scheduler(model, options.scheduler)
    scheduler.set_timesteps(n_steps_of(model, options), device=model.device)
    alphas = pipeline.scheduler.alphas_cumprod
    with torch.inference_mode():
        widths = WIDTHS if options.is_panorama else 1
        noise = initial_noise(model, seeds, widths)
        latents = noise * scheduler.init_noise_sigma
        unet = Turning(pipeline.unet) if options.is_panorama else pipeline.unet
        each = [prompts] * len(seeds) if isinstance(prompts, Prompt) else prompts
        texts = [*(prompt.negative for prompt in each), *(prompt.text for prompt in each)]
        embeddings = encode_prompts(model, texts).to(latents)
        for row, prompt in enumerate(each):
            if share := subject_guidance_of(model, prompt, options):
                plain = encode_prompts(model, [model.taught])[0].to(latents)
                embeddings[row] = torch.lerp(embeddings[row], plain, share)
        for number, t in enumerate(scheduler.timesteps, start=1):
            noisy = scheduler.scale_model_input(latents, t)
            is_guided = guidance != 1.0 and low <= float(t) / len(alphas) <= high
            if is_guided:
                both = torch.cat([noisy, noisy])
                predicted = unet(both, t, encoder_hidden_states=embeddings).sample
                without, with_prompt = predicted.to(latents.dtype).chunk(2)
                predicted = without + guidance * (with_prompt - without)
            else:
                text = embeddings[len(seeds) :]
                predicted = unet(noisy, t, encoder_hidden_states=text).sample
                predicted = predicted.to(latents.dtype)
            latents = scheduler.step(predicted, t, latents).prev_sample
            if on_step is None and blend is None:
                continue
            alpha = float(alphas[round(float(t))])
            denoised = estimate_denoised(noisy, predicted, alpha, model.base.prediction_type)
            step = Step(number, len(scheduler.timesteps), latents, denoised)
            if on_step is not None:
                on_step(step)
            if blend is not None:
                latents = blend(step, partial(add_noise, scheduler, noise, number))
    return latents


def add_noise(
    scheduler: Any, noise: torch.Tensor, number: int, latents: torch.Tensor
) -> torch.Tensor:
    """Return finished latents as they are after ``number`` steps from that noise."""
    if number == len(scheduler.timesteps):
        return latents
    return scheduler.add_noise(latents, noise, scheduler.timesteps[number : number + 1])


def estimate_denoised(
    noisy: torch.Tensor, predicted: torch.Tensor, alpha: float, prediction_type: str
) -> torch.Tensor:
    """Return what the finished latents would be if the prediction were exact.

    ``alpha`` is the share of the signal's variance at this noise level (alphas_cumprod).
    Source: Ho et al. 2020, eq. 15, for epsilon; Salimans & Ho 2022, appendix D, for v.
    """
    if prediction_type == "v_prediction":
        return alpha**0.5 * noisy - (1 - alpha) ** 0.5 * predicted
    return (noisy - (1 - alpha) ** 0.5 * predicted) / alpha**0.5


def initial_noise(model: Model, seeds: Sequence[int], widths: int = 1) -> torch.Tensor:
    """Unit Gaussian latents, shape = (len(seeds), channels, h, w): one CPU generator a seed.

    ``w`` is ``widths`` times ``h``.
    """
    import torch

    unet = model.pipeline.unet.config
    side = model.base.size_px // model.pipeline.vae_scale_factor
    noise = [
        torch.randn(
            (unet.in_channels, side, widths * side),
            generator=torch.Generator("cpu").manual_seed(seed),
        )
        for seed in seeds
    ]
    return torch.stack(noise).to(model.device, model.dtype)


def token_ids(model: Model, texts: Sequence[str]) -> torch.Tensor:
    """Return padded tokens, shape = (len(texts), token_limit).

    Raises
    ------
    InputError
        When a text is too long: it is an error, not a shorter text.
    """
    limit = model.base.token_limit
    for text in texts:
        if (length := model.count_tokens(text)) > limit:
            raise InputError(
                f"The prompt has {length} tokens and {model.base.name} reads {limit}. "
                f"Make it shorter: {text!r}"
            )
    return model.pipeline.tokenizer(
        list(texts), padding="max_length", max_length=limit, return_tensors="pt"
    ).input_ids


def encode_prompts(model: Model, texts: Sequence[str]) -> torch.Tensor:
    """Text embeddings, shape = (len(texts), token_limit, width), kept with the model for next time.

    Each text is encoded alone, so that its embedding is the same in every company.
    Source: SD 2.x takes the text encoder's last hidden state; its folder leaves the top layer out.
    """
    import torch

    encoder = model.pipeline.text_encoder
    for text in texts:
        if text not in model.embeddings:
            with torch.inference_mode():
                tokens = token_ids(model, [text]).to(encoder.device)
                model.embeddings[text] = encoder(tokens)[0][0]
    return torch.stack([model.embeddings[text] for text in texts])


def decode(model: Model, latents: torch.Tensor) -> list[Image]:
    """Latents, shape = (n, channels, h, w), through the VAE into RGB pictures of size_px.

    One at a time: the VAE needs more memory a picture than the U-Net does.
    """
    import torch
    from PIL import Image

    vae = model.pipeline.vae
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    images = []
    for one in latents.split(1):
        with torch.inference_mode():
            scaled = one.to(vae.device, vae.dtype) / vae.config.scaling_factor + shift
            pixels = vae.decode(scaled).sample[0]
        pixels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        images.append(Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()))
    return images


def encode(model: Model, image: Image) -> torch.Tensor:
    """Encode a picture of size_px, shape = (1, channels, h, w), as `decode` takes it.

    The latents are the most likely ones: nothing is left to chance.
    """
    import numpy as np
    import torch

    vae = model.pipeline.vae
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    pixels = torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 127.5 - 1)
    with torch.inference_mode():
        pixels = pixels.permute(2, 0, 1)[None].to(vae.device, vae.dtype)
        latents = (vae.encode(pixels).latent_dist.mode() - shift) * vae.config.scaling_factor
    return latents.to(model.device, model.dtype)


def preview(model: Model, latents: torch.Tensor) -> list[Image]:
    """Draw each latent roughly, without the VAE: a linear map to colours, a pixel a latent.

    The map is fitted once a model, by least squares on what its VAE makes of plain colours.
    """
    import torch
    from PIL import Image

    if model.latent_to_rgb is None:
        model.latent_to_rgb = _fit_latent_to_rgb(model)
    weight, bias = model.latent_to_rgb
    with torch.inference_mode():
        pixels = torch.einsum("nchw,cd->nhwd", latents.float().cpu(), weight) + bias
        pixels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(array) for array in pixels.numpy()]


def _fit_latent_to_rgb(model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    """weight, shape = (channels, 3), and bias, shape = (3,), from latents to RGB in -1 to 1."""
    import torch

    vae, cell_px = model.pipeline.vae, model.pipeline.vae_scale_factor
    side = 8  # latents a side: small enough to be quick, large enough to have an inside
    generator = torch.Generator("cpu").manual_seed(0)
    # Smooth colour fields: a few random colours, enlarged.
    colours = torch.rand((32, 3, 3, 3), generator=generator) * 2 - 1
    fields = torch.nn.functional.interpolate(colours, size=side * cell_px, mode="bilinear")
    targets = torch.nn.functional.avg_pool2d(fields, cell_px)
    with torch.inference_mode():
        moments = [vae.encode(field.to(vae.device, vae.dtype)).latent_dist.mode()
                   for field in fields.split(1)]  # fmt: skip
    latents = torch.cat(moments).float().cpu() * vae.config.scaling_factor
    inputs = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    outputs = targets.permute(0, 2, 3, 1).reshape(-1, 3)
    solution = torch.linalg.lstsq(inputs, outputs).solution
    return solution[:-1], solution[-1]


def n_steps_of(model: Model, options: DrawOptions) -> int:
    return options.steps or model.base.steps


def guidance_interval_of(model: Model, options: DrawOptions) -> tuple[float, float]:
    return options.guidance_interval or model.base.guidance_interval


def subject_guidance_of(model: Model, prompt: Prompt, options: DrawOptions) -> float:
    """Return how far guidance leads away from the plain subject: 0 but for what is worn or held."""
    phrase = model.taught.removeprefix("a ")
    if not phrase or not _DRESSED.search(prompt.text.partition(phrase)[2]):
        return 0.0
    own = model.base.subject_guidance
    return own if options.subject_guidance is None else options.subject_guidance


def guidance_of(model: Model, options: DrawOptions) -> float:
    if options.guidance_scale is None:
        return model.base.guidance_scale
    return options.guidance_scale
