"""Class images for prior preservation: what the model itself draws for "a dog", kept as latents.

They are sampled in few steps, never decoded and never encoded again. The folder they are kept in is
named after everything they depend on, so that a changed prompt, model, sampler or seed never finds
the old ones, and a second subject of the same class pays nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from s2i_lib.distributed import from_main
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.loading import Model, fingerprint
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.templates import fill_in, prompts_in_turn
from s2i_lib.storage.files import write_file, write_json
from s2i_lib.storage.layout import folder_name
from s2i_lib.training.config import FinetuneOptions

if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers import StableDiffusionPipeline
    from PIL import Image

SHEET_COUNT = 20  # pictures on the contact sheet, four in a row: pocket has as many turns


@dataclass(frozen=True)
class SamplerOptions:
    """How latents are sampled: DPM-Solver++ (https://arxiv.org/abs/2211.01095)."""

    steps: int = 12
    """Below 10 pictures lose detail; above 20 they hardly change."""
    guidance_scale: float = 7.5
    """Classifier-free guidance, where it is on."""
    guided_from: float = 0.0
    """Guidance begins after this share of the steps ..."""
    guided_until: float = 0.6
    """... and ends after this one; the last steps only add detail and cost half without it.
    Source: Kynkäänniemi et al., https://arxiv.org/abs/2404.07724."""
    batch_size: int = 8
    """Pictures at a time; part of the key, since a batch's size changes the last bits."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise InputError(
                f"Sampling in {self.steps} steps, {self.batch_size} at a time, draws nothing. "
                "Choose 1 or more of both."
            )
        if not 0 <= self.guided_from <= self.guided_until <= 1:
            raise InputError(
                f"Guidance from {self.guided_from} to {self.guided_until} is no part of the way. "
                "Choose 0 <= guided_from <= guided_until <= 1."
            )

    def is_guided(self, index: int) -> bool:
        """Whether the step of this index is guided, which takes two evaluations of the U-Net."""
        is_on = self.guidance_scale != 1
        return is_on and self.guided_from <= index / self.steps < self.guided_until

    @property
    def evaluations(self) -> int:
        """Of the U-Net, for a picture."""
        return self.steps + sum(self.is_guided(index) for index in range(self.steps))


@torch.no_grad()
def sample_latents(
    pipe: StableDiffusionPipeline,
    embeddings: torch.Tensor,
    seeds: Sequence[int],
    options: SamplerOptions,
) -> torch.Tensor:
    """Sample one latent for each seed.

    Parameters
    ----------
    pipe : StableDiffusionPipeline
        Its U-Net, wherever that is, and its noise schedule.
    embeddings : Tensor, shape = (2, tokens, width) or (1 + n, tokens, width)
        Of the empty prompt, then of the one prompt or of each of the n prompts.
    seeds : sequence of int
        Each latent depends on its own seed only.

    Returns
    -------
    Tensor, shape = (n, channels, height, width), fp32 on the CPU, scaled as the U-Net has them
    """
    from diffusers import DPMSolverMultistepScheduler

    unet = pipe.unet
    size = unet.config.sample_size
    shape = (unet.config.in_channels, size, size)
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    scheduler = DPMSolverMultistepScheduler.from_config(
        pipe.scheduler.config, algorithm_type="dpmsolver++"
    )
    scheduler.set_timesteps(options.steps, device=unet.device)
    latents = torch.stack(rows).to(unet.device) * scheduler.init_noise_sigma
    embeddings = embeddings.to(unet.device, unet.dtype)
    prompts = embeddings[1:].expand(len(rows), -1, -1)
    both = torch.cat([embeddings[:1].expand(len(rows), -1, -1), prompts])
    for index, timestep in enumerate(scheduler.timesteps):
        if options.is_guided(index):
            pair = torch.cat([latents, latents]).to(unet.dtype)
            without, given = unet(pair, timestep, both).sample.float().chunk(2)
            prediction = without + options.guidance_scale * (given - without)
        else:
            prediction = unet(latents.to(unet.dtype), timestep, prompts).sample.float()
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    return latents.cpu()


@torch.no_grad()
def decode_latents(vae: Any, latents: torch.Tensor) -> list[Image.Image]:
    """Latents to pictures, one at a time, wherever the VAE is."""
    from PIL import Image

    shift = getattr(vae.config, "shift_factor", None) or 0.0
    pictures = []
    for latent in latents.split(1):
        scaled = latent.to(vae.device, vae.dtype) / vae.config.scaling_factor + shift
        image = vae.decode(scaled).sample[0].float().cpu()
        pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
        pictures.append(Image.fromarray(pixels.numpy()))
    return pictures


def contact_sheet(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size in rows of ``columns``."""
    from PIL import Image

    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * width, index // columns * height))
    return sheet


def class_card(pipe: StableDiffusionPipeline, rows: Sequence[str], options: SamplerOptions) -> dict:
    """Everything that class images depend on, except how many there are: more of them extend.

    ``rows`` of prompts take turns (``prompts_in_turn``).
    """
    (first,) = prompts_in_turn(rows, 1)
    card = {
        "prompt": first,
        "model": fingerprint(pipe),
        "size": pipe.unet.config.sample_size,
        "sampler": {"name": "dpmsolver++", **asdict(options)},
    }
    return card | ({"prompts": list(rows)} if list(rows) != [first] else {})


def card_for_run(model: Model, subject: Subject, options: FinetuneOptions) -> dict:
    """The card of the class images that a run of ``model`` with these options learns from."""
    sampler = SamplerOptions(guidance_scale=model.base.guidance_scale, seed=options.seed)
    return class_card(model.pipeline, fill_in(options.class_prompts, subject), sampler)


def class_folder(card: dict) -> str:
    """The name of the folder for ``card``: its first prompt to read, and its own for each card."""
    key = hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()[:12]
    return f"{folder_name(card['prompt'])[:100].rstrip('-_')}-{key}"  # a name has 255 at most


def class_latents(
    pipe: StableDiffusionPipeline,
    embed: Callable[[Sequence[str]], torch.Tensor],
    card: dict,
    count: int,
    places: Sequence[Path],
    accelerator: Accelerator,
    callback: Callable[[int, int], None] = lambda done, total: None,
    keep: Callable[[Path], None] = lambda path: None,
) -> torch.Tensor:
    """Class images as latents: read where they are kept, sampled where they are missing.

    Parameters
    ----------
    embed : callable
        Turns n prompts into what the U-Net sees of them, shape = (n, tokens, width).
    places : sequence of Path
        Folders they may lie in; new ones are written to the first.
    accelerator : Accelerator
        Its processes share the sampling; the result does not depend on how many there are.
    callback : callable
        Gets the images sampled so far and in all, before each round.
    keep : callable
        Gets each new file, to copy it where it lasts.

    Returns
    -------
    Tensor, shape = (count, channels, height, width)
    """
    from accelerate.utils import gather_object
    from safetensors.torch import save

    options = SamplerOptions(**{k: v for k, v in card["sampler"].items() if k != "name"})
    size = options.batch_size
    n_batches = -(-count // size)
    prompts = prompts_in_turn(card.get("prompts", [card["prompt"]]), n_batches * size)
    found = {index: _read_batch(index, places, size) for index in range(n_batches)}
    missing = [index for index, latents in found.items() if latents is None]
    # What one process finds on its disk another may not: the first one decides for all.
    missing = from_main(accelerator, missing)
    distinct = list(dict.fromkeys(["", *prompts]))
    embeddings = embed(distinct) if missing else torch.empty(0)
    if missing and accelerator.is_main_process:
        places[0].mkdir(parents=True, exist_ok=True)
        keep(write_json(places[0] / "card.json", card))
    for first in range(0, len(missing), accelerator.num_processes):
        round_ = missing[first : first + accelerator.num_processes]
        callback(first * size, len(missing) * size)
        mine = []
        if accelerator.process_index < len(round_):
            index = round_[accelerator.process_index]
            images = range(index * size, (index + 1) * size)
            seeds = [_image_seed(options.seed, image) for image in images]
            rows = [0, *(distinct.index(prompts[image]) for image in images)]
            mine = [(index, sample_latents(pipe, embeddings[rows], seeds, options))]
        for index, latents in gather_object(mine) if accelerator.num_processes > 1 else mine:
            found[index] = latents
            if accelerator.is_main_process:
                digest = hashlib.sha256(latents.numpy().tobytes()).hexdigest()
                data = save({"latents": latents}, metadata={"sha256": digest})
                keep(write_file(places[0] / _batch_name(index), data))
    if missing:
        callback(len(missing) * size, len(missing) * size)
    whole = None
    if accelerator.is_main_process:  # on another machine the kept ones may not be there to read
        whole = torch.cat([found[index] for index in range(n_batches)])[:count]
    latents = from_main(accelerator, whole)
    if not latents.isfinite().all():
        raise S2iError(
            "The class images are not numbers (NaN): this model does not work in this precision "
            "here. Choose precision fp32."
        )
    return latents


def _image_seed(seed: int, index: int) -> int:
    (state,) = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    return int(state) >> 1


def _batch_name(index: int) -> str:
    return f"latents-{index:03}.safetensors"


def _read_batch(index: int, places: Sequence[Path], size: int) -> torch.Tensor | None:
    """A batch that is whole; None if no place has it or what is there was damaged."""
    from safetensors import SafetensorError, safe_open

    for place in places:
        try:
            with safe_open(place / _batch_name(index), "pt") as file:
                latents = file.get_tensor("latents")
                digest = (file.metadata() or {}).get("sha256")
        except (OSError, SafetensorError):
            continue
        if len(latents) == size and digest == hashlib.sha256(latents.numpy().tobytes()).hexdigest():
            return latents
    return None
