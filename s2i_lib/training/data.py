"""What a step learns from: photos and prompts encoded once, and all that is random about it.

Everything random is a function of (seed, step, position in the global batch), so that resuming
needs no state and any number of processes sees the same batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from s2i_lib.drawing.gallery import grid
from s2i_lib.drawing.marks import encode_marked, mark_of_model
from s2i_lib.drawing.sampling import decode, encode_prompts, token_ids
from s2i_lib.models import devices
from s2i_lib.photos.own_png import open_png
from s2i_lib.speech.templates import fill_in, prompts_in_turn
from s2i_lib.storage.layout import is_there, local_folder
from s2i_lib.training.backgrounds import TIMES, compose, read_cut_out
from s2i_lib.training.checkpoint_manager import CheckpointManager
from s2i_lib.training.class_images import SHEET, SHEET_COUNT, ClassImages
from s2i_lib.training.config import FinetuneOptions
from s2i_lib.training.run import Setup
from s2i_lib.training.views import learned

if TYPE_CHECKING:
    from PIL import Image

SCENES = "scenes.png"  # in a run's folder: the subject on grounds that the model drew

# ---- Caches: the VAE and the frozen text encoder run once ----


class Moments(NamedTuple):
    """The VAE's posterior of each image, shape = (n, channels, height, width), scaled latents."""

    mean: torch.Tensor
    std: torch.Tensor


def read_images(paths: Iterable[Path], size_px: int) -> torch.Tensor:
    """Read square images as the VAE wants them, shape = (n, 3, size_px, size_px), -1 to 1."""
    from PIL.Image import Resampling

    images = []
    for path in paths:
        image = open_png(path).convert("RGB")
        images.append(image.resize((size_px, size_px), Resampling.LANCZOS))
    return as_tensor(images)


def as_tensor(images: Iterable[Image.Image]) -> torch.Tensor:
    """Turn RGB pictures of one size into what the VAE wants, shape = (n, 3, size, size)."""
    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
    return torch.stack(pixels).float() / 127.5 - 1


@torch.no_grad()
def encode_images(vae: Any, images: torch.Tensor) -> Moments:
    """Return the posterior's mean and deviation, scaled as the U-Net expects its latents."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    means, stds = [], []
    for image in images.split(1):  # one at a time: the encoder's memory peaks at full size
        posterior = vae.encode(image.to(vae.device, vae.dtype)).latent_dist
        means.append(((posterior.mean - shift) * vae.config.scaling_factor).float().cpu())
        stds.append((posterior.std * vae.config.scaling_factor).float().cpu())
    return Moments(torch.cat(means), torch.cat(stds))


def encode_both(
    vae: Any, images: torch.Tensor, with_mirror: bool
) -> tuple[Moments, Moments | None]:
    """Encode images, and their mirror images where they are wanted."""
    return encode_images(vae, images), encode_images(vae, images.flip(3)) if with_mirror else None


# ---- Everything random ----

INSTANCE, CLASS, ORDER, SCENE = range(4)  # streams that never share a number


def generator(seed: int, *where: int) -> torch.Generator:
    """Make a CPU generator that depends on nothing but its arguments."""
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
    """Draw the randomness of the sample at ``position`` of step ``step``, with ``n`` timesteps."""
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
    """Choose which of ``count`` images the ``index``-th sample since the start of training is.

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
    weights: torch.Tensor | None = None
    """How much each place of each sample counts, shape = (n, 1, height, width)"""


