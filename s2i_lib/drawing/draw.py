"""Prompt + model -> pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from s2i_lib import __version__
from s2i_lib.drawing.keeping import SUBJECT, SURROUNDINGS, Keeper, Kept
from s2i_lib.drawing.panorama import begin_at, column_steps, going_around
from s2i_lib.drawing.records import Picture, prompt_of, steps_of, whom_it_was_taught
from s2i_lib.drawing.sampling import (
    SEEDS,
    DrawOptions,
    Step,
    decode,
    guidance_interval_of,
    guidance_of,
    is_black,
    n_steps_of,
    sample_latents,
    subject_guidance_of,
    token_ids,
)
from s2i_lib.errors import InputError, S2iError, first_line
from s2i_lib.models.devices import name_device
from s2i_lib.models.loading import Model
from s2i_lib.speech.prompt import Prompt

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from s2i_lib.drawing.safety import Classroom

log = logging.getLogger(__name__)

PRECISIONS = ("float32", "float16", "bfloat16")

EMPTY_PROMPT = (
    "The prompt is empty, so there is nothing to draw. "
    'Say or type what the picture shows, for instance "a dog wearing a hat in the snow".'
)


def draw(
    model: Model,
    prompt: Prompt | str,
    options: DrawOptions | None = None,
    *,
    on_step: Callable[[Step], object] | None = None,
    classroom: Classroom | None = None,
    kept: Sequence[Kept] = (),
) -> list[Picture]:
    """Draw ``options.count`` pictures of a prompt in one batch; fewer where some are held back.

    Picture ``i`` starts from noise of a CPU generator of its own, seeded with ``seed + i``, so it
    is the same picture alone, in any batch and on any device, up to rounding. Where something is
    ``kept`` of the pictures before, each is drawn alone, from its own, or the last of those.

    Raises
    ------
    InputError
        When the prompt is empty or longer than the model can read; in classroom mode also when it
        has a word that is not drawn there, or every picture was held back.
    """
    options = (options or DrawOptions()).with_seed()
    if isinstance(prompt, str):
        prompt = Prompt(text=prompt.strip())
    check_prompt(model, prompt)
    if classroom is not None:
        classroom.check_prompt(prompt, guidance_of(model, options))
    assert options.seed is not None
    seeds = [(options.seed + i) % SEEDS for i in range(options.count)]
    if kept:
        pictures = [
            _draw_seeds(model, prompt, options, [seed], on_step, kept[min(i, len(kept) - 1)])[0]
            for i, seed in enumerate(seeds)
        ]
    else:
        pictures = _draw_seeds(model, prompt, options, seeds, on_step)
    return pictures if classroom is None else _fit_for_class(classroom, model, pictures)


def _draw_seeds(
    model: Model,
    prompt: Prompt,
    options: DrawOptions,
    seeds: list[int],
    on_step: Callable[[Step], object] | None,
    kept: Kept | None = None,
) -> list[Picture]:
    """One picture a seed, each with its record; a panorama begins where it is quietest."""
    keeper = Keeper(model, kept) if kept else None
    drawn = _draw_safely(model, prompt, options, seeds, on_step, keeper)
    record = {
        "prompt": prompt.text,
        "negative": prompt.negative,
        **asdict(options),
        "steps": n_steps_of(model, options),
        "guidance_scale": guidance_of(model, options),
        "guidance_interval": list(guidance_interval_of(model, options)),
        "subject_guidance": subject_guidance_of(model, prompt, options),
        "kept": kept.stays if kept else "",
        "size_px": model.base.size_px,
        "model": model.base.name,
        "source": model.source,
        "run": model.run,
        "run_subject": whom_it_was_taught(model),
        "hashes": model.hashes(),
        "subjects": [subject.to_record() for subject in prompt.subjects],
        "transcript": prompt.transcript.to_json() if prompt.transcript else None,
        "device": name_device(model.device),
        "versions": {"s2i_lib": __version__}
        | {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }
    pictures = [
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
    if options.is_panorama:
        pictures = [_begin_at(one, int(column_steps(one.image).argmin())) for one in pictures]
    return pictures


def _begin_at(panorama: Picture, column: int) -> Picture:
    """Cut a panorama so that it begins at a column of what the VAE gave, and put that on record."""
    begins_px = panorama.record.get("begins_px", 0)
    image = begin_at(panorama.image, column - begins_px)
    return Picture(image, panorama.record | {"begins_px": column})


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


def redo(
    model: Model,
    record: dict[str, Any],
    *,
    on_step: Callable[[Step], object] | None = None,
    classroom: Classroom | None = None,
) -> Picture:
    """Draw a picture again from its record: the same batch and precision, of it the same picture.

    One that keeps something of the picture before it needs that: it is drawn again first.

    Raises
    ------
    InputError
        When the record lacks what is needed, or ``model`` is not the one that drew it; in classroom
        mode as `draw` does.
    """
    steps = steps_of(record)
    start = len(steps) - 1  # the last one that needs no other
    while start and _stays_in(steps[start]):
        start -= 1
    if _stays_in(steps[start]):
        raise InputError(
            "The record says that something of the picture before was kept, and not what that was, "
            "so the picture cannot be made again. It was written by hand."
        )
    kept = None
    for step, after in pairwise(steps[start:]):
        kept = Kept(_redo(model, step, kept).image, _stays_in(after))
    picture = _redo(model, record, kept, on_step, classroom)
    said = {"conversation": record["conversation"]} if "conversation" in record else {}
    return replace(picture, record=picture.record | said)


def _stays_in(record: dict[str, Any]) -> str:
    """What a picture keeps of the one before it; of an older version's nothing is known."""
    stays = record.get("kept", "")
    if stays not in ("", SUBJECT, SURROUNDINGS):
        raise InputError(
            f"The record says that {str(stays)[:100]!r} was kept of the picture before. Expected "
            f"{SUBJECT} or {SURROUNDINGS}. It was written by another version, or by hand."
        )
    return str(stays)


