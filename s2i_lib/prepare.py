"""All that a run learns from, made ready before its first step."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from s2i_lib import batches, prior
from s2i_lib.batches import TrainingData
from s2i_lib.drive import Drive, local_folder
from s2i_lib.keeper import Keeper
from s2i_lib.models import Model
from s2i_lib.options import FinetuneOptions
from s2i_lib.run import Dataset
from s2i_lib.subject import Subject, fill_in, prompts_in_turn

if TYPE_CHECKING:
    from accelerate import Accelerator

SHEET = "sheet.png"
"""The contact sheet's name in a folder of class images."""


def prepare_data(
    model: Model,
    dataset: Dataset,
    options: FinetuneOptions,
    accelerator: Accelerator,
    drive: Drive,
    keeper: Keeper,
) -> TrainingData:
    """Encode the photos and prompts once, get the class images; then free what made them."""
    pipe, subject, device = model.pipeline, dataset.subject, accelerator.device
    prompts, shown = [f"a {subject.phrase}"], []
    if options.with_prior:
        rows = fill_in(options.class_prompts, subject)
        shown = prompts_in_turn(rows, options.class_image_count)
        prompts += dict.fromkeys(shown)
        prompts += [""] if options.class_dropout else []
    embeddings = batches.embed_prompts(pipe, prompts)
    images = batches.read_images(dataset.images, model.base.size_px)
    with batches.visiting(pipe.vae, device):
        instances = batches.encode_images(pipe.vae, images)
        mirrored = batches.encode_images(pipe.vae, images.flip(3)) if options.with_mirror else None
    class_latents = None
    if options.with_prior:
        class_latents = get_class_latents(model, subject, options, accelerator, drive, keeper)
    tokens = batches.token_ids(pipe, prompts)
    class_rows = [prompts.index(prompt, 1) for prompt in shown]
    return TrainingData(instances, mirrored, class_latents, tokens, embeddings, class_rows)


def get_class_latents(
    model: Model,
    subject: Subject,
    options: FinetuneOptions,
    accelerator: Accelerator,
    drive: Drive,
    keeper: Keeper,
) -> torch.Tensor:
    """Class images from the Drive's cache or sampled now, with a contact sheet to look at."""
    pipe = model.pipeline
    card = prior.card_for_run(model, subject, options)
    kept = drive.class_images / prior.class_folder(card)
    local = local_folder(drive, kept)

    bar = tqdm(desc="Class images", unit="image", disable=not keeper.is_main, leave=False)

    def count(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        keeper.watch("class_images", {"done": done, "total": total})

    with accelerator.autocast(), bar:
        pipe.unet.to(accelerator.device)
        latents = prior.class_latents(
            pipe,
            functools.partial(batches.embed_prompts, pipe),
            card,
            options.class_image_count,
            [local, kept],
            accelerator,
            count,
            keep=lambda path: keeper.put(path, kept),
        )
    if keeper.is_main and not is_there(kept / SHEET):
        local.mkdir(parents=True, exist_ok=True)
        with batches.visiting(pipe.vae, accelerator.device):
            pictures = prior.decode_latents(pipe.vae, latents[: prior.SHEET_COUNT])
        sheet = local / SHEET
        prior.contact_sheet(pictures, columns=4).save(sheet)
    if keeper.is_main:  # also what an earlier session could not copy
        for path in sorted(local.glob("[!.]*")):
            if not is_there(kept / path.name):
                keeper.put(path, kept)
    return latents


def is_there(path: Path) -> bool:
    """Not where the mount has died, either: it is copied when that is back."""
    try:
        return path.exists()
    except OSError:
        return False
