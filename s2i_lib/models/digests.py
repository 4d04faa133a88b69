"""Tell weights apart: by all of their bytes, or by samples of every weight."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from s2i_lib.storage.hub import sha256_once
from s2i_lib.storage.run_card import LORA

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file of weights, or one over all that a folder draws with.

    Of the files themselves: a checksums.json may say anything. Where loading has compared them with
    one, they are not read again.
    """
    if path.is_file():
        return sha256_once(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*.safetensors")):
        name = file.relative_to(path)
        if name.parts[0] in (LORA, "text_encoder", "unet", "vae"):  # no scorer, no safety checker
            digest.update(f"{name.as_posix()} {sha256_once(file)}\n".encode())
    return digest.hexdigest()


def digest_in_background(path: Path) -> Future[str]:
    """Return what `digest_of` will give, from a thread that does not hold up the program's end."""
    future: Future[str] = Future()

    def run() -> None:
        try:
            future.set_result(digest_of(path))
        except Exception as error:  # the Drive went away: the picture is worth more than its hash
            future.set_result(f"unknown ({getattr(error, 'strerror', None) or error})")

    threading.Thread(target=run, name="hash", daemon=True).start()
    return future


def fingerprint(pipeline: StableDiffusionPipeline) -> str:
    """Return a digest of the U-Net and text encoder: configurations and samples of every weight.

    Sampled, since hashing all of a large model takes longer than drawing with it; training changes
    every weight, so that any other state of the model is told apart.
    """
    digest = hashlib.sha256()
    for part in (pipeline.unet, pipeline.text_encoder):
        for name, weight in sorted(part.state_dict().items()):
            flat = weight.detach().flatten()
            some = flat[:: max(1, flat.numel() // 16)][:16].float().cpu().numpy()
            digest.update(f"{name}{tuple(weight.shape)}".encode() + some.tobytes())
    schedule = dict(pipeline.scheduler.config)
    if filled_in := schedule.get("_use_default_values"):  # from a set: in any order
        schedule["_use_default_values"] = sorted(filled_in)
    digest.update(json.dumps(schedule, sort_keys=True, default=str).encode())
    return digest.hexdigest()
