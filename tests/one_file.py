"""A pipeline's weights under the names of the original Stable Diffusion code, as in one file."""

import re

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def original_names(pipeline) -> dict:
    """Every tensor of unet, vae and text encoder by its original name (SD 1's for the text)."""
    unet, vae = pipeline.unet, pipeline.vae
    tensors = {
        f"model.diffusion_model.{unet_name(name, unet.config)}": weight
        for name, weight in unet.state_dict().items()
    }
    for name, weight in vae.state_dict().items():
        tensors[f"first_stage_model.{vae_name(name, len(vae.config.block_out_channels))}"] = weight
    for name, weight in pipeline.text_encoder.state_dict().items():
        name = name.removeprefix("text_model.")
        tensors[f"cond_stage_model.transformer.text_model.{name}"] = weight
    return {name: weight.contiguous().clone() for name, weight in tensors.items()}


def unet_name(name: str, config) -> str:
    each = config.layers_per_block + 1  # resnets of an up block; of a down block with its sampler
    for ours, theirs in ENDS.items():
        if name.startswith(ours + "."):
            return inner(theirs + name[len(ours) :])
    side, block, kind, number, rest = re.match(
        r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name
    ).groups()
    block, number = int(block), int(number)
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * each}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        place = 2 if "CrossAttn" in config.up_block_types[block] else 1
        return f"output_blocks.{block * each + each - 1}.{place}.{rest}"
    at = block * each + number + (side == "down")
    group = "input" if side == "down" else "output"
    return inner(f"{group}_blocks.{at}.{int(kind == 'attentions')}.{rest}")


def inner(name: str) -> str:
    if "transformer_blocks" in name:
        return name
    for ours, theirs in RESNET.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name


def vae_name(name: str, blocks: int) -> str:
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(
        r"up_blocks\.(\d+)\.(resnets|upsamplers\.0)",
        lambda m: f"up.{blocks - 1 - int(m[1])}.{'block' if m[2] == 'resnets' else 'upsample'}",
        name,
    )
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
