"""Load a model: the base's weights from where they are found first, and a run's on top of them."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from s2i_lib.errors import InputError, S2iError, first_line
from s2i_lib.models.devices import pick_device, pick_dtype
from s2i_lib.models.lora import hidden, merge_lora, ready_peft
from s2i_lib.models.registry import FAMILIES, REGISTRY, BaseModel, choose
from s2i_lib.storage import hub
from s2i_lib.storage.hub import sha256_once
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import LORA, WEIGHTS, find_run, read_card

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline

log = logging.getLogger(__name__)


@dataclass
class Model:
    """A base model in memory, ready to draw or to be fine-tuned."""

    base: BaseModel
    pipeline: StableDiffusionPipeline
    """Parts of it: tokenizer, text_encoder, vae, unet, scheduler (its noise schedule)."""
    source: str
    """Folder, or hub repository with its revision, that the weights came from."""
    run: str | None = None
    """Fine-tuned run whose weights are in it, as SUBJECT/RUN or a path."""
    taught: str = ""
    """Prompt that the run was fine-tuned with, such as "a ohwx dog"."""
    embeddings: dict[str, torch.Tensor] = field(default_factory=dict)
    """Prompt embeddings by text, so that a prompt is encoded once."""
    latent_to_rgb: tuple[torch.Tensor, torch.Tensor] | None = None
    """Linear map that previews use, fitted when it is first asked for."""

    digests: dict[str, Future[str]] = field(default_factory=dict)
    """SHA-256 of the weights, "model" and "run", computed beside loading and drawing."""

    def hashes(self) -> dict[str, str]:
        """Return the digests of the weights; wait where a large new file is not done yet."""
        return {part: digest.result() for part, digest in self.digests.items()}

    @property
    def device(self) -> torch.device:
        return self.pipeline.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.pipeline.unet.dtype

    def count_tokens(self, text: str) -> int:
        """Return the length of ``text`` in tokens, begin and end included, as token_limit is."""
        return len(self.pipeline.tokenizer(text, truncation=False).input_ids)


class _Where(NamedTuple):
    """What is the same for everything that one call of `load` loads."""

    drive: Drive
    device: torch.device
    dtype: torch.dtype


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the garbage collector back while libraries are imported and weights are loaded.

    They make hundreds of thousands of objects that all stay, and it would go through them again and
    again: 1.1 of 6.3 s of one core with pocket. Also right where two threads load at once: whoever
    leaves last finds the collector on, or turns it on.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_uncollected()
def load(
    name: str = "auto",
    *,
    drive: Drive,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    run: str | None = None,
) -> Model:
    """Load a base model from where it is found first: this package, a folder, the Drive, the hub.

    Parameters
    ----------
    name
        A name in ``REGISTRY``, "auto", or a folder in diffusers format.
    drive
        Where downloaded weights are looked for and kept.
    device, dtype
        Default: a CUDA GPU in fp16 where there is one, else the CPU in fp32.
    run
        Fine-tuned weights to draw with: SUBJECT/RUN, SUBJECT, or a path: a diffusers folder, a
        LoRA (for the model called ``name``) or a single-file checkpoint.

    Raises
    ------
    InputError
        Unknown name, a damaged folder, or weights whose checksum is wrong.
    S2iError
        When no source gave the weights; each is listed with its reason.
    """
    device = device or pick_device()
    where = _Where(drive, device, dtype or pick_dtype(device))
    if run is None:
        return _load_base(name, where)
    folder = find_run(drive, run, ("auto", *REGISTRY))
    card = read_card(folder)
    return _load_run(folder, card, where) if card else _load_external(folder, name, where)


def _load_base(name: str, where: _Where) -> Model:
    base = choose(name)
    folder, source = find_weights(base, where.drive)
    pipeline = load_pipeline(folder, device=where.device, dtype=where.dtype)
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    if side != base.size_px:  # the weights say for what size they were made
        base = replace(base, size_px=side)
    return Model(base, pipeline, source, digests={"model": _digest_in_background(folder)})


def _load_run(run: Path, card: dict[str, Any], where: _Where) -> Model:
    """Load the base model that a run was made from, with the run's weights in it; or its export."""
    made_from = card["base"]
    if (run / "model_index.json").is_file():
        model = _load_base(str(run), where)
        model.base = REGISTRY.get(made_from["name"], model.base)  # its guidance, words and scorers
        model.run = str(run.resolve())
    else:
        name = made_from["name"] if made_from["name"] in REGISTRY else made_from["source"]
        model = _load_base(name, where)
        load_weights(model.pipeline, run / WEIGHTS)
        model.digests["run"] = _digest_in_background(run / WEIGHTS)
        model.run = f"{run.parent.name}/{run.name}"
    model.taught = card.get("instance_prompt", "")
    return model


