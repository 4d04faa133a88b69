"""Prompt + model -> pictures."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from s2i_lib import __version__
from s2i_lib.drive import Drive, folder_name
from s2i_lib.errors import InputError, S2iError
from s2i_lib.models import REGISTRY, BaseModel, Model, find_run, known_words
from s2i_lib.prompt import Prompt
from s2i_lib.speech import Transcript
from s2i_lib.subject import Subject

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from s2i_lib.classroom import Classroom

log = logging.getLogger(__name__)

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
    guidance_interval: tuple[float, float] | None = None
    """Noise levels, 0 (none) to 1 (all noise), between which guidance is applied: elsewhere it
    costs time and changes little (Kynkäänniemi et al. 2024, arXiv:2404.07724). None: the model's
    own; (0, 1): always."""

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
        if self.guidance_interval is not None:
            low, high = self.guidance_interval
            if not 0 <= low <= high <= 1:
                raise InputError(
                    f"Guidance from noise level {low} to {high} is no interval. "
                    "Give two numbers that rise from 0 to 1; (0, 1) guides always."
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
    denoised: torch.Tensor
    """What the model takes the finished latents to be, seen from here; same shape. The first of
    these already show the picture, while ``latents`` are noise until late."""


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
    classroom: Classroom | None = None,
) -> list[Picture]:
    """Draw ``options.count`` pictures of a prompt in one batch; fewer where some are held back.

    Picture ``i`` starts from noise of a CPU generator of its own, seeded with ``seed + i``, so it
    is the same picture alone, in any batch and on any device, up to rounding.

    Raises
    ------
    InputError
        When the prompt is empty or longer than the model can read; in classroom mode also when it
        has a word that is not drawn there, or every picture was held back.
    """
    options = options or DrawOptions()
    if isinstance(prompt, str):
        prompt = Prompt(text=prompt.strip())
    check_prompt(model, prompt)
    if classroom is not None:
        classroom.check_prompt(prompt)
    first = secrets.randbelow(SEEDS - options.count) if options.seed is None else options.seed
    seeds = [(first + i) % SEEDS for i in range(options.count)]
    pictures = _draw_seeds(model, prompt, options, seeds, on_step)
    return pictures if classroom is None else _fit_for_class(classroom, model, pictures)


def _draw_seeds(
    model: Model,
    prompt: Prompt,
    options: DrawOptions,
    seeds: list[int],
    on_step: Callable[[Step], object] | None,
) -> list[Picture]:
    """One picture a seed, each with its record."""
    drawn = _draw_safely(model, prompt, options, seeds, on_step)
    record = {
        "prompt": prompt.text,
        "negative": prompt.negative,
        **asdict(options),
        "guidance_scale": _guidance(model, options),
        "guidance_interval": list(_guidance_interval(model, options)),
        "size_px": model.base.size_px,
        "model": model.base.name,
        "source": model.source,
        "run": model.run,
        "hashes": model.hashes(),
        "subjects": [asdict(subject) for subject in prompt.subjects],
        "transcript": prompt.transcript.to_json() if prompt.transcript else None,
        "device": _name_device(model.device),
        "versions": {"s2i_lib": __version__}
        | {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }
    return [
        Picture(
            one.image,
            record
            | {
                "seed": seed,
                "seeds": one.batch,
                "index": one.batch.index(seed),
                "count": len(one.batch),
                "precision": one.precision,
            },
        )
        for one, seed in zip(drawn, seeds, strict=True)
    ]


def _name_device(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _fit_for_class(classroom: Classroom, model: Model, pictures: list[Picture]) -> list[Picture]:
    """The pictures that a class may see; what was held back is said."""
    is_unfit = classroom.find_unfit(model, [picture.image for picture in pictures])
    if not any(is_unfit):
        return pictures
    count, total = sum(is_unfit), len(pictures)
    what = "the picture" if total == 1 else f"{count} of {total} pictures"
    said = (
        f"The safety checker held {what} back as not fit for a class. It is wrong now and then: "
        "try another seed, or other words."
    )
    if all(is_unfit):
        raise InputError(said)
    log.warning(said)
    return [picture for picture, unfit in zip(pictures, is_unfit, strict=True) if not unfit]


def model_named_in(record: dict[str, Any]) -> str:
    """What to load for a record: a name in the registry, or the folder that it came from."""
    name = record.get("model", "auto")
    return name if name in REGISTRY else record.get("source", name)


def compare_weights(model: Model, record: dict[str, Any]) -> str | None:
    """Say in what the weights in ``model`` differ from those that drew a picture; None: in nothing.

    A record of an older version has no hashes, and nothing is said of it.
    """
    before, now = record.get("hashes", {}), model.hashes()
    changed = [
        f"those of the {part} {record.get(part)} (SHA-256 {before[part][:12]} then, "
        f"{now.get(part, 'none')[:12]} now)"
        for part in before
        if now.get(part) != before[part]
    ]
    if not changed:
        return None
    return (
        f"The weights are not the ones that drew this picture: {' and '.join(changed)}. What is "
        "drawn now will look different; with the weights of then it would be the same."
    )


def prompt_of(record: dict[str, Any]) -> Prompt:
    """The prompt that a picture was drawn from, with whom it names and what was said."""
    return Prompt(
        text=record["prompt"],
        negative=record["negative"],
        subjects=tuple(Subject(**subject) for subject in record["subjects"]),
        transcript=Transcript.from_json(record["transcript"]) if record["transcript"] else None,
    )


def redo(
    model: Model, record: dict[str, Any], *, on_step: Callable[[Step], object] | None = None
) -> Picture:
    """Draw a picture again from its record: the same batch and precision, of it the same picture.

    Raises
    ------
    InputError
        When the record lacks what is needed, or ``model`` is not the one that drew it.
    """
    try:
        prompt, index, seeds = prompt_of(record), record["index"], record["seeds"]
        options = DrawOptions(
            steps=record["steps"],
            guidance_scale=record["guidance_scale"],
            count=len(seeds),
            seed=record["seed"],
            scheduler=record["scheduler"],
            guidance_interval=tuple(record["guidance_interval"]),
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"The record lacks {error}, so the picture cannot be made again. "
            "It was written by another version, or by hand."
        ) from error
    check_prompt(model, prompt)
    # Another machine gives other bits anyway, and half precision is a GPU's; older records say
    # neither.
    is_same_device = record.get("device") == _name_device(model.device)
    then = record["precision"] if is_same_device else _name_precision(model)
    with _in_precision(model, then, "in which the picture was drawn"):
        return _draw_seeds(model, prompt, options, seeds, on_step)[index]


def _name_precision(model: Model) -> str:
    return str(model.dtype).removeprefix("torch.")


@contextmanager
def _in_precision(model: Model, name: str, why: str) -> Iterator[None]:
    """Have the model in another precision for a while: the next picture is drawn in its own."""
    own = _name_precision(model)
    _set_precision(model, name, why)
    try:
        yield
    finally:
        _set_precision(model, own, "in which it was before")


def _set_precision(model: Model, name: str, why: str) -> None:
    """Convert the model; where fp32 finds no room, for it takes twice as much, all is as it was."""
    import torch

    own = model.dtype
    if name == _name_precision(model):
        return
    model.embeddings.clear()
    try:
        model.pipeline.to(getattr(torch, name))
        return
    except torch.OutOfMemoryError as error:
        shortage = str(error)
    model.pipeline.to(own)  # some of its parts had been converted
    raise S2iError(
        f"The GPU has too little free memory for {name}, {why} ({shortage}). Close other notebooks "
        "that use it, or take --model sd2.1-base or pocket."
    )


def _draw_safely(
    model: Model,
    prompt: Prompt,
    options: DrawOptions,
    seeds: list[int],
    on_step: Callable[[Step], object] | None,
) -> list[_Drawn]:
    """Sample and decode; where memory or half precision fails, go on more modestly and say so."""
    import torch

    drawn = _draw_batches(model, prompt, options, seeds, on_step)
    bad = [i for i, one in enumerate(drawn) if not one.is_finite or is_black(one.image)]
    if bad and model.dtype != torch.float32:
        log.warning(
            "Half precision gave black pictures (%d of %d): drawing again in full precision.",
            len(bad),
            len(seeds),
        )
        with _in_precision(model, "float32", "which black pictures need"):
            again = _draw_batches(model, prompt, options, [seeds[i] for i in bad], on_step)
        for i, one in zip(bad, again, strict=True):
            drawn[i] = one
    # A single black one among others is what its prompt asks for, perhaps.
    if not all(one.is_finite for one in drawn) or all(is_black(one.image) for one in drawn):
        raise S2iError(
            "The pictures came out black, or not as numbers, in full precision too: the weights "
            f"({model.source}) are damaged or were trained too far. Take an earlier checkpoint."
        )
    return drawn


@dataclass(frozen=True)
class _Drawn:
    image: Image
    is_finite: bool
    batch: list[int]
    """The seeds that were drawn together: a batch of another size is summed in another order."""
    precision: str


def _draw_batches(
    model: Model,
    prompt: Prompt,
    options: DrawOptions,
    seeds: list[int],
    on_step: Callable[[Step], object] | None,
) -> list[_Drawn]:
    """Sample and decode in one batch, or in halves of it where memory is short."""
    import torch

    try:
        latents = sample_latents(model, prompt, options, seeds, on_step)
        finite = latents.isfinite().flatten(1).all(dim=1).tolist()
        precision = _name_precision(model)
        images = decode(model, latents)
        for i, image in enumerate(images):
            if finite[i] and is_black(image) and model.pipeline.vae.dtype != torch.float32:
                images[i] = _decode_in_full(model, latents[i : i + 1])
        return [
            _Drawn(image, is_finite, seeds, precision)
            for image, is_finite in zip(images, finite, strict=True)
        ]
    except torch.OutOfMemoryError as error:
        shortage = str(error)
    # Out here the error is gone, and the tensors that its traceback held are free.
    latents = None
    torch.cuda.empty_cache()
    if len(seeds) == 1:
        raise S2iError(
            f"The GPU has too little free memory for one picture of {model.base.size_px} px "
            f"({shortage}). Close other notebooks that use it, or take --model pocket."
        )
    half = len(seeds) // 2
    log.warning("Memory is short: drawing %d pictures as %d and %d.",
                len(seeds), half, len(seeds) - half)  # fmt: skip
    parts = (seeds[:half], seeds[half:])
    return [one for part in parts for one in _draw_batches(model, prompt, options, part, on_step)]


def _decode_in_full(model: Model, latents: torch.Tensor) -> Image:
    """Decode in full precision what half precision made black although the latents are numbers.

    It takes a second, and drawing anew takes many. A night scene stays one.
    """
    import torch

    log.warning("Half precision gave black pixels: decoding again in full precision.")
    vae = model.pipeline.vae
    own = vae.dtype
    try:
        vae.to(torch.float32)
        return decode(model, latents)[0]
    finally:
        vae.to(own)


def is_black(image: Image) -> bool:
    """Whether no pixel is brighter than 3 %: what a decoder makes of NaN, never a night scene."""
    return image.convert("L").point(lambda value: value >= 8).getbbox() is None


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

    pipeline = model.pipeline
    guidance, (low, high) = _guidance(model, options), _guidance_interval(model, options)
    scheduler = make_scheduler(model, options.scheduler)
    scheduler.set_timesteps(options.steps, device=model.device)
    alphas = pipeline.scheduler.alphas_cumprod
    with torch.inference_mode():
        embeddings = encode_prompts(model, [prompt.negative, prompt.text])
        embeddings = embeddings.repeat_interleave(len(seeds), dim=0)
        latents = initial_noise(model, seeds) * scheduler.init_noise_sigma
        for number, t in enumerate(scheduler.timesteps, start=1):
            noisy = scheduler.scale_model_input(latents, t)
            is_guided = guidance != 1.0 and low <= float(t) / len(alphas) <= high
            if is_guided:
                both = torch.cat([noisy, noisy])
                predicted = pipeline.unet(both, t, encoder_hidden_states=embeddings).sample
                without, with_prompt = predicted.chunk(2)
                predicted = without + guidance * (with_prompt - without)
            else:
                text = embeddings[len(seeds) :]
                predicted = pipeline.unet(noisy, t, encoder_hidden_states=text).sample
            latents = scheduler.step(predicted, t, latents).prev_sample
            if on_step is not None:
                alpha = float(alphas[round(float(t))])
                denoised = estimate_denoised(noisy, predicted, alpha, model.base.prediction_type)
                on_step(Step(number, len(scheduler.timesteps), latents, denoised))
    return latents


def estimate_denoised(
    noisy: torch.Tensor, predicted: torch.Tensor, alpha: float, prediction_type: str
) -> torch.Tensor:
    """What the finished latents would be if the prediction were exact.

    ``alpha`` is the share of the signal's variance at this noise level (alphas_cumprod).
    Source: Ho et al. 2020, eq. 15, for epsilon; Salimans & Ho 2022, appendix D, for v.
    """
    if prediction_type == "v_prediction":
        return alpha**0.5 * noisy - (1 - alpha) ** 0.5 * predicted
    return (noisy - (1 - alpha) ** 0.5 * predicted) / alpha**0.5


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

    Each text is encoded alone, so that its embedding is the same in every company.
    Source: SD 2.x takes the text encoder's last hidden state; its folder leaves the top layer out.
    """
    import torch

    tokenizer, encoder = model.pipeline.tokenizer, model.pipeline.text_encoder
    for text in texts:
        if text in model.embeddings:
            continue
        tokens = tokenizer(
            text,
            padding="max_length",
            max_length=model.base.token_limit,
            truncation=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            model.embeddings[text] = encoder(tokens.input_ids.to(encoder.device))[0][0]
    return torch.stack([model.embeddings[text] for text in texts])


def decode(model: Model, latents: torch.Tensor) -> list[Image]:
    """Latents, shape = (n, channels, h, w), through the VAE into RGB pictures of size_px.

    One at a time: the VAE needs more memory a picture than the U-Net does.
    """
    import torch
    from PIL import Image

    vae = model.pipeline.vae
    images = []
    for one in latents.split(1):
        with torch.inference_mode():
            pixels = vae.decode(one.to(vae.dtype) / vae.config.scaling_factor).sample[0]
        pixels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        images.append(Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()))
    return images


