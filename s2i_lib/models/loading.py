"""Load a model: the base's weights from where they are found first, and a run's on top of them."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from s2i_lib.errors import InputError, S2iError, first_line
from s2i_lib.models.devices import pick_device, pick_dtype
from s2i_lib.models.digests import digest_in_background
from s2i_lib.models.lora import add_lora, merge_lora
from s2i_lib.models.parts import load_pipeline, quiet_diffusers, without_quantizers
from s2i_lib.models.registry import FAMILIES, PACKAGE, REGISTRY, BaseModel, choose
from s2i_lib.storage import hub
from s2i_lib.storage.json_file import read_json
from s2i_lib.storage.layout import Drive
from s2i_lib.storage.run_card import LORA, STEP, WEIGHTS, find_run, read_card

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline

    from s2i_lib.models.single_file import WeightsFile

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
    run_subject: str | None = None
    """Name of the subject that the run was fine-tuned on, as it says itself, wherever it lies."""
    embeddings: dict[str, torch.Tensor] = field(default_factory=dict)
    """Prompt embeddings by text, so that a prompt is encoded once."""
    latent_to_rgb: tuple[torch.Tensor, torch.Tensor] | None = None
    """Linear map that previews use, fitted when it is first asked for."""

    digests: dict[str, Future[str]] = field(default_factory=dict)
    """SHA-256 of the weights, "model" and "run", computed beside loading and drawing."""
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)
    """Lock of whoever uses it: its tokenizer and its scheduler are one thread's at a time."""

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
    again: 1.1 of 6.3 s of one core with the pocket model of 64 px. Also right where two threads
    load at once: whoever leaves last finds the collector on, or turns it on.
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
        A name in ``REGISTRY``, "auto", or a folder in diffusers format. A run of the library's own
        models needs none; one of another is loaded only into the folder that is named here.
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
    return _load_run(folder, card, name, where) if card else _load_external(folder, name, where)


def _load_base(name: str, where: _Where) -> Model:
    base = choose(name)
    folder, source = find_weights(base, where.drive)
    pipeline = load_pipeline(folder, device=where.device, dtype=where.dtype)
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    if side != base.size_px:  # the weights say for what size they were made
        base = replace(base, size_px=side)
    return Model(base, pipeline, source, digests={"model": digest_in_background(folder)})


def _load_run(run: Path, card: dict[str, Any], name: str, where: _Where) -> Model:
    """Load the base model that a run was made from, with the run's weights in it; or its export."""
    if (run / "model_index.json").is_file():
        model = _load_base(str(run), where)
        known = base_name(run, card)  # for its guidance, words and scorers
        model.base = REGISTRY.get(known, model.base)
        model.run = str(run.resolve())
    else:
        model = _load_base(choose_base(run, card, name), where)
        load_weights(model.pipeline, run / WEIGHTS)
        model.digests["run"] = digest_in_background(run / WEIGHTS)
        model.run = f"{run.parent.name}/{run.name}"
    taught = card.get("instance_prompt")
    model.taught = taught if isinstance(taught, str) else ""
    model.run_subject = card.get("subject", {}).get("name")
    return model


def base_name(run: Path, card: dict[str, Any]) -> str:
    """Return the name of the model that a run was made from, as its card has it.

    Raises
    ------
    InputError
        When the card does not say.
    """
    base = card.get("base")
    name = base.get("name") if isinstance(base, dict) else None
    if not isinstance(name, str):
        raise InputError(
            f"{run} does not say what it was fine-tuned from (no base in its run.json, or an odd "
            "one). Copy the run again; to draw, give another run."
        )
    return name


def choose_base(run: Path, card: dict[str, Any], name: str = "auto") -> str:
    """Return the model to load for a run: the registry's, else the folder that the user named.

    A folder may be called like one of the registry's; who names it means it. A card may come from
    anybody: that it names a folder is no reason to open that.

    Raises
    ------
    InputError
        When the run was made from neither.
    """
    known = base_name(run, card)
    is_folders = name not in ("auto", *REGISTRY) and Path(name).name == known
    if known in REGISTRY and not is_folders:
        return known
    if name not in ("auto", *REGISTRY):
        return name
    raise InputError(
        f"The run {run.name} was fine-tuned from the model {known!r}, which is not one of ours; "
        f"its run.json says that it lies in {card['base'].get('source')}. A run does not choose "
        "which folder is opened: if you know that one, give it with --model FOLDER."
    )


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
        base = _family_of(found) if name not in REGISTRY else None
        base = base or choose(name)
        log.info("%s is taken for the kind of model that %s is.", path, base.name)
        config = _find_config(base, where.drive)
        with without_quantizers():
            quiet_diffusers()
            pipeline = single_file.load_checkpoint(found, config, where.dtype)
        model = Model(base, pipeline.to(where.device), str(found.path.resolve()))
    model.digests["run"] = digest_in_background(found.path)
    model.run, model.run_subject = str(found.path.resolve()), found.subject
    return model


def _family_of(file: WeightsFile) -> BaseModel | None:
    """Return the model that a checkpoint in one file is of; None where it does not say."""
    base = FAMILIES.get(file.text_width or 0)
    is_768 = base is REGISTRY["sd2.1-base"] and file.predicts_v
    return REGISTRY["sd2.1"] if is_768 else base


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
    from s2i_lib.storage.tensor_file import load_tensors

    parts = [("unet", "diffusion_pytorch_model"), ("text_encoder", "model")]
    files = [(part, folder / part / f"{stem}.safetensors") for part, stem in parts]
    present = [(part, path) for part, path in files if path.is_file()]
    if (folder / LORA).is_file():
        present = [("lora", folder / LORA)]
    listed = read_json(folder / STEP, {"sha256": dict}).get("sha256", {})
    if present and (gone := [name for name in listed if not (folder / name).is_file()]):
        raise InputError(
            f"The weights in {folder} lack {gone[0]}: with the rest alone the model would draw "
            "what was never trained. They were copied in part, or the machine went before its "
            "Drive was uploaded. The same `finetune` command goes on from what is there."
        )
    if not present:
        raise InputError(
            f"There are no weights in {folder}. Has the run finished? `python -m s2i_lib runs` "
            "lists what each one has; the same `finetune` command goes on where it stopped."
        )
    for part, path in present:
        try:
            if part == "lora":
                add_lora(pipeline, path)
                merge_lora(pipeline)
            else:
                getattr(pipeline, part).load_state_dict(load_tensors(path))
        except Exception as error:  # odd files make diffusers and PEFT raise anything
            raise InputError(
                f"{path} does not fit the base model ({first_line(error)}). It is damaged, or the "
                "base model has changed since; run.json names the one it was made from."
            ) from error


def find_weights(base: BaseModel, drive: Drive) -> tuple[Path, str]:
    """Return the folder that holds the weights of ``base``, and the name of its source.

    What is not in the package comes from the Drive's cache, else from the first hub mirror that
    answers, and is then kept on a Drive that has room.
    """
    if base.folder is not None:
        hub.verify(base.folder)
        is_ours = base.folder.resolve().is_relative_to(PACKAGE)
        return base.folder, "the package" if is_ours else str(base.folder)
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