class Scenes(NamedTuple):
    """The subject, cut out, on grounds that the model drew."""

    moments: Moments
    mirrored: Moments | None
    rows: Sequence[int]
    """The row of tokens that each is shown with."""
    photos: frozenset[int]
    """Whose subject was cut out; the others are shown whole."""


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
    weights: torch.Tensor | None = None
    """How much each place of each photo counts, shape = (photos, 1, height, width)"""
    scenes: Scenes | None = None
    """The subject on grounds that the model drew."""

    def batch(
        self, options: FinetuneOptions, step: int, positions: Iterable[int], timesteps: int
    ) -> Batch:
        """Gather the samples at ``positions`` of the global batch of step ``step``."""
        rows = []
        shape = self.instances.mean.shape[1:]
        whole = torch.ones(1, *shape[1:])
        for position in positions:
            chance = draw(options, step, position, INSTANCE, shape, timesteps)
            index = step * options.batch_size + position
            latents, prompt, weights = self._instance(options, index, chance)
            rows.append((latents, chance.noise, chance.timestep, prompt, weights))
        if self.class_latents is not None:
            for position in positions:
                chance = draw(options, step, position, CLASS, shape, timesteps)
                index = step * options.batch_size + position
                image = pick(options.seed, CLASS, index, len(self.class_latents))
                own = self.class_rows[image % len(self.class_rows)]
                prompt = max(self.class_rows) + 1 if chance.is_dropped else own
                rows.append(
                    (self.class_latents[image], chance.noise, chance.timestep, prompt, whole)
                )
        samples, noise, times, prompts, weights = zip(*rows, strict=True)
        return Batch(
            torch.stack(samples),
            torch.stack(noise),
            torch.tensor(times),
            torch.tensor(prompts),
            None if self.weights is None else torch.stack(weights),
        )

    def _instance(
        self, options: FinetuneOptions, index: int, chance: Draw
    ) -> tuple[torch.Tensor, int, torch.Tensor]:
        """Return latents, row of the prompt, and weights of the ``index``-th instance image."""
        scene = self._scene(options, index)
        if self.scenes and scene is not None:
            latents = _sample(*self.scenes[:2], scene, chance)
            return latents, self.scenes.rows[scene], torch.ones(1, *latents.shape[1:])
        image = pick(options.seed, INSTANCE, index, len(self.instances.mean))
        latents = _sample(self.instances, self.mirrored, image, chance)
        if self.weights is None:
            return latents, 0, torch.ones(1, *latents.shape[1:])
        weights = self.weights[image]
        return latents, 0, weights.flip(2) if chance.is_mirrored and self.mirrored else weights

    def _scene(self, options: FinetuneOptions, index: int) -> int | None:
        """Which scene stands for the ``index``-th photo that is shown; None for the photo itself.

        The photos take turns as they do without scenes. In a share of the rounds a scene stands for
        each whose subject was cut out.
        """
        if not self.scenes:
            return None
        n, share, cut_out = len(self.instances.mean), options.background_share, self.scenes.photos
        rounds, place = divmod(index, n)
        turns = [pick(options.seed, INSTANCE, rounds * n + i, n) in cut_out for i in range(n)]
        before = int(rounds * share)
        if not turns[place] or int((rounds + 1) * share) == before:
            return None
        seen = before * len(cut_out) + sum(turns[:place])
        return pick(options.seed, SCENE, seen, len(self.scenes.rows))


def _sample(moments: Moments, mirrored: Moments | None, image: int, chance: Draw) -> torch.Tensor:
    """Sample one image's latents from the posterior, or its mirror image's."""
    of = mirrored if chance.is_mirrored and mirrored else moments
    return of.mean[image] + of.std[image] * chance.posterior


def prepare_data(setup: Setup, manager: CheckpointManager) -> TrainingData:
    """Encode the photos and prompts once, get the class images; then free what made them."""
    model, options, subject = setup.model, setup.options, setup.dataset.subject
    prompts, shown = [f"a {subject.phrase}"], []
    if options.with_prior:
        rows = fill_in(options.class_prompts, subject)
        shown = prompts_in_turn(rows, options.class_image_count)
        prompts += dict.fromkeys(shown)
        prompts += [""] if options.class_dropout else []
    if lost := setup.dataset.lost_masks:
        setup.report(lost)
    photos = learned(setup)
    if len(photos) < (n := len(setup.dataset.images)):
        setup.report(_of_these_alone(photos, n))
    scenes, said = draw_scenes(setup, manager, photos)
    if scenes and setup.is_main:
        manager.put(manager.run.local / SCENES)
        setup.callback("scenes", {"path": manager.run.local / SCENES})
    after_class = len(prompts)
    prompts += dict.fromkeys(said)
    embeddings = encode_prompts(model, prompts)
    images, vae = read_images(photos, model.base.size_px), model.pipeline.vae
    masks = [setup.dataset.mask_of(photo) for photo in photos]
    cut_out = frozenset(i for i, mask in enumerate(masks) if mask)
    with devices.visiting(vae, setup.device):
        instances, mirrored = encode_both(vae, images, options.with_mirror)
        made = encode_both(vae, as_tensor(scenes), options.with_mirror) if scenes else None
    class_latents = get_class_latents(setup, manager) if options.with_prior else None
    tokens = token_ids(model, prompts)
    class_rows = [prompts.index(prompt, 1) for prompt in shown]
    scene_rows = [prompts.index(prompt, after_class) for prompt in said]
    return TrainingData(
        instances,
        mirrored,
        class_latents,
        tokens,
        embeddings,
        class_rows,
        weigh(masks, options.surroundings_weight, instances.mean.shape[2:]),
        Scenes(*made, scene_rows, cut_out) if made else None,
    )


