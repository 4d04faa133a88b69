"""Load a folder in diffusers' format that was checked, each part by its own class.

What the folder says of itself is checked in `s2i_lib.models.folder` first; nothing here imports
what it names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import InputError, first_line
from s2i_lib.models.building import building
from s2i_lib.models.devices import pick_device, pick_dtype
from s2i_lib.models.folder import ModelFolder, check_model, check_tokenizer, load_or_refuse
from s2i_lib.models.lora import hidden
from s2i_lib.models.registry import BaseModel
from s2i_lib.storage.layout import Drive

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline


def load_pipeline(
    folder: Path,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> StableDiffusionPipeline:
    """Load a diffusers folder, safetensors only, without a safety checker (SD 2.1 ships none)."""
    device = device or pick_device()
    checked = check_model(folder)
    try:
        with building:
            pipeline = _load_parts(checked, dtype or pick_dtype(device))
        _align(pipeline)
        return pipeline.to(device)
    except Exception as error:  # odd files make the libraries raise anything
        raise InputError(
            f"The model in {folder} cannot be loaded ({first_line(error)}). Expected a diffusers "
            "folder with safetensors weights. Copy it again, or take another model."
        ) from error


def _load_parts(checked: ModelFolder, dtype: torch.dtype) -> StableDiffusionPipeline:
    """Load each part by its class: what model_index.json names is compared with it, not imported.

    SD 2.1 has no safety checker; its index names the feature extractor of one all the same.
    """
    folder = checked.path
    half = "fp16" if any(folder.glob("unet/*.fp16.safetensors")) else None
    with without_quantizers():
        diffusers = quiet_diffusers()
        from transformers import CLIPTextModel

        local: dict[str, Any] = {"local_files_only": True}
        weights = local | {"variant": half, "torch_dtype": dtype, "use_safetensors": True}
        scheduler = getattr(diffusers, checked.scheduler)
        return diffusers.StableDiffusionPipeline(
            tokenizer=_load_tokenizer(folder / "tokenizer"),
            text_encoder=CLIPTextModel.from_pretrained(str(folder / "text_encoder"), **weights),
            unet=diffusers.UNet2DConditionModel.from_pretrained(str(folder / "unet"), **weights),
            vae=diffusers.AutoencoderKL.from_pretrained(str(folder / "vae"), **weights),
            scheduler=scheduler.from_pretrained(str(folder / "scheduler"), **local),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def _load_tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False
    )


def _align(pipeline: StableDiffusionPipeline) -> None:
    """Give weights that lie askew in a file mapped into memory a place of their own; miss none.

    A CPU's kernels sum in another order where a matrix does not begin at a cache line, so the same
    weights would draw another picture, in its last bits, from a file whose head is longer.
    """
    for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        for name, weight in part.named_parameters():
            if weight.is_meta:
                raise ValueError(f"it has no weights for {name}")
            if weight.data_ptr() % 64:
                weight.data = weight.data.clone()


def token_counter(base: BaseModel, drive: Drive) -> Callable[[str], int] | None:
    """Return what counts a prompt's tokens without the model; None where its files are not here."""
    folder = (base.folder or drive.models / base.name) / "tokenizer"
    if not folder.is_dir():
        return None
    check_tokenizer(folder)
    tokenizer = load_or_refuse(folder, lambda: _load_tokenizer(folder))
    return lambda text: len(tokenizer(text, truncation=False, verbose=False).input_ids)


@contextmanager
def without_quantizers() -> Iterator[None]:
    """Let diffusers do without the packages for weights in 4 and 8 bits, which none of ours are.

    It imports them wherever they are installed: 1.2 s of one core for bitsandbytes, and a complaint
    where its CPU kernels lack a package. It looks once, so they stay hidden from it and can be
    imported by their names afterwards, as by 8-bit AdamW. Where somebody has imported diffusers
    before us it has looked already, and must find what it has seen.
    """
    packages = {"bitsandbytes", "torchao"} - sys.modules.keys()
    with hidden(*(() if "diffusers" in sys.modules else packages)):
        yield


def quiet_transformers() -> Any:
    """Import transformers without its bars for weights; those for downloads would go with them."""
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    were_off = are_progress_bars_disabled()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not were_off:
        enable_progress_bars()
    return transformers


def quiet_diffusers() -> Any:
    """Import diffusers without its bars for every part and complaints about torchvision."""
    quiet_transformers()
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
    return diffusers
