"""The door for folders of models: read and checked before a library opens them.

diffusers and transformers import what a folder's configuration names, and build what its numbers
say. A folder may come from anybody, by a shortcut on a Drive. So every configuration is read here
first: parts, libraries and classes are compared with a fixed table; what names code, kernels or
other files is refused, and so are sizes that no model of these kinds has. What passes is data.

Source of the names: diffusers 0.39, pipelines/pipeline_loading_utils.py; transformers 5.15,
modeling_utils.py, configuration_utils.py, tokenization_utils_base.py, integrations/peft.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from s2i_lib.errors import InputError, S2iError, first_line
from s2i_lib.models.building import building
from s2i_lib.storage.json_file import load_object

SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
# Part of a pipeline -> the classes it may have, each with its library. SD 1 and 2, old and new.
PARTS: dict[str, dict[str, str]] = {
    "unet": {"UNet2DConditionModel": "diffusers"},
    "vae": {"AutoencoderKL": "diffusers"},
    "scheduler": dict.fromkeys(SCHEDULERS, "diffusers"),
    "text_encoder": {"CLIPTextModel": "transformers"},
    "tokenizer": dict.fromkeys(("CLIPTokenizer", "CLIPTokenizerFast"), "transformers"),
    "safety_checker": {"StableDiffusionSafetyChecker": "stable_diffusion"},  # never loaded from it
    "feature_extractor": dict.fromkeys(
        ("CLIPFeatureExtractor", "CLIPImageProcessor", "CLIPImageProcessorFast",
         "CLIPImageProcessorPil"),
        "transformers",
    ),
    "image_encoder": {"CLIPVisionModelWithProjection": "transformers"},
}  # fmt: skip
REQUIRED = ("unet", "vae", "scheduler", "text_encoder", "tokenizer")
# Kinds of networks that look at pictures, and of the towers that they are made of.
NETWORKS = ("clip", "vision-text-dual-encoder", "vit", "dinov2", "depth_anything")
TOWERS = (
    *NETWORKS, "clip_text_model", "clip_vision_model", "levit", "mobilenet_v1", "mobilenet_v2",
    "resnet", "convnext", "deit", "swin", "bert", "distilbert", "roberta", "xlm-roberta",
)  # fmt: skip
TOWER_CONFIGS = ("text_config", "vision_config")
BACKBONE = "backbone_config"  # of a network that is built on another one

# The files that a tokenizer has its words from; CLIP's has one of the first two.
VOCABULARIES = (
    ("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",), ("sentencepiece.bpe.model",)
)  # fmt: skip

CODE = (".py", ".pyc", ".pyd", ".so")
# Keys by which a configuration has code, kernels, or another file loaded.
COMMANDS = frozenset({
    "auto_map", "quantization_config", "attn_implementation", "_attn_implementation",
    "_attn_implementation_internal", "experts_implementation", "_experts_implementation",
    "configuration_files", "transformers_weights", "custom_pipelines", "fusion_config",
    "kernel_config", "use_kernels", "distributed_config", "init_inputs", "fast_tokenizer_files",
    "tokenizer_file", "vocab_file", "merges_file", "gguf_file", "tokenizer_object",
    "backbone", "use_pretrained_backbone", "use_timm_backbone", "backbone_kwargs",
})  # fmt: skip
DEEPEST = 8
MOST_ITEMS = {"trained_betas": 10_000}  # of a list; of any other 64
# Far above what SD 1, SD 2, CLIP, DINO and Depth Anything have, and far below what takes a machine.
LARGEST = {
    "num_train_timesteps": 10_000,
    "num_hidden_layers": 64,
    "num_layers": 64,
    "layers_per_block": 8,
    "transformer_layers_per_block": 16,
    "reverse_transformer_layers_per_block": 16,
    "depths": 64,
    "block_out_channels": 4096,
    "hidden_size": 8192,
    "hidden_sizes": 8192,
    "reassemble_hidden_size": 8192,
    "reassemble_factors": 16,
    "neck_hidden_sizes": 4096,
    "fusion_hidden_size": 1024,
    "head_hidden_size": 1024,
    "intermediate_size": 32_768,
    "max_position_embeddings": 4096,
    "sample_size": 1024,
    "image_size": 4096,
    "vocab_size": 1_000_000,
}
LARGEST_OTHER = 1_000_000
SHARE_OF_WEIGHTS = 1.05  # what a configuration calls for, to what is there: a formula is not exact


@dataclass(frozen=True)
class ModelFolder:
    """What a folder in diffusers' format says of its model, checked."""

    path: Path
    scheduler: str
    """Class of its noise schedule, one of `SCHEDULERS`."""
    size_px: int
    """Side of the pictures that it draws."""
    token_limit: int
    """Length of a prompt in tokens, begin and end included."""
    prediction_type: Literal["epsilon", "v_prediction"]
    shape: tuple[Any, Any]
    """Channels of its latents and width of the text that it reads: models of one kind share them,
    whatever the size of their pictures."""


