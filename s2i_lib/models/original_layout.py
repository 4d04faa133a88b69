"""Write one safetensors file with its yaml, as A1111 and ComfyUI load Stable Diffusion 2.x.

The file has the names of the original code (https://github.com/Stability-AI/stablediffusion), which
numbers blocks through where diffusers nests them, and OpenCLIP's names for the text encoder.

Source of the names: diffusers, scripts/convert_diffusers_to_original_stable_diffusion.py, and
diffusers/loaders/single_file_utils.py, which reads them back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2i_lib.errors import InputError
from s2i_lib.storage.files import refuse_taken, write_file, written_whole

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline

    Weights = dict[str, torch.Tensor]

CONFIG = Path(__file__).with_name("original_config.yaml")
# What both yaml and names take for granted; widths and heads are free.
LAYOUT: dict[str, dict[str, Any]] = {
    "unet": {
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 2,
        "use_linear_projection": True,
        "norm_num_groups": 32,
    },
    "vae": {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "layers_per_block": 2,
        "mid_block_add_attention": True,
        "norm_num_groups": 32,
    },
}


def check_layout(pipe: StableDiffusionPipeline, name: str) -> None:
    """Refuse a model that the programs which read such a file cannot build.

    Raises
    ------
    InputError
        Naming the first part that differs from Stable Diffusion 2.x.
    """
    for part, wanted in LAYOUT.items():
        config = getattr(pipe, part).config
        for key, value in wanted.items():
            found = config.get(key, True)  # mid_block_add_attention is newer than SD 2.x's files
            found = list(found) if isinstance(found, tuple) else found
            if found != value:
                raise InputError(
                    f"{name} is not built like Stable Diffusion 2.x ({part}.{key} is {found}, "
                    f"expected {value}), and A1111 and ComfyUI can load nothing else from one "
                    "file. Export it as diffusers, or fine-tune sd2.1-base or sd2.1."
                )


def original_weights(pipe: StableDiffusionPipeline) -> Weights:
    """Return all weights under the original code's names, fp16 on the CPU."""
    import torch

    weights = {
        f"model.diffusion_model.{unet_name(name)}": weight
        for name, weight in pipe.unet.state_dict().items()
    }
    for name, weight in pipe.vae.state_dict().items():
        renamed = vae_name(name)
        if re.search(r"\.attn_1\.(q|k|v|proj_out)\.weight", renamed):
            weight = weight[..., None, None]  # convolutions of 1 x 1 there
        weights[f"first_stage_model.{renamed}"] = weight
    for name, weight in open_clip_weights(pipe.text_encoder.state_dict()).items():
        weights[f"cond_stage_model.model.{name}"] = weight
    return {name: w.to("cpu", torch.float16).contiguous() for name, w in weights.items()}


RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTSIDE_BLOCKS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
BLOCK = re.compile(
    r"(down|mid|up)_blocks?\.(?:(\d)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.+)"
)


def unet_name(name: str) -> str:
    """Return a parameter's name in the original U-Net.

    Each level has three places there: two (going up: three) resnets with their attention in the
    same place, and going down the convolution that halves the size.
    """
    match = BLOCK.fullmatch(name)
    if match is None:
        layer, _, end = name.rpartition(".")
        return f"{OUTSIDE_BLOCKS[layer]}.{end}"
    side, level, kind, index, rest = match.groups()
    if kind == "resnets":
        layer, _, end = rest.rpartition(".")
        rest = f"{RESNET[layer]}.{end}"
    if side == "mid":
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}.{rest}"
    place = 3 * int(level) + int(index)
    if kind == "downsamplers":
        return f"input_blocks.{place + 3}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{place + 2}.{1 if level == '0' else 2}.{rest}"
    slot = 1 if kind == "attentions" else 0
    if side == "down":
        return f"input_blocks.{place + 1}.{slot}.{rest}"
    return f"output_blocks.{place}.{slot}.{rest}"


