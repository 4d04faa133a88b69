"""Train the pocket scorer: a CLIP-style dual encoder that tells nouns and colours apart.

The vision tower is a small MobileNetV1, the text tower a small CLIPTextModel; together they are
transformers' own `VisionTextDualEncoderModel`. A vision transformer of the same cost reached 29 %
where this reaches more than 95 %.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTokenizer,
    MobileNetV1Config,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
)

from tools.pocket import world
from tools.pocket.tokenizer import MAX_LENGTH, aside_words
from tools.pocket.training import as_tensor, cosine, load_state, save_state, work_folder

STEPS, BATCH, PEAK_LR = 600, 128, 2e-3
TEXT_WIDTH, FEATURES = 192, 128
SCALE_LIMIT = 40.0  # of the logits: a cosine of 0.1 decides by 4 nats


def make_model(tokenizer: CLIPTokenizer) -> VisionTextDualEncoderModel:
    torch.manual_seed(0)
    vision = MobileNetV1Config(
        image_size=world.SIZE_PX,
        depth_multiplier=0.5,
        tf_padding=False,
        hidden_size=512,  # of the pooled features: the dual encoder asks for it under this name
        hidden_act="relu",
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=6,
        max_position_embeddings=MAX_LENGTH,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        vision, text, projection_dim=FEATURES
    )
    return VisionTextDualEncoderModel(config)


def draw_batch(rng: np.random.Generator, size: int, aside: list[str]) -> tuple:
    """Return loosely drawn scenes, blurred or noisy now and then, their captions and scenes."""
    scenes, pictures, captions = [], [], []
    for _ in range(size):
        scene = world.random_scene(rng, variety=1.2)
        picture = Image.fromarray(world.paint(rng, scene, loose=rng.random() < 0.7))
        if rng.random() < 0.3:
            picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
        pixels = np.asarray(picture, np.float32)
        if rng.random() < 0.3:
            pixels = pixels + rng.normal(0, rng.uniform(2, 10), pixels.shape)
        scenes.append(scene)
        pictures.append(pixels.clip(0, 255).astype(np.uint8))
        captions.append(world.words(rng, scene, aside))
    return as_tensor(np.stack(pictures)), captions, scenes


class Features:
    """Both halves of the scorer, as unit vectors."""

    def __init__(self, model: VisionTextDualEncoderModel, tokenizer: CLIPTokenizer):
        self.model, self.tokenizer = model, tokenizer

    def of_texts(self, texts: list[str]) -> torch.Tensor:
        ids = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").input_ids
        pooled = self.model.text_model(input_ids=ids).pooler_output
        return F.normalize(self.model.text_projection(pooled), dim=-1)

    def of_pictures(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=-1)


def loss_of(
    features: Features, pixels: torch.Tensor, captions: list[str], scenes: list, rng
) -> tuple:
    """Return the contrastive loss plus, for sharper verdicts, those of naming noun and colours."""
    model = features.model
    seen = features.of_pictures(pixels)
    scale = model.logit_scale.exp().clamp(max=SCALE_LIMIT)
    nouns = torch.tensor([world.NOUNS.index(s.noun) for s in scenes])
    wanted = F.cross_entropy(
        scale * seen @ features.of_texts([world.with_article(n) for n in world.NOUNS]).T, nouns
    )
    # The right caption among the batch's; others of the same noun may fit too: left out.
    likeness = scale * seen @ features.of_texts(captions).T
    same = (nouns[:, None] == nouns[None]) & ~torch.eye(len(nouns), dtype=torch.bool)
    likeness = likeness.masked_fill(same, -1e4)
    target = torch.arange(len(scenes))
    pairs = (F.cross_entropy(likeness, target) + F.cross_entropy(likeness.T, target)) / 2
    # The right colour (of the background or of the object) among ten, for a part of the batch.
    some = rng.choice(len(scenes), 10, replace=False)
    asked, right = [], []
    for i in some:
        scene = scenes[i]
        painted = scene.painted and rng.random() < 0.7
        right.append(world.COLOUR_NAMES.index(scene.painted if painted else scene.colour))
        for colour in world.COLOURS:
            text = world.with_article(f"{colour} {scene.noun}")
            asked.append(text if painted else world.on_background(scene.noun, colour))
    choices = features.of_texts(asked).reshape(len(some), len(world.COLOURS), -1)
    colours = scale * torch.einsum("if,icf->ic", seen[torch.tensor(some)], choices)
    colour_loss = F.cross_entropy(colours, torch.tensor(right))
    return wanted + pairs + colour_loss, (wanted, pairs, colour_loss)


@torch.no_grad()
def report(features: Features, per_noun: int = 5) -> dict[str, float]:
    """Return accuracies on fresh renders, held-out pairs included."""
    rng = np.random.default_rng(99)
    scenes, pictures = [], []
    for noun in world.NOUNS:
        for _ in range(per_noun):
            colour = world.COLOUR_NAMES[rng.integers(10)]
            scenes.append(world.random_scene(rng, noun, colour, variety=0.0))
            pictures.append(world.paint(rng, scenes[-1]))
    features.model.eval()
    seen = features.of_pictures(as_tensor(np.stack(pictures)))
    named = seen @ features.of_texts([world.with_article(n) for n in world.NOUNS]).T
    nouns = torch.tensor([world.NOUNS.index(s.noun) for s in scenes])
    top5 = (named.topk(5).indices == nouns[:, None]).any(1)
    asked = [world.on_background(s.noun, c) for s in scenes for c in world.COLOURS]
    choices = features.of_texts(asked).reshape(len(scenes), len(world.COLOURS), -1)
    colours = torch.tensor([world.COLOUR_NAMES.index(s.colour) for s in scenes])
    coloured = torch.einsum("if,icf->ic", seen, choices).argmax(1)
    features.model.train()
    return {
        "noun top-1": float((named.argmax(1) == nouns).float().mean()),
        "noun top-5": float(top5.float().mean()),
        "background": float((coloured == colours).float().mean()),
    }


def save(features: Features) -> None:
    folder = work_folder() / "scorer"
    features.model.save_pretrained(folder)
    processor = CLIPImageProcessor(
        size={"shortest_edge": world.SIZE_PX},
        crop_size={"height": world.SIZE_PX, "width": world.SIZE_PX},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    VisionTextDualEncoderProcessor(processor, features.tokenizer).save_pretrained(folder)


def train(steps: int) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(work_folder() / "tokenizer")
    model = make_model(tokenizer).train()
    features, aside = Features(model, tokenizer), aside_words()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.98), fused=True)
    state_file, begin = work_folder() / "scorer_state.pt", 0
    if state := load_state(state_file):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        begin = state["step"]
    began, parts = time.time(), []
    for step in range(begin, steps):
        rng = np.random.default_rng([step, 3])
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * cosine(step, steps)
        loss, each = loss_of(features, *draw_batch(rng, BATCH, aside), rng)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        parts.append([float(x.detach()) for x in each])
        done = step + 1
        if done % 50 == 0:
            means = " ".join(f"{x:.3f}" for x in np.mean(parts[-50:], 0))
            rate = (done - begin) * BATCH / (time.time() - began)
            print(f"step {done}/{steps} noun, pair, colour {means} {rate:.0f}/s", flush=True)
        if done % 250 == 0 or done == steps:
            print("  ", {k: round(v, 3) for k, v in report(features).items()}, flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
            save_state(state, state_file)
    save(features)


if __name__ == "__main__":
    train(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