def check_model(folder: Path) -> ModelFolder:
    """Check a folder in diffusers' format, and return what it says of its model.

    Raises
    ------
    InputError
        When it is incomplete, has code or asks for some, or sizes are out of bounds.
    """
    classes = _read_index(folder)
    check_files(folder, *(folder / part for part in PARTS))
    unet = check_config(folder / "unet" / "config.json", PARTS["unet"])
    vae = check_config(folder / "vae" / "config.json", PARTS["vae"])
    text = check_config(folder / "text_encoder" / "config.json")
    schedule = check_config(folder / "scheduler" / "scheduler_config.json", SCHEDULERS)
    check_tokenizer(folder / "tokenizer")
    for part, config in (("unet", unet), ("vae", vae), ("text_encoder", text)):
        check_weights(folder / part, config)
    widths: Any = vae.get("block_out_channels")
    side: Any = unet.get("sample_size")
    tokens: Any = text.get("max_position_embeddings", 77)
    kind: Any = schedule.get("prediction_type")
    kind = "epsilon" if kind is None else kind
    scale, shift = vae.get("scaling_factor", 0.18215), vae.get("shift_factor") or 0
    for name, found, is_right in (
        ("block_out_channels of vae", widths, isinstance(widths, list) and 0 < len(widths) < 9),
        ("sample_size of unet", side, _is_count(side)),
        ("max_position_embeddings of text_encoder", tokens, _is_count(tokens)),
        ("prediction_type of scheduler", kind, kind in ["epsilon", "v_prediction"]),
        ("scaling_factor of vae", scale, isinstance(scale, (int, float)) and scale > 0),
        ("shift_factor of vae", shift, isinstance(shift, (int, float))),
    ):
        if not is_right:
            raise _refusal(folder / "model_index.json", f"{name} is {found!r}")
    size_px = side * 2 ** (len(widths) - 1)
    shape = unet.get("in_channels"), unet.get("cross_attention_dim")
    return ModelFolder(folder, classes["scheduler"], size_px, tokens, kind, shape)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _read_index(folder: Path) -> dict[str, str]:
    """Return the class of each part that a model_index.json names, all of them in the table."""
    path = folder / "model_index.json"
    index = read_object(path)
    if index.get("_class_name") != "StableDiffusionPipeline":
        raise _refusal(path, f"it is for {index.get('_class_name')!r}, no StableDiffusionPipeline")
    classes = {}
    for part, named in index.items():
        is_note = part.startswith("_") or part == "requires_safety_checker"
        if named in (None, [None, None]) or (is_note and isinstance(named, (str, bool))):
            continue
        ours = [[library, kind] for kind, library in PARTS.get(part, {}).items()]
        if named not in ours:
            raise _refusal(path, f"for {part!r} it names {named!r}, which is none of ours")
        classes[part] = named[1]
    if missing := [part for part in REQUIRED if part not in classes]:
        raise _refusal(path, f"it names no {missing[0]}")
    return classes


def check_files(*folders: Path) -> None:
    """Refuse folders with programs or adapters in them, or an index that points out of them."""
    for folder in folders:
        try:
            files = sorted(folder.iterdir()) if folder.is_dir() else []
        except OSError as error:
            raise _refusal(folder, f"it cannot be read ({first_line(error)})") from error
        for path in files:
            if path.suffix.lower() in CODE:
                raise _refusal(path, "it is a program, and a model of ours needs none")
            if path.name == "adapter_config.json":
                raise _refusal(path, "it would have other weights loaded in place of these")
            if ".safetensors.index." in path.name:  # also of a variant: .index.fp16.json
                shards = read_object(path).get("weight_map")
                if not isinstance(shards, dict) or not all(map(_is_shard, shards.values())):
                    raise _refusal(path, "it names files other than safetensors beside it")


