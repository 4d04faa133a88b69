"""Low-rank additions to a model: PEFT made ready for them, and merged into what they change."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.storage.json_file import read_json

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

log = logging.getLogger(__name__)

PEFT_PREFIX = "base_model.model."  # of names in PEFT's own files (PeftModel.save_pretrained)
PEFT_CARD = "adapter_config.json"  # and what lies beside them


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
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        said = (file.metadata() or {}).get(LORA_ADAPTER_METADATA_KEY)
    metadata = json.loads(said) if said else None
    if any(name.startswith(PEFT_PREFIX) for name in state):
        state = {_name_of_peft(name): weight for name, weight in state.items()}
        metadata = metadata or _metadata_of_peft(state, path)
    state, alphas = pipeline.lora_state_dict(state)
    return state, alphas, metadata


def _name_of_peft(name: str) -> str:
    """Return diffusers' name of a weight that PEFT names after a part of the model by itself."""
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
