"""Where networks compute: the device, its precision, and visits for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def pick_device() -> torch.device:
    """Return a CUDA GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """Return the precision for drawing: fp16 on CUDA, fp32 elsewhere.

    bf16 is not asked for: a T4 claims it (``is_bf16_supported``) and emulates it slowly.
    """
    import torch

    return torch.float16 if device.type == "cuda" else torch.float32


def name_device(device: torch.device) -> str:
    """Return the name of a GPU, or the kind of another device."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def free_memory(device: torch.device | str) -> int:
    """Return the bytes that are free on a device; of the CPU, what the system can still give."""
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


@contextmanager
def visiting(module: Any, device: torch.device) -> Iterator[None]:
    """Move a network to ``device`` for a while: what does not train leaves memory to training.

    It goes back to where it was, and the memory that it worked in is given back.
    """
    import torch

    home = module.device
    try:  # a device that is full has taken a part of it before it says so
        module.to(device)
        yield
    finally:
        module.to(home)
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def visiting_if_there_is_room(module: Any, device: torch.device) -> Iterator[None]:
    """Do as `visiting`; where ``device`` is full, leave the network where it is."""
    import torch

    with ExitStack() as stack:
        try:
            stack.enter_context(visiting(module, device))
        except torch.OutOfMemoryError:
            log.warning("%s is full: %s stays where it is.", device, type(module).__name__)
        yield