def preview(model: Model, latents: torch.Tensor) -> list[Image]:
    """A rough picture of each latent without the VAE: a linear map to colours, a pixel a latent.

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


def make_scheduler(model: Model, name: str) -> Any:
    """A fresh scheduler called ``name`` over the noise schedule that the model was trained with."""
    import diffusers

    kind, settings = SCHEDULERS[name]
    return getattr(diffusers, kind).from_config(model.pipeline.scheduler.config, **settings)


def unknown_words(base: BaseModel, text: str, taught: str = "") -> list[str]:
    """The words of ``text`` that a small model was never trained on, in order, each once.

    They may be in its vocabulary: weights can be older than the words they ship with. The words of
    ``taught`` are known, too: those that a run was fine-tuned with.
    """
    words = known_words(base)
    if words is None:
        return []
    plurals = words["plurals"]
    unseen = {form for noun in words["unseen"] for form in (noun, plurals[noun])}
    known = set(taught.lower().split())
    for kind in words.values():
        entries = [*kind.keys(), *kind.values()] if isinstance(kind, dict) else kind
        for entry in entries:
            if isinstance(entry, str) and entry not in unseen:
                known.update(entry.lower().split())
    said = re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", text.lower())
    return [
        word for word in dict.fromkeys(said) if word not in known and word.rstrip("s") not in known
    ]


def explain_unknown_words(base: BaseModel, text: str, taught: str = "") -> str | None:
    """One paragraph on the words that ``base`` has never seen and on what it knows, or None."""
    strange, words = unknown_words(base, text, taught), known_words(base)
    if not strange or words is None:
        return None
    nouns = [noun for noun in words["nouns"] if noun not in words["unseen"]]
    return (
        f"The {base.name} model has never seen the word{'s'[: len(strange) > 1]} "
        f"{', '.join(strange)}, so the picture is a guess. It knows {len(nouns)} things "
        f"({', '.join(nouns[:: max(1, len(nouns) // 12)][:12])}, ...) and the colours "
        f"{', '.join(words['colours'])}."
    )


def explain_untaught(model: Model, prompt: Prompt, drive: Drive) -> str | None:
    """One paragraph where the prompt asks by identifier for whom ``model`` was not taught, or None.

    Nobody knows whom weights from elsewhere were taught, so nothing is said of them.
    """
    if model.run and not model.taught:
        return None
    for subject in prompt.subjects:
        if subject.phrase in prompt.text and subject.phrase not in model.taught:
            try:
                run = find_run(drive, folder_name(subject.name))
                remedy = f"Draw with its run: {run.parent.name}/{run.name}."
            except InputError:
                remedy = "Teach it first, with notebooks/2_finetune_dreambooth.ipynb."
            return (
                f"{subject.name} was named, but {model.run or model.base.name} was not taught "
                f"{subject.name} and draws any {subject.class_noun}. {remedy}"
            )
    return None


def _guidance_interval(model: Model, options: DrawOptions) -> tuple[float, float]:
    return options.guidance_interval or model.base.guidance_interval


def _guidance(model: Model, options: DrawOptions) -> float:
    if options.guidance_scale is None:
        return model.base.guidance_scale
    return options.guidance_scale
