"""Weights from elsewhere in one file, a LoRA or a whole checkpoint: told apart and loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from s2i_lib.errors import InputError, first_line
from s2i_lib.models.building import building
from s2i_lib.models.folder import check_model
from s2i_lib.models.lora import add_lora, merge_lora
from s2i_lib.storage.files import scratch_folder
from s2i_lib.storage.json_file import read_limited

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline

log = logging.getLogger(__name__)

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
UNET = "model.diffusion_model."  # how names begin in a checkpoint of Stable Diffusion 1, 2 and XL
LORA_PARTS = (".lora_down.", ".lora_A.", ".lora.down.", "_lora.down.", "lora_linear_layer.down.")
SUBJECT_KEY = "s2i.subject"  # in the metadata of a file that was exported from a run
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
    predicts_v: bool = False
    """Whether it says that it predicts v, as Stable Diffusion 2.1 of 768 px does."""
    subject: str | None = None
    """Name of the subject that it was fine-tuned on, where `s2i_lib.models.export` wrote it."""


def inspect(path: Path) -> WeightsFile:
    """Say what a file of weights is, from the names and shapes in its head.

    Raises
    ------
    InputError
        When it is a pickle, no safetensors file, or neither a LoRA nor a checkpoint of SD 1 or 2.
    """
    from s2i_lib.storage.tensor_file import read_head

    if path.suffix.lower() in PICKLES:
        raise InputError(
            f"{path} is a pickle: opening it can run whatever code somebody has put there, so it "
            "is not opened. Take the .safetensors version of it; most places offer both."
        )
    head = read_head(path)
    shapes, subject = head.shapes, head.metadata.get(SUBJECT_KEY)
    if unknown := next((name for name in shapes if name.endswith(OTHER_ADAPTERS)), None):
        raise InputError(
            f"{path} is a LoHa, LoKr, OFT or DoRA (it has {unknown}), which diffusers does not "
            "load. Take a plain LoRA."
        )
    layers = sum(any(part in name for part in LORA_PARTS) for name in shapes)
    if layers:
        return WeightsFile(path, "lora", None, layers, subject=subject)
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
    width = widths[0] if widths else None
    return WeightsFile(path, "checkpoint", width, 0, _predicts_v(path, head.metadata), subject)


def _predicts_v(path: Path, metadata: Mapping[str, str]) -> bool:
    """Read it where programs write it: ModelSpec's entry, or the yaml beside the file."""
    if said := metadata.get("modelspec.prediction_type"):
        return said.startswith("v")  # "v" in the specification, "v_prediction" in ours of before
    try:
        beside = read_limited(path.with_suffix(".yaml"))
    except (OSError, ValueError):
        return False
    return re.search(rb"\bparameterization:\s*[\"']?v\b", beside) is not None


def load_lora(pipeline: StableDiffusionPipeline, file: WeightsFile, base_name: str) -> None:
    """Put a LoRA, in the layout of diffusers, kohya or PEFT, into the pipeline of a base model.

    Raises
    ------
    InputError
        When it was made for another kind of model: its layers are not there, or not so wide.
    """
    try:
        add_lora(pipeline, file.path)
    except Exception as error:  # odd files make diffusers and PEFT raise anything
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

    check_model(config)
    try:
        with _under_usual_suffix(file.path) as path, building:
            pipeline = diffusers.StableDiffusionPipeline.from_single_file(
                str(path),
                config=str(config),
                torch_dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
        empty = [n for part in parts for n, w in part.named_parameters() if w.is_meta]
        if empty:
            raise ValueError(f"it has no weights for {empty[0]} and {len(empty) - 1} more")
    except Exception as error:  # odd files make diffusers raise anything
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
    with scratch_folder("weights") as folder:
        link = Path(folder) / f"{path.stem[:50]}.safetensors"
        link.symlink_to(path.absolute())
        yield link
