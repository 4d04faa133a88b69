"""Low-rank additions to a model: checked, put in by PEFT, and merged into what they change."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.storage.json_file import parse_object, read_json

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline

log = logging.getLogger(__name__)

PEFT_PREFIX = "base_model.model."  # of names in PEFT's own files (PeftModel.save_pretrained)
PEFT_CARD = "adapter_config.json"  # and what lies beside them
UNET_BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")  # as unet.save_attn_procs named them


MOST_RANK = 1024


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """Let whoever looks for ``packages`` meanwhile find that they are not installed.

    What another thread hides already is left to it.
    """
    own = [name for name in packages if sys.modules.get(name, "not imported yet") is not None]
    seen = {name: sys.modules[name] for name in own if name in sys.modules}
    sys.modules.update(dict.fromkeys(own))  # type: ignore[arg-type]  # None: as Python documents it
    try:
        yield
    finally:
        for name in own:
            del sys.modules[name]
        sys.modules.update(seen)


def ready_peft() -> None:
    """Have PEFT settle that there is no torchao, where the one that is there is too old for it.

    PEFT asks for every layer whether its weights are torchao's, which none of ours are, and raises
    ImportError where it finds a version that it does not take, as Colab's 0.10. It keeps the first
    answer. A torchao that it takes stays in sight: somebody else may need it in this session.
    """
    from peft import import_utils

    try:
        import_utils.is_torchao_available()
    except ImportError:
        with hidden("torchao"):
            import_utils.is_torchao_available()


def add_lora(pipeline: StableDiffusionPipeline, path: Path) -> None:
    """Do what ``load_lora_weights`` does, with the text encoder's names as they are now.

    transformers 5.6 took the level ``text_model`` out of CLIPTextModel; diffusers 0.39 still looks
    for it, and fails on every LoRA that changes the text encoder. What the file says of itself is
    checked first: PEFT makes room for any rank, and takes names for regular expressions.

    Raises
    ------
    ValueError
        When it is out of bounds. The libraries raise anything over a file that does not fit.
    """
    ready_peft()
    state, alphas, metadata = read_lora(pipeline, path)
    if not hasattr(pipeline.text_encoder, "text_model"):
        old, new = "text_encoder.text_model.", "text_encoder."
        state, alphas, metadata = (
            named and {name.replace(old, new): value for name, value in named.items()}
            for named in (state, alphas, metadata)
        )
    _check_shapes(pipeline, state, alphas)
    more = {"network_alphas": alphas, "metadata": _checked(metadata), "_pipeline": pipeline}
    pipeline.load_lora_into_unet(state, unet=pipeline.unet, **more)
    if any(name.startswith("text_encoder.") for name in state):
        pipeline.load_lora_into_text_encoder(state, text_encoder=pipeline.text_encoder, **more)


def _check_shapes(
    pipeline: StableDiffusionPipeline, state: dict[str, torch.Tensor], alphas: Any
) -> None:
    """Compare each pair of matrices with the layer that it is for, where the model has that."""
    layers = {
        f"{part}.{name}": layer.weight.shape
        for part in ("unet", "text_encoder")
        for name, layer in getattr(pipeline, part).named_modules()
        if hasattr(layer, "weight") and layer.weight is not None and layer.weight.dim() > 1
    }
    for name in (*state, *(alphas or ())):
        if not _is_name(name):  # PEFT takes it for an expression where ranks differ
            raise ValueError(f"a tensor is called {name[:80]!r}")
    for name, matrix in state.items():
        layer, _, end = name.partition(".lora_")
        side = {"A.weight": 0, "B.weight": 1}.get(end)
        if side is None:
            continue
        shape = tuple(matrix.shape)
        if len(shape) < 2 or not 1 <= shape[side] <= MOST_RANK:
            raise ValueError(f"{name} is {shape}, and a rank of {MOST_RANK} is the most")
        if layer in layers and shape[1 - side] != layers[layer][1 - side]:
            raise ValueError(f"{name} is {shape}, and the layer {tuple(layers[layer])}")


def _checked(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what a LoRA says of its ranks and layers; nothing else of it is for PEFT."""
    checked = {}
    for name, value in (metadata or {}).items():
        is_right = SAID.get(name.rpartition(".")[2])
        if is_right is None:
            continue
        if not is_right(value):
            raise ValueError(f"{name} is {str(value)[:80]}")
        checked[name] = value
    return checked or None


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST_RANK