def _is_shard(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def check_config(path: Path, classes: Collection[str] = ()) -> dict[str, Any]:
    """Return a configuration that names one of ``classes`` or none, and no code; sizes in bounds.

    Raises
    ------
    InputError
        Naming what is refused.
    """
    config = read_object(path)
    named = config.get("_class_name")
    if named is not None and (not isinstance(named, str) or named not in classes):
        raise _refusal(path, f"_class_name is {named!r}, which is none of ours")
    _check_values(path, config)
    return config


def check_tokenizer(folder: Path) -> None:
    """Refuse a tokenizer's folder unless it is CLIP's, without code and other files."""
    check_files(folder)
    path = folder / "tokenizer_config.json"
    config = read_object(path)
    named = config.get("tokenizer_class")
    if named is not None and named not in list(PARTS["tokenizer"]):
        raise _refusal(path, f"tokenizer_class is {named!r}, not CLIPTokenizer")
    if not isinstance(config.get("model_max_length", 77), (int, float)):
        raise _refusal(path, f"model_max_length is {config['model_max_length']!r}")
    _refuse_commands_in(folder)
    check_vocabulary(folder, VOCABULARIES[:2])


def check_vocabulary(folder: Path, vocabularies: Sequence[Collection[str]] = VOCABULARIES) -> None:
    """Refuse a tokenizer without words: transformers makes one of which every word is unknown."""
    if not any(all((folder / name).is_file() for name in names) for names in vocabularies):
        expected = ", or ".join(" and ".join(names) for names in vocabularies)
        raise InputError(
            f"{folder} has no vocabulary, so every word would be unknown to it. Expected "
            f"{expected}. Copy the whole folder again."
        )


def check_network(folder: Path, towers: Collection[str] = TOWER_CONFIGS) -> dict[str, Any]:
    """Check the folder of a network that looks at pictures; return its configuration.

    Parameters
    ----------
    towers
        Those of its configuration's parts that are built.
    """
    check_files(folder)
    path = folder / "config.json"
    config = check_config(path)
    kind = config.get("model_type")
    if kind not in list(NETWORKS):
        raise _refusal(path, f"model_type is {kind!r}, none of {', '.join(NETWORKS)}")
    for tower in (*TOWER_CONFIGS, BACKBONE):
        inner = config.get(tower) or {}
        found = inner.get("model_type", "clip") if isinstance(inner, dict) else inner
        if found not in list(TOWERS):
            raise _refusal(path, f"model_type of its {tower} is {found!r}, none of ours")
    _refuse_commands_in(folder)
    check_weights(folder, config, towers)
    return config


def _refuse_commands_in(folder: Path) -> None:
    for file in folder.glob("*.json"):
        _refuse_commands(file, read_object(file))


def _refuse_commands(path: Path, record: dict[str, Any]) -> None:
    for name, value in record.items():
        if name in COMMANDS and value not in (None, False, {}):
            raise _refusal(path, f"{name} has code or another file loaded")


def _check_values(path: Path, value: Any, key: str = "", depth: int = 0) -> None:
    if depth > DEEPEST:
        raise _refusal(path, f"it is nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        _refuse_commands(path, value)
        for name, inner in value.items():
            _check_values(path, inner, name, depth + 1)
    elif isinstance(value, list):
        if len(value) > MOST_ITEMS.get(key, 64):
            raise _refusal(path, f"{key} is a list of {len(value)}")
        for inner in value:
            _check_values(path, inner, key, depth + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        limit = LARGEST.get(key, LARGEST_OTHER)
        if not abs(value) <= limit:  # NaN is not, either
            raise _refusal(path, f"{key} is {str(value)[:12]}, and {limit} is the most")


def check_weights(folder: Path, config: dict[str, Any], towers: Collection[str] = ()) -> None:
    """Refuse transformers whose configuration calls for more numbers than the files hold.

    transformers makes up what it does not find: a few bytes of JSON would take gigabytes.
    """
    from s2i_lib.storage.tensor_file import read_head

    files = sorted(folder.glob("*.safetensors"))
    held = sum(math.prod(shape) for file in files for shape in read_head(file).shapes.values())
    wanted = _least_weights(config)
    for tower in towers:  # CLIP's older files have each of them twice, the second with _dict
        same = (config.get(tower), config.get(f"{tower}_dict"))
        wanted += max([_least_weights(one) for one in same if isinstance(one, dict)], default=0)
    if files and wanted > SHARE_OF_WEIGHTS * held:
        raise _refusal(
            folder / "config.json",
            f"it calls for {wanted / 1e6:.3g} million numbers, and the weights have "
            f"{held / 1e6:.3g} million",
        )


def _least_weights(config: dict[str, Any]) -> int:
    """Count the numbers of a transformer's layers and embeddings, biases and norms left out."""
    silent = 12 if config.get("model_type") in ("vit", "dinov2") else 0  # transformers' own
    width, inner = (config.get(name, 0) for name in ("hidden_size", "intermediate_size"))
    layers = config.get("num_hidden_layers", silent)
    rows = [config.get(name, 0) for name in ("vocab_size", "max_position_embeddings")]
    if not all(isinstance(number, int) for number in (width, inner, layers, *rows)):
        return 0  # the library refuses it
    return layers * (4 * width**2 + 2 * width * inner) + width * sum(rows)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a file of JSON from anybody.

    Raises
    ------
    InputError
        When it is missing, no object in JSON, or far too large.
    """
    try:
        return load_object(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path.parent} is not a whole diffusers model: {path.name} cannot be read "
            f"({first_line(error)}). Expected model_index.json and the folders tokenizer, "
            "text_encoder, unet, vae and scheduler. Copy or export it again."
        ) from error


def _refusal(path: Path, what: str) -> InputError:
    return InputError(
        f"{path.parent} is not loaded because of {path.name}: {what[:300]}. Expected weights and "
        "numbers of Stable Diffusion's own parts and nothing that runs. Take the model from "
        "another place; whoever made this one can export it as diffusers."
    )


def load_or_refuse(path: Path, load: Callable[[], Any]) -> Any:
    """Return what ``load`` gives; make our error of what libraries raise over a damaged file."""
    try:
        with building:
            return load()
    except S2iError:
        raise
    except Exception as error:  # odd files raise anything, from TypeError to validators of the hub
        raise InputError(
            f"{path} cannot be loaded ({first_line(error)}). Expected a network as transformers "
            "or lpips saves it, with safetensors weights. Copy it again."
        ) from error