def _load_external(path: Path, name: str, where: _Where) -> Model:
    """Load weights from elsewhere; a LoRA goes into the model called ``name``."""
    from s2i_lib.models import single_file

    if (path / "model_index.json").is_file():
        model = _load_base(str(path), where)
        model.run = str(path.resolve())
        return model
    found = single_file.inspect(path / LORA if path.is_dir() else path)
    if found.kind == "lora":
        model = _load_base(name, where)
        single_file.load_lora(model.pipeline, found, model.base.name)
    else:
        base = FAMILIES.get(found.text_width or 0) if name not in REGISTRY else None
        base = base or choose(name)
        log.info("%s is taken for the kind of model that %s is.", path, base.name)
        config = _find_config(base, where.drive)
        with _without_quantizers():
            _quiet_diffusers()
            pipeline = single_file.load_checkpoint(found, config, where.dtype)
        model = Model(base, pipeline.to(where.device), str(found.path.resolve()))
    model.digests["run"] = _digest_in_background(found.path)
    model.run = str(found.path.resolve())
    return model


def _find_config(base: BaseModel, drive: Drive) -> Path:
    """Return a folder with the configuration of ``base``: one that is here, else the hub's."""
    folder = base.folder or drive.models / base.name
    if (folder / "model_index.json").is_file():
        return folder
    wanted = hub.Wanted(
        what=f"The configuration of {base.name}, which a checkpoint in one file lacks,",
        sources=base.sources,
        kept=folder,
        choose=choose_config,
        remedy="Check the network and try again, or name with --model a diffusers folder of the "
        "same kind of model.",
    )
    return hub.download_first(wanted)[0]


