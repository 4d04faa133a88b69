"""Prompt + model -> pictures."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from s2i_lib import __version__
from s2i_lib.errors import InputError
from s2i_lib.models import BaseModel, Model, known_words
from s2i_lib.prompt import Prompt

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

MAX_COUNT = 64
MAX_STEPS = 1000  # the length of the noise schedules that the models were trained with
SEEDS = 2**32

EMPTY_PROMPT = (
    "The prompt is empty, so there is nothing to draw. "
    'Say or type what the picture shows, for instance "a red car on a yellow background".'
)

# Every one is deterministic given the first noise, so that a seed is all a picture needs.
SCHEDULERS = {
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


@dataclass(frozen=True)
class DrawOptions:
    """How pictures are sampled."""

    steps: int = 20
    """DPM-Solver++ of order 2 converges in 15 to 20 (Lu et al. 2022, arXiv:2211.01095)."""
    guidance_scale: float | None = None
    """Classifier-free guidance (Ho & Salimans 2022); None: the model's own; 1: off."""
    count: int = 1
    seed: int | None = None
    """Seed of the first picture, the next ones count up; None: a fresh one, which is recorded."""
    scheduler: str = "dpm++"

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MAX_STEPS:
            raise InputError(
                f"{self.steps} steps cannot draw a picture. Give 1 to {MAX_STEPS}; 20 is usual."
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
        if self.scheduler not in SCHEDULERS:
            raise InputError(
                f"There is no scheduler {self.scheduler!r}. Known are: {', '.join(SCHEDULERS)}."
            )


@dataclass(frozen=True)
class Step:
    """What a callback sees after each denoising step."""

    number: int
    """1 to ``total``."""
    total: int
    latents: torch.Tensor
    """shape = (count, channels, height, width)"""


@dataclass(frozen=True)
class Picture:
    """A picture, and the record from which it can be made again."""

    image: Image
    record: dict[str, Any]


def draw(
    model: Model,
    prompt: Prompt | str,
    options: DrawOptions | None = None,
    *,
    on_step: Callable[[Step], object] | None = None,
) -> list[Picture]:
    """Draw ``options.count`` pictures of a prompt in one batch.

    Picture ``i`` starts from noise of a CPU generator of its own, seeded with ``seed + i``, so it
    is the same picture alone, in any batch and on any device, up to rounding.

    Raises
    ------
    InputError
        When the prompt is empty or longer than the model can read.
    """
    options = options or DrawOptions()
    if isinstance(prompt, str):
        prompt = Prompt(text=prompt.strip())
    check_prompt(model, prompt)
    first = secrets.randbelow(SEEDS - options.count) if options.seed is None else options.seed
    seeds = [(first + i) % SEEDS for i in range(options.count)]
    latents = sample_latents(model, prompt, options, seeds, on_step)
    record = {
        "prompt": prompt.text,
        "negative": prompt.negative,
        **asdict(options),
        "guidance_scale": _guidance(model, options),
        "seeds": seeds,
        "size_px": model.base.size_px,
        "model": model.base.name,
        "source": model.source,
        "run": model.run,
        "transcript": prompt.transcript.to_json() if prompt.transcript else None,
        "versions": {"s2i_lib": __version__}
        | {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }
    return [
        Picture(image, record | {"seed": seed, "index": i})
        for i, (image, seed) in enumerate(zip(decode(model, latents), seeds, strict=True))
    ]


def check_prompt(model: Model, prompt: Prompt) -> None:
    """Refuse a prompt that is empty or too long for the text encoder, before anything is drawn."""
    if not prompt.text:
        raise InputError(EMPTY_PROMPT)
    for text in (prompt.text, prompt.negative):
        length = model.count_tokens(text)
        if length > model.base.token_limit:
            raise InputError(
                f"The prompt has {length} tokens and {model.base.name} reads "
                f"{model.base.token_limit}. Make it shorter: {text!r}"
            )


def sample_latents(
    model: Model,
    prompt: Prompt,
    options: DrawOptions,
    seeds: list[int],
    on_step: Callable[[Step], object] | None = None,
) -> torch.Tensor:
    """Denoise one picture a seed; returns latents, shape = (len(seeds), channels, h, w), scaled.

    Source: Rombach et al. 2022 (arXiv:2112.10752), with classifier-free guidance.
    """
    import torch

    pipeline, guidance = model.pipeline, _guidance(model, options)
    scheduler = make_scheduler(model, options.scheduler)
    scheduler.set_timesteps(options.steps, device=model.device)
    with torch.inference_mode():
        is_guided = guidance != 1.0
        texts = [prompt.negative, prompt.text] if is_guided else [prompt.text]
        embeddings = encode_prompts(model, texts).repeat_interleave(len(seeds), dim=0)
        latents = initial_noise(model, seeds) * scheduler.init_noise_sigma
        for number, t in enumerate(scheduler.timesteps, start=1):
            noisy = torch.cat([latents, latents]) if is_guided else latents
            noisy = scheduler.scale_model_input(noisy, t)
            predicted = pipeline.unet(noisy, t, encoder_hidden_states=embeddings).sample
            if is_guided:
                without, with_prompt = predicted.chunk(2)
                predicted = without + guidance * (with_prompt - without)
            latents = scheduler.step(predicted, t, latents).prev_sample
            if on_step is not None:
                on_step(Step(number, len(scheduler.timesteps), latents))
    return latents


def initial_noise(model: Model, seeds: list[int]) -> torch.Tensor:
    """Unit Gaussian latents, shape = (len(seeds), channels, h, w): one CPU generator a seed."""
    import torch

    unet = model.pipeline.unet.config
    side = model.base.size_px // model.pipeline.vae_scale_factor
    noise = [
        torch.randn(
            (unet.in_channels, side, side), generator=torch.Generator("cpu").manual_seed(seed)
        )
        for seed in seeds
    ]
    return torch.stack(noise).to(model.device, model.dtype)


def encode_prompts(model: Model, texts: list[str]) -> torch.Tensor:
    """Text embeddings, shape = (len(texts), token_limit, width), kept with the model for next time.

    Source: SD 2.x takes the text encoder's last hidden state; its folder leaves the top layer out.
    """
    import torch

    tokenizer, encoder = model.pipeline.tokenizer, model.pipeline.text_encoder
    missing = [text for text in dict.fromkeys(texts) if text not in model.embeddings]
    if missing:
        ids = tokenizer(
            missing,
            padding="max_length",
            max_length=model.base.token_limit,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        with torch.inference_mode():
            encoded = encoder(ids.to(encoder.device))[0]
        model.embeddings.update(zip(missing, encoded, strict=True))
    return torch.stack([model.embeddings[text] for text in texts])


def decode(model: Model, latents: torch.Tensor) -> list[Image]:
    """Latents, shape = (n, channels, h, w), through the VAE into RGB pictures of size_px."""
    import torch
    from PIL import Image

    vae = model.pipeline.vae
    with torch.inference_mode():
        pixels = vae.decode(latents / vae.config.scaling_factor).sample
    pixels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def make_scheduler(model: Model, name: str) -> Any:
    """A fresh scheduler called ``name`` over the noise schedule that the model was trained with."""
    import diffusers

    kind, settings = SCHEDULERS[name]
    return getattr(diffusers, kind).from_config(model.pipeline.scheduler.config, **settings)


def unknown_words(base: BaseModel, text: str) -> list[str]:
    """The words of ``text`` that a small model was never trained on, in order, each once."""
    words = known_words(base)
    if words is None:
        return []
    known: set[str] = set()
    for kind in words.values():
        entries = [*kind.keys(), *kind.values()] if isinstance(kind, dict) else kind
        for entry in entries:
            if isinstance(entry, str):
                known.update(entry.lower().split())
    said = re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", text.lower())
    return [
        word for word in dict.fromkeys(said) if word not in known and word.rstrip("s") not in known
    ]


def explain_unknown_words(base: BaseModel, text: str) -> str | None:
    """One paragraph on the words that ``base`` has never seen and on what it knows, or None."""
    strange, words = unknown_words(base, text), known_words(base)
    if not strange or words is None:
        return None
    nouns = words["nouns"]
    return (
        f"The {base.name} model has never seen the word{'s'[: len(strange) > 1]} "
        f"{', '.join(strange)}, so the picture is a guess. It knows {len(nouns)} things "
        f"({', '.join(nouns[:: max(1, len(nouns) // 12)][:12])}, ...) and the colours "
        f"{', '.join(words['colours'])}."
    )


def _guidance(model: Model, options: DrawOptions) -> float:
    if options.guidance_scale is None:
        return model.base.guidance_scale
    return options.guidance_scale
