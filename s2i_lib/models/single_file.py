"""Weights from elsewhere in one file, a LoRA or a whole checkpoint: told apart and loaded."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from s2i_lib.errors import InputError, first_line
from s2i_lib.models.lora import merge_lora, read_lora, ready_peft

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline

log = logging.getLogger(__name__)

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
UNET = "model.diffusion_model."  # how names begin in a checkpoint of Stable Diffusion 1, 2 and XL
LORA_PARTS = (".lora_down.", ".lora_A.", ".lora.down.", "_lora.down.", "lora_linear_layer.down.")
OTHER_ADAPTERS = ("hada_w1", "lokr_w1", "oft_blocks", "dora_scale")


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights from elsewhere."""

    path: Path
    kind: Literal["lora", "checkpoint"]
    text_width: int | None
    """Length of the text embeddings that it reads: 768 for SD 1, 1024 for SD 2; None: not said."""
    layers: int
    """Number of layers that a LoRA changes; 0 for a checkpoint."""


def inspect(path: Path) -> WeightsFile:
    """Say what a file of weights is, from the names and shapes in its head.

    Raises
    ------
    InputError
        When it is a pickle, no safetensors file, or neither a LoRA nor a checkpoint of SD 1 or 2.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix.lower() in PICKLES:
        raise InputError(
            f"{path} is a pickle: opening it can run whatever code somebody has put there, so it "
            "is not opened. Take the .safetensors version of it; most places offer both."
        )
    try:
        with safe_open(path, "np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({error}). It is another format or half "
            "copied. Expected a LoRA or a Stable Diffusion checkpoint; copy it again."
        ) from error
    if unknown := next((name for name in shapes if name.endswith(OTHER_ADAPTERS)), None):
        raise InputError(
            f"{path} is a LoHa, LoKr, OFT or DoRA (it has {unknown}), which diffusers does not "
            "load. Take a plain LoRA."
        )
    layers = sum(any(part in name for part in LORA_PARTS) for name in shapes)
    if layers:
        return WeightsFile(path, "lora", None, layers)
    if any(name.startswith("conditioner.") for name in shapes):
        raise InputError(
            f"{path} is a checkpoint of Stable Diffusion XL, which is not supported here. Take "
            "one of Stable Diffusion 2 or 1."
        )
    if not any(name.startswith(UNET) for name in shapes):
        example = next(iter(shapes), "nothing")
        raise InputError(
            f"{path} is neither a LoRA nor a whole checkpoint of Stable Diffusion: it has "
            f"{len(shapes)} tensors, such as {example}. A VAE, an embedding or a ControlNet alone "
            "cannot draw. Give a LoRA, a checkpoint, or a diffusers folder."
        )
    widths = [s[1] for n, s in shapes.items() if n.endswith("attn2.to_k.weight") and len(s) == 2]
    return WeightsFile(path, "checkpoint", widths[0] if widths else None, 0)


def load_lora(pipeline: StableDiffusionPipeline, file: WeightsFile, base_name: str) -> None:
    """Put a LoRA, in the layout of diffusers, kohya or PEFT, into the pipeline of a base model.

    Raises
    ------
    InputError
        When it was made for another kind of model: its layers are not there, or not so wide.
    """
    from safetensors import SafetensorError

    try:
        _add_lora(pipeline, file.path)
    except (OSError, RuntimeError, ValueError, LookupError, SafetensorError) as error:
        raise _does_not_fit(file, base_name, first_line(error)) from error
    parts = (pipeline.unet, pipeline.text_encoder)
    loaded = sum(".lora_A." in name for part in parts for name, _ in part.named_parameters())
    if loaded < file.layers:
        found = f"{loaded} of its {file.layers} layers are there"
        if not loaded:
            raise _does_not_fit(file, base_name, found)
        log.warning("Of the LoRA %s only %s in %s; the rest is left out.", file.path, found,
                    base_name)  # fmt: skip
    merge_lora(pipeline)


def _add_lora(pipeline: StableDiffusionPipeline, path: Path) -> None:
    """Do what ``load_lora_weights`` does, with the text encoder's names as they are now.

    transformers 5.6 took the level ``text_model`` out of CLIPTextModel; diffusers 0.39 still looks
    for it, and fails on every LoRA that changes the text encoder.
    """
    ready_peft()
    state, alphas, metadata = read_lora(pipeline, path)
    if not hasattr(pipeline.text_encoder, "text_model"):
        old, new = "text_encoder.text_model.", "text_encoder."
        state, alphas, metadata = (
            named and {name.replace(old, new): value for name, value in named.items()}
            for named in (state, alphas, metadata)
        )
    more = {"network_alphas": alphas, "metadata": metadata, "_pipeline": pipeline}
    pipeline.load_lora_into_unet(state, unet=pipeline.unet, **more)
    if any(name.startswith("text_encoder.") for name in state):
        pipeline.load_lora_into_text_encoder(state, text_encoder=pipeline.text_encoder, **more)


def _does_not_fit(file: WeightsFile, base_name: str, why: str) -> InputError:
    return InputError(
        f"The LoRA {file.path} does not fit {base_name} ({why}). A LoRA fits the kind of model "
        "that it was trained on, and no other: give that one with --model (sd2.1-base, sd2.1, or "
        "the path of a diffusers folder)."
    )


def load_checkpoint(file: WeightsFile, config: Path, dtype: torch.dtype) -> StableDiffusionPipeline:
    """Load the pipeline of a single-file checkpoint.

    Parameters
    ----------
    config : Path
        A diffusers folder of the same kind of model: its tokenizer, its schedule and its shapes are
        taken, none of its weights.

    Raises
    ------
    InputError
        When the file lacks a part or does not have those shapes.
    """
    import diffusers
    from diffusers.loaders.single_file_utils import SingleFileComponentError
    from safetensors import SafetensorError

    try:
        with _under_usual_suffix(file.path) as path:
            pipeline = diffusers.StableDiffusionPipeline.from_single_file(
                str(path),
                config=str(config),
                torch_dtype=dtype,
                local_files_only=True,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
        empty = [n for part in parts for n, w in part.named_parameters() if w.is_meta]
        if empty:
            raise ValueError(f"it has no weights for {empty[0]} and {len(empty) - 1} more")
    except (
        OSError, ValueError, KeyError, RuntimeError, AttributeError,
        SafetensorError, SingleFileComponentError,
    ) as error:  # fmt: skip
        raise InputError(
            f"The checkpoint {file.path} cannot be loaded with the configuration of {config} "
            f"({first_line(error)}). Name the kind of model that it is with --model (sd2.1-base: "
            "512 px, sd2.1: 768 px, or the path of a diffusers folder)."
        ) from error
    return pipeline


@contextmanager
def _under_usual_suffix(path: Path) -> Iterator[Path]:
    """Give the path of a safetensors file a suffix by which diffusers knows it as one."""
    if path.suffix == ".safetensors":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="s2i-weights-") as folder:
        link = Path(folder) / f"{path.stem[:50]}.safetensors"
        link.symlink_to(path.absolute())
        yield link