VAE_RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"down_blocks\.(\d)\.resnets\.", r"down.\1.block."),
    (r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample."),
    (r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{3 - int(m[1])}.block."),
    (r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{3 - int(m[1])}.upsample."),
    (r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}."),
    (r"mid_block\.attentions\.0\.", "mid.attn_1."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
]


def vae_name(name: str) -> str:
    """Return a parameter's name in the original autoencoder; its decoder counts from the output."""
    for pattern, replacement in VAE_RULES:
        name = re.sub(pattern, replacement, name)
    return name


OPEN_CLIP_RULES = [
    ("encoder.layers.", "transformer.resblocks."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
    (".self_attn.", ".attn."),
    ("final_layer_norm.", "ln_final."),
    ("embeddings.token_embedding.", "token_embedding."),
    ("embeddings.position_embedding.weight", "positional_embedding"),
]


def open_clip_weights(weights: Weights) -> Weights:
    """Return a CLIP text encoder's weights as OpenCLIP has them: q, k and v in one matrix."""
    import torch

    renamed = {}
    for name, weight in weights.items():
        name = name.removeprefix("text_model.")
        for theirs, original in OPEN_CLIP_RULES:
            name = name.replace(theirs, original)
        renamed[name] = weight
    for query in [name for name in renamed if ".q_proj." in name]:
        parts = [renamed.pop(query.replace(".q_proj.", f".{x}_proj.")) for x in "qkv"]
        renamed[query.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    return renamed


def original_config(pipe: StableDiffusionPipeline) -> dict[str, Any]:
    """Return what the yaml says: how the original code builds the networks, what is predicted."""
    import yaml

    config = yaml.safe_load(CONFIG.read_text())
    params = config["model"]["params"]
    unet, vae, noise = pipe.unet.config, pipe.vae.config, pipe.scheduler.config
    widths, vae_widths = unet["block_out_channels"], vae["block_out_channels"]
    heads = unet["attention_head_dim"]  # diffusers' name for their number
    params |= {
        "linear_start": noise["beta_start"],
        "linear_end": noise["beta_end"],
        "timesteps": noise["num_train_timesteps"],
        "image_size": unet["sample_size"],
        "channels": unet["in_channels"],
        "scale_factor": vae["scaling_factor"],
    }
    params["unet_config"]["params"] |= {
        "in_channels": unet["in_channels"],
        "out_channels": unet["out_channels"],
        "model_channels": widths[0],
        "channel_mult": [width // widths[0] for width in widths],
        "num_head_channels": widths[0] // (heads if isinstance(heads, int) else heads[0]),
        "context_dim": unet["cross_attention_dim"],
    }
    autoencoder = params["first_stage_config"]["params"]
    autoencoder["embed_dim"] = vae["latent_channels"]
    autoencoder["ddconfig"] |= {
        "z_channels": vae["latent_channels"],
        "in_channels": vae["in_channels"],
        "out_ch": vae["out_channels"],
        "ch": vae_widths[0],
        "ch_mult": [width // vae_widths[0] for width in vae_widths],
    }
    if noise["prediction_type"] == "v_prediction":
        params["parameterization"] = "v"
    return config


def write_single_file(pipe: StableDiffusionPipeline, path: Path, metadata: dict[str, str]) -> Path:
    """Write ``path`` and the yaml beside it; what is half written has another name."""
    import yaml
    from safetensors.torch import save_file

    config = yaml.safe_dump(original_config(pipe), sort_keys=False).encode()
    beside = path.with_suffix(".yaml")
    if not (beside.is_file() and beside.read_bytes() == config):  # one who was killed wrote it
        refuse_taken(beside)
    with written_whole(path) as part:
        save_file(original_weights(pipe), part, metadata={"format": "pt", **metadata})
        write_file(beside, config)  # without it the weights are taken for those of SD 1
    return path
