"""What a step learns from: photos and prompts encoded once, and all that is random about it.

Everything random is a function of (seed, step, position in the global batch), so that resuming
needs no state and any number of processes sees the same batches.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from s2i_lib.errors import InputError
from s2i_lib.options import FinetuneOptions

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

log = logging.getLogger(__name__)

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


@contextmanager
def visiting(module: Any, device: torch.device) -> Iterator[None]:
    """Have a network on ``device`` for a while: what does not train leaves its memory to training.

    It goes back to where it was, and the memory that it worked in is given back.
    """
    home = module.device
    try:  # a device that is full has taken a part of it before it says so
        module.to(device)
        yield
    finally:
        module.to(home)
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def visiting_if_there_is_room(module: Any, device: torch.device) -> Iterator[None]:
    """The same; where ``device`` is full, the network stays where it is."""
    with ExitStack() as stack:
        try:
            stack.enter_context(visiting(module, device))
        except torch.OutOfMemoryError:
            log.warning("%s is full: %s stays where it is.", device, type(module).__name__)
        yield


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


# ---- Everything random ----

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
    is_dropped: bool
    """Whether a class image is shown with the empty prompt."""


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
    posterior = torch.randn(tuple(shape), generator=rng)
    is_dropped = float(torch.rand((), generator=rng)) < options.class_dropout
    return Draw(is_mirrored, timestep, noise, posterior, is_dropped)


def pick(seed: int, stream: int, index: int, count: int) -> int:
    """Which of ``count`` images the ``index``-th sample since the start of training is.

    Every image comes once before any comes again, in an order that is new each time around.
    """
    epoch, place = divmod(index, count)
    order = torch.randperm(count, generator=generator(seed, ORDER, stream, epoch))
    return int(order[place])


# ---- A step's batch ----


class Batch(NamedTuple):
    """One part of a step: instance images, then as many class images (none without prior)."""

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    prompts: torch.Tensor
    """Rows of ``TrainingData.tokens``, shape = (n,)"""


@dataclass
class TrainingData:
    """All that a run learns from, in latents; built once, small, on the CPU."""

    instances: Moments
    mirrored: Moments | None
    class_latents: torch.Tensor | None
    """shape = (n, channels, height, width), scaled; sampled, never decoded"""
    tokens: torch.Tensor
    """of the instance prompt, each class prompt once and, where some are dropped, the empty one,
    shape = (prompts, tokens)"""
    embeddings: torch.Tensor
    """of the same, shape = (prompts, tokens, width)"""
    class_rows: Sequence[int] = (1,)
    """The row of tokens that each class image is shown with; the only one, if all have the same."""

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
                own = self.class_rows[image % len(self.class_rows)]
                prompt = max(self.class_rows) + 1 if chance.is_dropped else own
                rows.append((self.class_latents[image], chance.noise, chance.timestep, prompt))
        latents, noise, times, prompts = zip(*rows, strict=True)
        return Batch(
            torch.stack(latents), torch.stack(noise), torch.tensor(times), torch.tensor(prompts)
        )
