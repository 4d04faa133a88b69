"""The state of a run: save, verify, resume; and its weights, to draw with.

Safetensors and JSON only: a file that somebody shared can hold no code. A state is a folder
``state-00000200`` whose state.json has the SHA-256 of every other file and of itself. `saves` finds
the newest that verifies, wherever it lies; ``latest.json`` only says so to readers. Where there is
no room for states a run goes on from weights in fp16 (``so-far-00000200``).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from s2i_lib.errors import InputError, S2iError
from s2i_lib.storage.files import part_of, sha256_of, write_json
from s2i_lib.storage.json_file import load_object
from s2i_lib.storage.removal import remove
from s2i_lib.storage.run_card import LORA, STEP
from s2i_lib.storage.tensor_file import open_tensors, write_tensors
from s2i_lib.training.config import FinetuneOptions, as_json
from s2i_lib.training.train_state import TrainState

FORMAT = 1
TRAINED, OPTIMIZER, EMA = "trained.safetensors", "optimizer.safetensors", "ema.safetensors"
COMPONENTS = {  # as diffusers has them
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
# What the state cannot be carried over without; other options may change between two sessions.
FIXED_OPTIONS = (
    "method",
    "lora_rank",
    "lora_alpha",
    "lora_targets",
    "with_text_encoder",
    "with_8bit_adam",
)

Tell = Callable[[str], None]
"""Gets the names of events: saving, saved, publishing, verifying, renaming, pointing, ..."""


class DamagedError(S2iError):
    """A saved state is not what was saved."""


# ---- State and restore ----


@dataclass(frozen=True)
class Snapshot:
    """What training needs in order to go on: the live tensors, wherever they are.

    Nothing is copied, so it is saved before the next step changes it.
    """

    tensors: dict[str, dict[str, torch.Tensor]]
    """By file name, then by tensor name."""
    meta: dict[str, Any]

    @property
    def name(self) -> str:
        return f"state-{self.meta['step']:08}"


def take_snapshot(state: TrainState, meta: dict[str, Any], scaler: Any = None) -> Snapshot:
    """Gather weights, optimizer, scaler, mean and step.

    The learning rate and everything random are functions of the step, so they need no state.

    Raises
    ------
    S2iError
        When a weight is not a number: that is never saved over something good.
    """
    trained = {name: p.detach() for name, p in state.parameters.items()}
    if bad := next((name for name, w in trained.items() if not w.isfinite().all()), None):
        raise S2iError(
            f"The weights of {bad} are not numbers any more (NaN) at step {state.step}. Nothing "
            "was overwritten: the last saved state is whole. Use precision fp32 or a lower "
            "learning rate."
        )
    moments: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {}
    for name, parameter in state.parameters.items():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            is_tensor = isinstance(value, torch.Tensor)
            (moments if is_tensor else numbers)[f"{name}/{key}"] = value
    tensors = {TRAINED: trained, OPTIMIZER: moments}
    if state.ema:
        tensors[EMA] = dict(state.ema)
    rest = {
        "format": FORMAT,
        "step": state.step,
        "optimizer_numbers": numbers,
        "scaler": scaler.state_dict() if scaler is not None else None,
    }
    return Snapshot(tensors, {**meta, **rest})


@torch.no_grad()
def restore(state: TrainState, folder: Path, scaler: Any = None) -> dict[str, Any]:
    """Put the state saved in ``folder`` back, a tensor at a time; return its meta data."""
    meta = verify_state(folder)
    with open_tensors(folder / TRAINED) as file:
        _check_names(folder, file.keys(), state)
        for name, parameter in state.parameters.items():
            parameter.copy_(file.get_tensor(name))
    state.optimizer.state.clear()
    is_fused = bool(state.optimizer.param_groups[0].get("fused"))
    for full_name, number in meta["optimizer_numbers"].items():
        name, _, key = full_name.rpartition("/")
        state.optimizer.state[state.parameters[name]][key] = number
    with open_tensors(folder / OPTIMIZER) as file:
        for full_name in file.keys():  # noqa: SIM118 - no dictionary
            name, _, key = full_name.rpartition("/")
            parameter = state.parameters[name]
            place = parameter.device if is_fused or key != "step" else "cpu"
            value = file.get_tensor(full_name).to(place, copy=True)  # the file itself, mapped
            state.optimizer.state[parameter][key] = value
    if state.ema:
        with open_tensors(folder / (EMA if (folder / EMA).exists() else TRAINED)) as file:
            for name, mean in state.ema.items():
                mean.copy_(file.get_tensor(name))
    if scaler is not None and meta["scaler"]:
        scaler.load_state_dict(meta["scaler"])
    state.step = meta["step"]
    return meta


def _of_part(part: str, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return one network's weights, by the names that they have there."""
    found = ((name.partition("."), weight) for name, weight in weights.items())
    return {own: weight for (where, _, own), weight in found if where == part}


@torch.no_grad()
def restore_weights(state: TrainState, folder: Path, step: int) -> None:
    """Put weights of ``step`` back into ``state``, whose optimizer begins again."""
    if (folder / LORA).is_file():
        own = dict(zip(lora_names(state.parameters), state.parameters.values(), strict=True))
        files = {LORA: own}
    else:
        files = {
            path: _of_part(part, state.parameters)
            for part, path in COMPONENTS.items()
            if (folder / path).is_file()
        }
    known = {id(p): name for name, p in state.parameters.items()}
    found: list[str] = []
    for path, parameters in files.items():
        with open_tensors(folder / path) as file:
            names = list(file.keys())
            found += [known[id(parameters[n])] if n in parameters else n for n in names]
            for name in set(names) & parameters.keys():
                parameters[name].copy_(file.get_tensor(name))
    _check_names(folder, found, state)
    for name, mean in state.ema.items():
        mean.copy_(state.parameters[name])
    state.step = step


