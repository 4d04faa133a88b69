"""A run's weights in the formats that other programs read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import InputError
from s2i_lib.models.loading import Model, load
from s2i_lib.models.original_layout import check_layout, write_single_file
from s2i_lib.models.schedulers import USUAL, make_scheduler
from s2i_lib.models.single_file import SUBJECT_KEY
from s2i_lib.storage.files import refuse_taken, written_whole
from s2i_lib.storage.json_file import load_object, parse_object
from s2i_lib.storage.layout import Drive, cut_name
from s2i_lib.storage.run_card import LORA, RUN_CARD, WEIGHTS, find_run, read_card

if TYPE_CHECKING:
    import torch

FORMATS = ("diffusers", "single-file", "lora")


def export(drive: Drive, run: str, form: str, out: Path | None = None, model: str = "auto") -> Path:
    """Write a run's weights for use elsewhere.

    Parameters
    ----------
    run : str
        SUBJECT/RUN, SUBJECT, or the path of a run's folder.
    form : str
        "diffusers": a folder that ``from_pretrained`` loads, everything in it, fp16 but for what
        the base model keeps in fp32. It draws the run's pictures, here with ``run`` and the folder.
        "single-file": one safetensors file and its yaml, which A1111 and ComfyUI load, fp16.
        "lora": one safetensors file with kohya's names, which diffusers, ComfyUI and A1111 load.
    out : Path, optional
        Where to; the default is ``export/`` in the run's folder.
    model : str
        Folder of the model that the run was made from, where that is none of ours.

    Returns
    -------
    Path
        The folder or file that was written.

    Raises
    ------
    InputError
        When the run has no weights in that form, or something is at ``out`` already.
    """
    folder = find_run(drive, run)
    card = read_card(folder)
    if form not in FORMATS:
        raise InputError(f"There is no format {form!r}. Choose one of {', '.join(FORMATS)}.")
    name = cut_name(f"{folder.parent.name}-{folder.name}", 200)  # a suffix follows
    suffix = "" if form == "diffusers" else ".safetensors"
    target = out or folder / "export" / f"{name}{suffix}"
    refuse_taken(target)
    if form == "diffusers":
        return _export_diffusers(_load_on_cpu(drive, folder, model), folder, target)
    if form == "single-file":
        return _export_single_file(_load_on_cpu(drive, folder, model), folder, card, target)
    if not (folder / WEIGHTS / LORA).is_file():
        raise InputError(
            f"{folder.name} was trained with method {card.get('options', {}).get('method')}, so it "
            "has no LoRA. Export it as diffusers, or train with --method lora."
        )
    return _export_lora(folder, card, target)


def _load_on_cpu(drive: Drive, run: Path, name: str) -> Model:
    """The run's model in fp32, with a LoRA merged into what it changes."""
    import torch

    return load(name, drive=drive, run=str(run), device=torch.device("cpu"), dtype=torch.float32)


def _export_diffusers(model: Model, run: Path, target: Path) -> Path:
    pipe = model.pipeline
    for part in (pipe.unet, pipe.text_encoder, pipe.vae):
        _halve(part)
    pipe.scheduler = make_scheduler(model, USUAL)
    with written_whole(target) as part:
        pipe.save_pretrained(part, safe_serialization=True)
        _leave_defaults_out(pipe.scheduler, part / "scheduler")
        _save_vocabulary(pipe.tokenizer, part / "tokenizer")
        _as_transformers_4(part / "text_encoder")
        if (run / RUN_CARD).is_file():
            shutil.copy(run / RUN_CARD, part / RUN_CARD)
    return target


def _halve(part: torch.nn.Module) -> None:
    """Convert a network to fp16 if that changes none of its weights.

    It does not what was trained, nor a base model that is kept in fp16. What is kept in fp32 is
    drawn with in fp32 on a CPU, and its export must be, too.
    """
    if all(weight.equal(weight.half().to(weight.dtype)) for weight in part.parameters()):
        part.half()


def _leave_defaults_out(scheduler: Any, folder: Path) -> None:
    """Take what diffusers filled in out of a saved scheduler.

    Read back, it would count as said: samplers made from it would no longer have their own
    defaults, such as where their time steps lie, and would draw other pictures than the run.
    """
    path = folder / scheduler.config_name
    filled_in = scheduler.config.get("_use_default_values", [])
    said = {k: v for k, v in load_object(path).items() if k not in filled_in}
    path.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")


