"""Low-rank additions to a model: PEFT made ready for them, and merged into what they change."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


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
