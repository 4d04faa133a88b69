"""Class images for prior preservation: what the model itself draws for "a dog", kept as latents.

They are sampled in few steps, never decoded and never encoded again. The folder they are kept in is
named after everything they depend on, so that a changed prompt, model, sampler or seed never finds
the old ones, and a second subject of the same class pays nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from s2i_lib.distributed import from_main
from s2i_lib.drawing.sampling import (
    DrawOptions,
    encode_prompts,
    guidance_interval_of,
    guidance_of,
    sample_latents,
)
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models.digests import fingerprint
from s2i_lib.models.loading import Model
from s2i_lib.models.schedulers import USUAL
from s2i_lib.photos.subject import Subject
from s2i_lib.speech.prompt import Prompt
from s2i_lib.speech.templates import fill_in, prompts_in_turn
from s2i_lib.storage.files import write_file, write_json
from s2i_lib.storage.layout import FOLDER_BYTES, cut_name, folder_name
from s2i_lib.storage.tensor_file import open_tensors
from s2i_lib.training.config import FinetuneOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

SHEET = "sheet.png"  # in a folder of class images: some of them, to look at
SHEET_COUNT = 20  # pictures on it, four in a row: pocket has as many turns
# Below 10 steps pictures lose detail; above 20 they hardly change. The last steps only add detail
# and cost half without guidance. Source: Kynkäänniemi et al., https://arxiv.org/abs/2404.07724.
SAMPLING = DrawOptions(steps=12, guidance_interval=(0.38, 1.0))
GUIDED_UNTIL = 0.6  # the same as a share of the way: eight steps of twelve, however they are spaced


@dataclass(frozen=True)
class ClassImages:
    """A set of class images: what it depends on, except how many there are; more of them extend."""

    model: Model
    rows: Sequence[str]
    """Prompts, which take turns (``prompts_in_turn``)."""
    seed: int = 0
    sampling: DrawOptions = SAMPLING
    batch_size: int = 8
    """Pictures at a time; part of the key, since a batch's size changes the last bits."""

    @classmethod
    def for_run(cls, model: Model, subject: Subject, options: FinetuneOptions) -> ClassImages:
        """Describe those that a run of ``model`` with these options learns from."""
        return cls(model, fill_in(options.class_prompts, subject), options.seed)

    @functools.cached_property
    def card(self) -> dict[str, Any]:
        """All that they depend on, as card.json has it since the first version."""
        (first,) = prompts_in_turn(self.rows, 1)
        low, high = interval = guidance_interval_of(self.model, self.sampling)
        scheduler, usual = self.sampling.scheduler, SAMPLING.guidance_interval
        card = {
            "prompt": first,
            "model": fingerprint(self.model.pipeline),
            "size": self.model.pipeline.unet.config.sample_size,
            "sampler": {
                "name": {USUAL: "dpmsolver++"}.get(scheduler, scheduler),
                "steps": self.sampling.steps,
                "guidance_scale": guidance_of(self.model, self.sampling),
                "guided_from": 1 - high,
                "guided_until": GUIDED_UNTIL if interval == usual else 1 - low,
                "batch_size": self.batch_size,
                "seed": self.seed,
            },
        }
        return card | ({"prompts": list(self.rows)} if list(self.rows) != [first] else {})

    @property
    def name(self) -> str:
        """The folder's name: the first prompt to read, and a key of its own for each card."""
        key = hashlib.sha256(json.dumps(self.card, sort_keys=True).encode()).hexdigest()[:12]
        words = cut_name(folder_name(self.card["prompt"])[:100], FOLDER_BYTES - len(key) - 1)
        return f"{words.rstrip('-_')}-{key}"

    def latents(
        self,
        count: int,
        places: Sequence[Path],
        accelerator: Accelerator,
        callback: Callable[[int, int], None] = lambda done, total: None,
        publish: Callable[[Path], None] = lambda path: None,
    ) -> torch.Tensor:
        """Read them where they are kept, and sample those that are missing.

        Parameters
        ----------
        places : sequence of Path
            Folders they may lie in; new ones are written to the first.
        accelerator : Accelerator
            Its processes share the sampling; the result does not depend on how many there are.
        callback : callable
            Gets the images sampled so far and in all, before each round.
        publish : callable
            Gets each new file, to copy it where it lasts.

        Returns
        -------
        Tensor, shape = (count, channels, height, width), fp32 on the CPU

        Raises
        ------
        S2iError
            When they are not numbers.
        """
        from accelerate.utils import gather_object

        n_batches, size = -(-count // self.batch_size), self.batch_size
        found = {index: self._read(index, places) for index in range(n_batches)}
        # What one process finds on its disk another may not: the first one decides for all.
        missing = from_main(accelerator, [i for i, latents in found.items() if latents is None])
        is_main, n_processes = accelerator.is_main_process, accelerator.num_processes
        if missing:  # in full precision; kept for the sampler
            prompts = prompts_in_turn(self.rows, n_batches * size)
            encode_prompts(self.model, ["", *dict.fromkeys(prompts)])
        if missing and is_main:
            places[0].mkdir(parents=True, exist_ok=True)
            publish(write_json(places[0] / "card.json", self.card))
        for first in range(0, len(missing), n_processes):
            callback(first * size, len(missing) * size)
            mine = missing[first : first + n_processes][accelerator.process_index :][:1]
            drawn = [(index, self._sample(index, accelerator)) for index in mine]
            for index, latents in gather_object(drawn) if n_processes > 1 else drawn:
                if not latents.isfinite().all():  # nothing of it is kept: it would be found again
                    raise S2iError(
                        "The class images are not numbers (NaN): this model does not work in this "
                        "precision here. Choose precision fp32."
                    )
                found[index] = latents
                if is_main:
                    publish(_write(latents, places[0] / _batch_name(index)))
        if missing:
            callback(len(missing) * size, len(missing) * size)
        # On another machine the kept ones may not be there to read.
        whole = torch.cat([found[i] for i in range(n_batches)])[:count] if is_main else None
        return from_main(accelerator, whole)

    def _sample(self, index: int, accelerator: Accelerator) -> torch.Tensor:
        """One batch, each image from the noise of a seed of its own."""
        images = range(index * self.batch_size, (index + 1) * self.batch_size)
        prompts = prompts_in_turn(self.rows, images.stop)[images.start :]
        seeds = [image_seed(self.seed, image) for image in images]
        wishes = [Prompt(prompt) for prompt in prompts]
        with accelerator.autocast():
            latents = sample_latents(self.model, wishes, self.sampling, seeds)
        return latents.float().cpu()

    def _read(self, index: int, places: Sequence[Path]) -> torch.Tensor | None:
        """A batch that is whole; None if no place has it or what is there was damaged."""
        from safetensors import SafetensorError

        for place in places:
            try:
                with open_tensors(place / _batch_name(index)) as file:
                    latents = file.get_tensor("latents")
                    digest = (file.metadata() or {}).get("sha256")
                is_whole = len(latents) == self.batch_size and digest == _digest(latents)
            except (OSError, InputError, SafetensorError, TypeError):
                continue
            if is_whole and latents.isfinite().all():  # earlier versions kept what was not
                return latents
        return None


def image_seed(seed: int, index: int) -> int:
    """Seed of the noise that the image at ``index`` begins as."""
    (state,) = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    return int(state) >> 1


def _batch_name(index: int) -> str:
    return f"latents-{index:03}.safetensors"


def _digest(latents: torch.Tensor) -> str:
    return hashlib.sha256(latents.numpy().tobytes()).hexdigest()


def _write(latents: torch.Tensor, path: Path) -> Path:
    from safetensors.torch import save

    return write_file(path, save({"latents": latents}, metadata={"sha256": _digest(latents)}))