def _check_names(folder: Path, names: Iterable[str], state: TrainState) -> None:
    if odd := sorted(set(names) ^ state.parameters.keys()):
        raise InputError(
            f"{folder} is of another model or method ({odd[0]} is in one of them only). "
            "Start a new run with --name."
        )


# ---- Files ----


def save_state(snapshot: Snapshot, folder: Path, callback: Tell = lambda name: None) -> Path:
    """Write a state to a new folder below ``folder``, whole or not at all."""
    callback("saving")
    target = folder / snapshot.name
    part = part_of(target)  # not .NAME.part: a damaged one that is deleted below is called so
    part.mkdir(parents=True)
    files = {name: write_tensors(t, part / name) for name, t in snapshot.tensors.items()}
    meta = {**snapshot.meta, "files": files}
    meta["sha256"] = _digest(meta)
    write_json(part / "state.json", meta)
    callback("saved")
    remove(target)
    part.rename(target)
    return target


def _digest(meta: dict[str, Any]) -> str:
    rest = {key: value for key, value in meta.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def verify_state(folder: Path) -> dict[str, Any]:
    """Return the meta data of the state in ``folder``, after every byte of it was checked.

    Raises
    ------
    DamagedError
        When it cannot be read or a byte differs from what was saved.
    """
    meta = _read_checked(folder, "state.json", "files")
    if meta["format"] != FORMAT:
        raise InputError(
            f"{folder} has format {meta['format']}; this version reads {FORMAT}. "
            "Update s2i_lib, or start a new run with --name."
        )
    return meta


def verify_weights(folder: Path) -> dict[str, Any]:
    """Return what step.json says of the weights in ``folder``, after all of them was checked.

    Raises
    ------
    DamagedError
        When a file is missing or differs from what was saved.
    """
    return _read_checked(folder, STEP, "sha256")


def _read_checked(folder: Path, card: str, key: str) -> dict[str, Any]:
    """Read a card that has under ``key`` the SHA-256 of each file beside it; check all of them."""
    try:
        meta = load_object(folder / card)
        if key == "files" and meta["sha256"] != _digest(meta):
            raise DamagedError(f"{folder.name}/{card} was changed after it was saved.")
        for name, digest in meta[key].items():
            if sha256_of(folder / name) != digest:
                raise DamagedError(f"{folder.name}/{name} is not what was saved: a byte differs.")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{folder.name} cannot be read ({error}).") from error
    return meta


def compare_options(
    saved: dict[str, Any], options: FinetuneOptions, free: Sequence[str] = ()
) -> list[str]:
    """Say which options changed since a state was saved, and what that means.

    Those that are ``free`` may change where the state could not follow: it goes on from weights.

    Raises
    ------
    InputError
        When the state cannot go on with the new options.
    """
    saved = as_json(FinetuneOptions()) | saved  # older states lack the options that came later
    now = as_json(options)
    changed = {k: (saved[k], now[k]) for k in now if saved[k] != now[k] and k != "save_every"}
    if fixed := [k for k in FIXED_OPTIONS if k in changed and k not in free]:
        listed = ", ".join(f"{k} {changed[k][0]!r} -> {changed[k][1]!r}" for k in fixed)
        raise InputError(
            f"This run cannot go on with other {', '.join(fixed)} than it began with ({listed}). "
            "Set them back; if this machine changed them, as said above, go on where it began; or "
            "start a new run with --name."
        )
    meaning = {
        "steps": "training now ends at step {1}"
        + ", and the learning rate is that of a run of so many steps from here on"
        * (options.schedule != "constant"),
        "sample_every": "only the samples' interval changes",
        "sample_prompts": "samples before and after are not of the same prompts",
        "class_image_count": "the prior part of the loss sees {1} class images from here on",
        "class_prompts": "from here on class images are of {1}",
    }
    usual = "from this step on {1} holds, so the run differs from one that had it all along"
    return [
        f"{k} was {old!r} and is {new!r}: {meaning.get(k, usual).format(old, new)}."
        for k, (old, new) in changed.items()
    ]


# ---- Weights to draw with ----


def save_weights(state: TrainState, options: FinetuneOptions, folder: Path) -> Path:
    """Write what was trained, in fp16, as diffusers reads it: a LoRA file, or whole components."""
    weights = state.ema or dict(state.parameters)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    half, digests = torch.float16, {}
    if options.method == "lora":
        metadata = lora_metadata(options)
        digests[LORA] = write_tensors(lora_names(weights), folder / LORA, half, metadata)
    else:
        for part, module in (("unet", state.unet), ("text_encoder", state.text_encoder)):
            if module is None:
                continue
            module = getattr(module, "module", module)
            (folder / part).mkdir()
            module.config.save_pretrained(folder / part) if part == "text_encoder" else (
                module.save_config(folder / part)
            )
            name = COMPONENTS[part]
            own = _of_part(part, weights)
            digests[name] = write_tensors(own, folder / name, half, {"format": "pt"})
    write_json(folder / STEP, {"step": state.step, "sha256": digests})
    return folder


def lora_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leave out of PEFT's parameter names what diffusers' LoRA loader has not: the adapter's."""
    return {name.replace(".default.", "."): weight for name, weight in weights.items()}


def lora_metadata(options: FinetuneOptions) -> dict[str, str]:
    """Note rank and alpha, which diffusers takes from the file: else alpha would be the rank."""
    config = {
        "r": options.lora_rank,
        "lora_alpha": options.lora_alpha,
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_modules": list(options.lora_targets),
    }
    packed = {f"unet.{key}": value for key, value in config.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(packed, sort_keys=True)}
