"""A latent diffusion model of the real classes, so small that a step takes milliseconds.

It has the pocket model's tokenizer and its own odd shapes, so that nothing can depend on either's.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from s2i_lib.models.loading import Model
from s2i_lib.models.registry import PACKAGE, REGISTRY
from s2i_lib.photos.subject import Subject


@dataclass(frozen=True)
class DrawnDataset:
    """Stands where a subject's dataset does: images, card and hash."""

    images: tuple[Path, ...]
    subject: Subject
    sha256: str = "drawn"
    mirror: bool = False
    lost_masks: str = ""

    def mask_of(self, image):
        """None: its drawings are learnt whole."""


def make_pipeline(
    seed: int = 0,
    prediction_type: str = "v_prediction",
    widths: tuple[int, ...] = (8, 16),
    is_like_pocket: bool = False,
):
    """A StableDiffusionPipeline with random weights, 16 px pictures, 8 px latents.

    It has shapes of its own, or those by which the library knows a model of the pocket model's
    kind.
    """
    import torch
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    ours = json.loads((PACKAGE / "pocket" / "unet" / "config.json").read_text())
    channels, text_width = 3, 12
    if is_like_pocket:
        channels, text_width = ours["in_channels"], ours["cross_attention_dim"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = CLIPTokenizer.from_pretrained(PACKAGE / "pocket" / "tokenizer")
        text = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=text_width,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=widths,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=2,
            cross_attention_dim=text_width,
        )
        vae = AutoencoderKL(
            sample_size=16,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            latent_channels=channels,
            mid_block_add_attention=False,
            scaling_factor=0.7,
        )
        return StableDiffusionPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(text),
            tokenizer=tokenizer,
            unet=unet,
            scheduler=DDIMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                prediction_type=prediction_type,
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def as_model(pipe) -> Model:
    """A pipeline as the library has it when it was loaded."""
    base = replace(
        REGISTRY["pocket"],
        name="tiny",
        size_px=pipe.unet.config.sample_size * pipe.vae_scale_factor,
        prediction_type=pipe.scheduler.config.prediction_type,
        token_limit=pipe.tokenizer.model_max_length,
    )
    return Model(base, pipe, "tiny")


def draw_dataset(folder: Path, count: int = 3) -> DrawnDataset:
    """Square drawings of a purple cat with white stripes on grounds of several colours."""
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True, exist_ok=True)
    grounds = ["white", (120, 200, 120), (250, 170, 80), (150, 150, 150), (250, 230, 90)]
    paths = []
    for i in range(count):
        image = Image.new("RGB", (256, 256), grounds[i % len(grounds)])
        pen, shift, purple = ImageDraw.Draw(image), i * 13 % 30, (140, 60, 210)
        pen.ellipse((60 + shift, 70, 190 + shift, 210), fill=purple)
        pen.polygon([(70 + shift, 100), (80 + shift, 30), (120 + shift, 80)], fill=purple)
        pen.polygon([(180 + shift, 100), (170 + shift, 30), (130 + shift, 80)], fill=purple)
        for x in range(75, 190, 30):
            pen.line((x + shift, 100, x - 15 + shift, 200), fill="white", width=8)
        paths.append(folder / f"{i:02}.png")
        image.save(paths[-1])
    return DrawnDataset(tuple(paths), Subject("Violet", "cat", "sks", "animal"))