def load_weights(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Put what was trained into the pipeline of its base model.

    Raises
    ------
    InputError
        When there is nothing to load, or it was made from another base model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    parts = [("unet", "diffusion_pytorch_model"), ("text_encoder", "model")]
    files = [(part, folder / part / f"{stem}.safetensors") for part, stem in parts]
    present = [(part, path) for part, path in files if path.is_file()]
    if (folder / LORA).is_file():
        present = [("lora", folder / LORA)]
    if not present:
        raise InputError(
            f"There are no weights in {folder}. Has the run finished? `python -m s2i_lib runs` "
            "lists what each one has; the same `finetune` command goes on where it stopped."
        )
    for part, path in present:
        try:
            if part == "lora":
                ready_peft()
                pipeline.load_lora_weights(str(folder), weight_name=LORA)
                merge_lora(pipeline)
            else:
                getattr(pipeline, part).load_state_dict(load_file(path))
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise InputError(
                f"{path} does not fit the base model ({first_line(error)}). It is damaged, or the "
                "base model has changed since; run.json names the one it was made from."
            ) from error


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file of weights, or one over all that a folder draws with.

    What checksums.json says is taken from there: loading has just compared the files with it.
    """
    if path.is_file():
        return sha256_once(path)
    listed = path / hub.CHECKSUMS
    known = json.loads(listed.read_text())["sha256"] if listed.is_file() else {}
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*.safetensors")):
        name = file.relative_to(path)
        if name.parts[0] in (LORA, "text_encoder", "unet", "vae"):  # no scorer, no safety checker
            sha256 = known.get(name.as_posix()) or sha256_once(file)
            digest.update(f"{name.as_posix()} {sha256}\n".encode())
    return digest.hexdigest()


def _digest_in_background(path: Path) -> Future[str]:
    """Return what `digest_of` will give, from a thread that does not hold up the program's end."""
    future: Future[str] = Future()

    def run() -> None:
        try:
            future.set_result(digest_of(path))
        except OSError as error:  # the Drive went away: the picture is worth more than its hash
            future.set_result(f"unknown ({error.strerror or error})")

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
    digest.update(json.dumps(schedule, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def load_pipeline(
    folder: Path,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> StableDiffusionPipeline:
    """Load a diffusers folder, safetensors only, without a safety checker (SD 2.1 ships none)."""
    device = device or pick_device()
    has_fp16 = any(folder.glob("unet/*.fp16.safetensors"))
    try:
        with _without_quantizers():
            pipeline = _quiet_diffusers().StableDiffusionPipeline.from_pretrained(
                str(folder),
                variant="fp16" if has_fp16 else None,
                torch_dtype=dtype or pick_dtype(device),
                use_safetensors=True,
                local_files_only=True,
                # SD 2.1 has no checker; its index names the feature extractor of one all the same
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"The model in {folder} cannot be loaded ({first_line(error)}). Expected a diffusers "
            "folder with safetensors weights. Copy it again, or take another model."
        ) from error
    _align(pipeline)
    return pipeline.to(device)


def _align(pipeline: StableDiffusionPipeline) -> None:
    """Give weights that lie askew in a file mapped into memory a place of their own.

    A CPU's kernels sum in another order where a matrix does not begin at a cache line, so the same
    weights would draw another picture, in its last bits, from a file whose head is longer.
    """
    for part in (pipeline.unet, pipeline.text_encoder, pipeline.vae):
        for weight in part.parameters():
            if weight.data_ptr() % 64:
                weight.data = weight.data.clone()


def token_counter(base: BaseModel, drive: Drive) -> Callable[[str], int] | None:
    """Return what counts a prompt's tokens without the model; None where its files are not here."""
    folder = (base.folder or drive.models / base.name) / "tokenizer"
    if not folder.is_dir():
        return None
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    return lambda text: len(tokenizer(text, truncation=False, verbose=False).input_ids)


@contextmanager
def _without_quantizers() -> Iterator[None]:
    """Let diffusers do without the packages for weights in 4 and 8 bits, which none of ours are.

    It imports them wherever they are installed: 1.2 s of one core for bitsandbytes, and a complaint
    where its CPU kernels lack a package. It looks once, so they stay hidden from it and can be
    imported by their names afterwards, as by 8-bit AdamW. Where somebody has imported diffusers
    before us it has looked already, and must find what it has seen.
    """
    packages = {"bitsandbytes", "torchao"} - sys.modules.keys()
    with hidden(*(() if "diffusers" in sys.modules else packages)):
        yield


def quiet_transformers() -> Any:
    """Import transformers without its bars for weights; those for downloads would go with them."""
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    were_off = are_progress_bars_disabled()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not were_off:
        enable_progress_bars()
    return transformers


def _quiet_diffusers() -> Any:
    """Import diffusers without its bars for every part and complaints about torchvision."""
    quiet_transformers()
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
    return diffusers


def find_weights(base: BaseModel, drive: Drive) -> tuple[Path, str]:
    """Return the folder that holds the weights of ``base``, and the name of its source.

    What is not in the package comes from the Drive's cache, else from the first hub mirror that
    answers, and is then kept on a Drive that has room.
    """
    if base.folder is not None:
        hub.verify(base.folder)
        return base.folder, str(base.folder) if base.name not in REGISTRY else "the package"
    kept = drive.models / base.name
    return hub.find(
        hub.Wanted(
            what=f"The weights of {base.name} ({base.download_gib:g} GiB)",
            sources=base.sources,
            kept=kept,
            choose=choose_weights,
            remedy=f"Check the network and try again, or copy a diffusers folder of it to {kept}, "
            "or take --model pocket, which needs no download.",
        )
    )


PARTS = ("text_encoder", "unet", "vae")  # of a pipeline: those with weights


def choose_config(names: Collection[str]) -> list[str]:
    """Choose what says how a pipeline is built, and its tokenizer."""
    small = ("model_index.json", "tokenizer/", "scheduler/", *(f"{part}/" for part in PARTS))
    return [n for n in names if n.startswith(small) and n.endswith((".json", ".txt"))]


def choose_weights(names: Collection[str]) -> list[str]:
    """Choose what drawing needs of a diffusers repository or folder, fp16 where it has it.

    Raises
    ------
    S2iError
        When it lacks safetensors weights for a part.
    """
    weights = [n for n in names if n.startswith(PARTS) and n.endswith(".safetensors")]
    halves = [n for n in weights if n.endswith(".fp16.safetensors")]
    whole = [n for n in weights if n.count(".") == 1]
    chosen = halves if len(halves) >= len(PARTS) else whole
    if len(chosen) < len(PARTS) or "model_index.json" not in names:
        raise S2iError("it has no safetensors weights for all of text_encoder, unet and vae")
    return choose_config(names) + chosen