def _is_alpha(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\^?[\w.-]{1,300}", value) is not None


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) < 10_000 and all(map(_is_name, value))


def _names_with(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict) and _are_names(list(value)) and all(map(is_right, value.values()))
    )


# What of PEFT's LoraConfig is taken from a file. Its patterns are names here, never expressions.
SAID: dict[str, Callable[[Any], bool]] = {
    "r": _is_rank,
    "lora_alpha": _is_alpha,
    "target_modules": _are_names,
    "rank_pattern": _names_with(_is_rank),
    "alpha_pattern": _names_with(_is_alpha),
    "use_rslora": lambda value: isinstance(value, bool),
    "lora_bias": lambda value: isinstance(value, bool),
}


def merge_lora(pipeline: StableDiffusionPipeline) -> None:
    """Add each LoRA in ``pipeline`` to the weights that it changes, which are fp16 numbers then.

    As the weights of a full run are. So a run's picture is that of its export, and a step takes no
    longer than the base model's. Summed in fp32 on the CPU, for the same numbers on every device.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    for part in (pipeline.unet, pipeline.text_encoder):
        layers: list[Any] = [one for one in part.modules() if isinstance(one, BaseTunerLayer)]
        for layer in layers:
            base = layer.get_base_layer()
            device, dtype = base.weight.device, base.weight.dtype
            layer.to("cpu", torch.float32).merge()
            base.half().to(device, dtype)
    pipeline.unload_lora_weights()


def read_lora(pipeline: StableDiffusionPipeline, path: Path) -> tuple[Any, Any, Any]:
    """Return weights, alphas and metadata of a LoRA in the layout of diffusers, kohya or PEFT.

    Read here and not by diffusers, which knows safetensors by the suffix in small letters alone,
    and PEFT's names not at all: it would find no layer in them.
    """
    from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY

    from s2i_lib.storage.tensor_file import open_tensors

    with open_tensors(path) as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        said = (file.metadata() or {}).get(LORA_ADAPTER_METADATA_KEY)
    metadata = parse_object(said) if said else None
    if any(name.startswith(PEFT_PREFIX) for name in state):
        state = {_name_of_peft(name): weight for name, weight in state.items()}
        metadata = metadata or _metadata_of_peft(state, path)
    elif any(name.startswith(UNET_BLOCKS) for name in state):
        state = {_name_of_peft(name): weight for name, weight in state.items()}
    state, alphas = pipeline.lora_state_dict(state)
    return state, alphas, metadata


def _name_of_peft(name: str) -> str:
    """Return diffusers' name of a weight that is named after a part of the model by itself."""
    name = name.removeprefix(PEFT_PREFIX)
    for side in (".lora_A.", ".lora_B."):  # between them the adapter's name, if it was kept
        layer, found, end = name.partition(side)
        name = f"{layer}{found}{end.rpartition('.')[2]}"
    if name.startswith(("unet.", "text_encoder.")):
        return name
    part = "text_encoder" if name.startswith(("text_model.", "encoder.")) else "unet"
    return f"{part}.{name}"


def _metadata_of_peft(state: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """Return what the card beside PEFT's file says of its strength, as diffusers keeps it."""
    card = read_json(path.parent / PEFT_CARD)
    needed = ("r", "lora_alpha", "target_modules")
    said = {name: card[name] for name in needed if card.get(name)}
    if len(said) < len(needed):
        log.warning(
            "There is no %s beside %s, so its strength is not known: its alpha is taken for its "
            "rank.", PEFT_CARD, path.name,
        )  # fmt: skip
        return None
    said |= {name: card.get(name) or {} for name in ("rank_pattern", "alpha_pattern")}
    said["use_rslora"] = card.get("use_rslora") is True
    parts = {name.partition(".")[0] for name in state}
    return {f"{part}.{name}": value for part in parts for name, value in said.items()}