def _redo(
    model: Model,
    record: dict[str, Any],
    kept: Kept | None,
    on_step: Callable[[Step], object] | None = None,
    classroom: Classroom | None = None,
) -> Picture:
    """One picture again, without what was said for it."""
    try:
        prompt, index, seeds = prompt_of(record), record["index"], record["seeds"]
        begins_px = record.get("begins_px", 0)  # older versions never turned a panorama
        numbers = (record["steps"], index, begins_px, *seeds)
        is_numbered = all(type(number) is int for number in numbers)
        if not is_numbered or min(index, *seeds) < 0 or record["seed"] != seeds[index]:
            raise TypeError("steps, seeds and its own place among them as numbers")
        options = DrawOptions(
            steps=record["steps"],
            guidance_scale=record["guidance_scale"],
            count=len(seeds),
            seed=record["seed"],
            scheduler=record["scheduler"],
            guidance_interval=tuple(record["guidance_interval"]),
            subject_guidance=float(record.get("subject_guidance", 0.0)),  # older ones had none
            is_panorama=record.get("is_panorama") is True,  # older versions drew none
        )
        # Another machine gives other bits anyway, and half precision is a GPU's; older records say
        # neither.
        is_same_device = record.get("device") == name_device(model.device)
        then = record["precision"] if is_same_device else _name_precision(model)
        if then not in PRECISIONS:
            raise TypeError(f"a precision, one of {', '.join(PRECISIONS)}")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"The record lacks {first_line(error)}, so the picture cannot be made again. "
            "It was written by another version, or by hand."
        ) from error
    check_prompt(model, prompt)
    if classroom is not None:
        classroom.check_prompt(prompt, guidance_of(model, options))
    with _in_precision(model, then, "in which the picture was drawn"):
        again = _draw_seeds(model, prompt, options, seeds, on_step, kept)[index]
    if options.is_panorama:
        again = _begin_at(again, begins_px)
    return again if classroom is None else _fit_for_class(classroom, model, [again])[0]


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
    keeper: Keeper | None,
) -> list[_Drawn]:
    """Sample and decode; where memory or half precision fails, go on more modestly and say so."""
    import torch

    drawn = _draw_batches(model, prompt, options, seeds, on_step, keeper)
    bad = [i for i, one in enumerate(drawn) if not one.is_finite or is_black(one.image)]
    if bad and model.dtype != torch.float32:
        log.warning(
            "Half precision gave black pictures (%d of %d): drawing again in full precision.",
            len(bad),
            len(seeds),
        )
        with _in_precision(model, "float32", "which black pictures need"):
            again = _draw_batches(model, prompt, options, [seeds[i] for i in bad], on_step, keeper)
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
    keeper: Keeper | None,
) -> list[_Drawn]:
    """Sample and decode in one batch, or in halves of it where memory is short."""
    import torch

    around = going_around(model.pipeline) if options.is_panorama else nullcontext()
    try:
        with around:
            blend = keeper.blend if keeper else None
            latents = sample_latents(model, prompt, options, seeds, on_step, blend)
            finite = latents.isfinite().flatten(1).all(dim=1).tolist()
            precision = _name_precision(model)
            images = decode(model, latents)
            for i, image in enumerate(images):
                if finite[i] and is_black(image) and model.pipeline.vae.dtype != torch.float32:
                    images[i] = _decode_in_full(model, latents[i : i + 1])
            if keeper is not None:
                images = [keeper.lay_over(image) for image in images]
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
    return [
        one
        for part in parts
        for one in _draw_batches(model, prompt, options, part, on_step, keeper)
    ]


def _decode_in_full(model: Model, latents: torch.Tensor) -> Image:
    """Decode in full precision what half precision made black although the latents are numbers.

    It takes a second, and drawing again takes many. A night scene stays one.
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


def check_prompt(model: Model, prompt: Prompt) -> None:
    """Refuse a prompt that is empty or too long for the text encoder, before anything is drawn."""
    if not prompt.text:
        raise InputError(EMPTY_PROMPT)
    token_ids(model, [prompt.text, prompt.negative])
