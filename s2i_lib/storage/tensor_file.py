"""The door for safetensors; and write them a tensor at a time: no second copy in memory.

safetensors' own writer takes all tensors at once, in main memory: of a state of Stable Diffusion
that is 5 GiB of the 12.7 that Colab has. The format is a length, a header in JSON and the bytes of
the tensors in the header's order: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from s2i_lib.errors import InputError, first_line

HEAD_MIB = 16  # a whole checkpoint of Stable Diffusion has 0.2
FILE_GIB = 32  # and 8 in fp32

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Head:
    """What a file of safetensors says before its numbers."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_head(path: Path) -> Head:
    """Return the shape of each tensor in a file of safetensors, and what is said beside them.

    Raises
    ------
    InputError
        When it is no such file, is half copied, or has a head that no model needs.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if path.stat().st_size > FILE_GIB * 2**30:
            raise ValueError(f"it has more than {FILE_GIB} GiB")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > HEAD_MIB * 2**20:
            raise ValueError(f"its head has {length} bytes, and {HEAD_MIB} MiB are the most")
        with safe_open(path, "np") as tensors:
            names = tensors.keys()
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
            return Head(shapes, tensors.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({first_line(error)}). It is another format or "
            "half copied. Expected weights as .safetensors; copy it again."
        ) from error


def open_tensors(path: Path) -> Any:
    """Open a file of safetensors to read some of its tensors; raise as `read_head` does.

    It is a context; in it ``get_tensor(name)`` reads from the file, which is mapped into memory.
    """
    from safetensors import safe_open

    read_head(path)
    return safe_open(path, "pt")


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a file of safetensors; raise as `read_head` does."""
    with open_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@torch.no_grad()
def write_tensors(
    tensors: Mapping[str, torch.Tensor],
    path: Path,
    dtype: torch.dtype | None = None,
    metadata: dict[str, str] | None = None,
) -> str:
    """Write tensors from wherever they are, each converted to ``dtype`` if one is given.

    Main memory holds one of them at a time, and none more where they are on the CPU and not
    converted.

    Returns
    -------
    str
        SHA-256 of what was handed to the disk, to compare with what is read back later.

    Raises
    ------
    OSError
        When the disk does not take it.
    """
    # By size, then by name, as safetensors orders them: every tensor begins where its type may.
    order = sorted(tensors, key=lambda name: (-(dtype or tensors[name].dtype).itemsize, name))
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name in order:
        kind, shape = dtype or tensors[name].dtype, tensors[name].shape
        begin, end = end, end + math.prod(shape) * kind.itemsize
        header[name] = {
            "dtype": _NAMES[kind],
            "shape": list(shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    # Both let go of the interpreter for large buffers, so that hashing costs no time of its own.
    with path.open("wb") as file, ThreadPoolExecutor(1) as beside:
        for chunk in _chunks(len(text).to_bytes(8, "little") + text, tensors, order, dtype):
            hashed = beside.submit(digest.update, chunk)
            file.write(chunk)
            hashed.result()
    return digest.hexdigest()


def _chunks(
    head: bytes, tensors: Mapping[str, torch.Tensor], order: list[str], dtype: torch.dtype | None
) -> Iterator[bytes | memoryview]:
    yield head
    for name in order:
        tensor = tensors[name].detach()
        value = tensor.to(dtype or tensor.dtype).cpu().contiguous()
        yield memoryview(value.reshape(-1).view(torch.uint8).numpy())