def _of_these_alone(photos: Sequence[Path], n: int) -> str:
    *first, last = (photo.name for photo in photos)
    names = f"{', '.join(first)} and {last}" if first else last
    return (
        f"Of {n} photos it learns from {names}, where the subject is most alike: of several sides "
        "this model would draw the mean. With most_photos=0 it learns from all."
    )


def weigh(masks: Sequence[Path | None], rest: float, size: Sequence[int]) -> torch.Tensor | None:
    """Return how much each place of each photo counts, shape = (photos, 1, *size); None: all."""
    from PIL.Image import Resampling

    if rest == 1 or not any(masks):
        return None
    rows = []
    for mask in masks:
        if mask is None:
            rows.append(torch.ones(tuple(size)))
            continue
        alpha = open_png(mask).resize((size[1], size[0]), Resampling.BOX)
        rows.append(rest + (1 - rest) * torch.from_numpy(np.array(alpha) / 255).float())
    return torch.stack(rows)[:, None]


def draw_scenes(
    setup: Setup, manager: CheckpointManager, photos: Sequence[Path]
) -> tuple[list[Any], list[str]]:
    """Set the cut-out subject into grounds that the model draws; with each the prompt for it.

    Some of them are on a sheet on this disk. It is not on the Drive before training begins: there a
    run's folder that holds anything is taken for a run.
    """
    options, dataset = setup.options, setup.dataset
    masks = {image: dataset.mask_of(image) for image in photos}
    subjects = [read_cut_out(image, mask) for image, mask in masks.items() if mask]
    if not subjects or not options.background_prompts:
        return [], []
    # No more than a short run sees.
    shown = max(options.steps, options.most_steps) * options.batch_size
    count = min(options.background_count, shown)
    n_grounds = -(-count // TIMES)
    where = (prompts_in_turn(options.background_prompts, n_grounds) * TIMES)[:count]
    rows = [" | ".join(options.ground_prompt.format(where=one.strip()) for one in row.split("|"))
            for row in options.background_prompts]  # fmt: skip
    grounds = ClassImages(setup.model, rows, options.seed)
    latents = get_latents(setup, manager, grounds, n_grounds, "Backgrounds")
    with devices.visiting(setup.model.pipeline.vae, setup.device):
        pictures = decode(setup.model, latents)
    scenes = compose(subjects, pictures, where, options.seed)
    if setup.is_main:
        sheet = manager.run.local / SCENES
        sheet.parent.mkdir(parents=True, exist_ok=True)
        mark = mark_of_model(setup.model, is_composite=True)
        sheet.write_bytes(encode_marked(grid(scenes[:SHEET_COUNT], columns=5), "PNG", mark))
    return scenes, [f"a {dataset.subject.phrase} {one}" for one in where]


def get_class_latents(setup: Setup, manager: CheckpointManager) -> torch.Tensor:
    """Get class images from the Drive's cache, or sample them, with a sheet to look at."""
    images = ClassImages.for_run(setup.model, setup.dataset.subject, setup.options)
    count = setup.options.class_image_count
    return get_latents(setup, manager, images, count, "Class images")


def get_latents(
    setup: Setup, manager: CheckpointManager, images: ClassImages, wanted: int, what: str
) -> torch.Tensor:
    """Get what the model draws for itself from the Drive's cache, or sample it, with a sheet."""
    model, pipe = setup.model, setup.model.pipeline
    kept = setup.drive.class_images / images.name
    local = local_folder(setup.drive, kept)
    bar = tqdm(desc=what, unit="image", disable=not setup.is_main, leave=False)

    callback = setup.callback  # a frame keeps what its function closes over: not the model

    def count(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        callback("class_images", {"done": done, "total": total})

    pipe.unet.to(setup.device)
    with bar:
        latents = images.latents(
            wanted,
            [local, kept],
            setup.accelerator,
            count,
            publish=lambda path: manager.put(path, kept),
        )
    if setup.is_main and not is_there(kept / SHEET):
        local.mkdir(parents=True, exist_ok=True)
        with devices.visiting(pipe.vae, setup.device):
            pictures = decode(model, latents[:SHEET_COUNT])
        sheet = grid(pictures, columns=4, gap_px=0)
        (local / SHEET).write_bytes(encode_marked(sheet, "PNG", mark_of_model(model)))
    if setup.is_main:  # also what an earlier session could not copy
        for path in sorted(local.glob("[!.]*")):
            if not is_there(kept / path.name):
                manager.put(path, kept)
    return latents