def _as_transformers_4(text_encoder: Path) -> None:
    """Lay a saved text encoder out as Stable Diffusion 2.1's own, which every version reads.

    transformers 4 does not find names without the level ``text_model`` and draws with random
    weights. What 5 notes as its type, it loads it in, though the U-Net beside it becomes fp32.
    """
    from safetensors.torch import save_file

    from s2i_lib.storage.tensor_file import load_tensors

    path = text_encoder / "model.safetensors"
    weights = {
        f"text_model.{k.removeprefix('text_model.')}": w for k, w in load_tensors(path).items()
    }
    save_file(weights, path, metadata={"format": "pt"})
    path = text_encoder / "config.json"
    config = load_object(path) | {"dtype": "float32"}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _save_vocabulary(tokenizer: Any, folder: Path) -> None:
    """Write vocab.json and merges.txt, the files that transformers 4 makes CLIP's tokenizer of."""
    model = parse_object(tokenizer.backend_tokenizer.to_str())["model"]
    text = json.dumps(model["vocab"], ensure_ascii=False)
    (folder / "vocab.json").write_text(text + "\n", encoding="utf-8")
    merges = "".join(f"{' '.join(pair)}\n" for pair in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")


def _export_single_file(model: Model, run: Path, card: dict[str, Any], target: Path) -> Path:
    import torch

    pipe = model.pipeline.to(dtype=torch.float16)
    check_layout(pipe, f"{run.parent.name}/{run.name}")
    predicts = pipe.scheduler.config["prediction_type"].removesuffix("_prediction")
    metadata = {"modelspec.prediction_type": predicts}
    if card:
        metadata |= _model_spec(run, card)
    return write_single_file(pipe, target, metadata)


def _model_spec(run: Path, card: dict[str, Any]) -> dict[str, str]:
    """What other programs show of a file. Source: https://github.com/Stability-AI/ModelSpec."""
    return {
        "modelspec.title": f"{run.parent.name}/{run.name}",
        "modelspec.trigger_phrase": card["instance_prompt"],
        "modelspec.license": card["base"]["licence"],
        SUBJECT_KEY: card["subject"]["name"],
    }


def _export_lora(run: Path, card: dict[str, Any], target: Path) -> Path:
    from safetensors.torch import save_file

    from s2i_lib.storage.tensor_file import load_tensors

    options = card["options"]
    weights = kohya_names(load_tensors(run / WEIGHTS / LORA), options["lora_alpha"])
    metadata = {
        "ss_network_dim": str(options["lora_rank"]),
        "ss_network_alpha": str(options["lora_alpha"]),
        "ss_sd_model_name": card["base"]["name"],
        **_model_spec(run, card),
    }
    if any(_reads_sd2_prompts(name, weight) for name, weight in weights.items()):
        metadata["ss_v2"] = "True"
    with written_whole(target) as part:
        save_file(weights, part, metadata=metadata)
    return target


def _reads_sd2_prompts(name: str, weight: torch.Tensor) -> bool:
    """Whether a layer takes SD 2's prompts in, which are 1024 numbers wide as no other family's.

    A1111 takes a LoRA that does not say so for one of SD 1 and hides it beside SD 2.
    Source: extensions-builtin/Lora/network.py, ``detect_version``.
    """
    ends = ("attn2_to_k.lora_down.weight", "attn2_to_v.lora_down.weight")
    return name.endswith(ends) and weight.shape[1] == 1024


def kohya_names(weights: dict[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """Rename PEFT's layers as kohya's scripts do: unet.a.b.lora_A.weight, lora_unet_a_b.lora_down.

    Source: https://github.com/kohya-ss/sd-scripts, networks/lora.py.
    """
    import torch
    from diffusers.utils import convert_state_dict_to_kohya

    dtype = next(iter(weights.values())).dtype
    return {
        # It takes the rank for alpha.
        name: torch.tensor(float(alpha), dtype=dtype) if name.endswith(".alpha") else weight
        for name, weight in convert_state_dict_to_kohya(weights).items()
    }
