"""Train the pocket scorer: a CLIP-style dual encoder that tells nouns and colours apart.

The vision tower is the stem of a LeViT (four strided convolutions, one attention layer), the text
tower a small CLIPTextModel; together they are transformers' own `VisionTextDualEncoderModel`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTokenizer,
    LevitConfig,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
)

from tools.pocket import data, world
from tools.pocket.tokenizer import MAX_LENGTH
from tools.pocket.training import as_tensor, cosine, load_state, save_state, work_folder

STEPS, BATCH, PEAK_LR = 900, 128, 1.5e-3
TEXT_WIDTH, FEATURES = 192, 128
SHARDS = (100, 101)  # beyond data.FIRST_SHARDS: both appearances alike
SCALE_LIMIT = 40.0  # of the logits: a cosine of 0.1 decides by 4 nats


def make_model(tokenizer: CLIPTokenizer) -> VisionTextDualEncoderModel:
    torch.manual_seed(0)
    vision = LevitConfig(
        image_size=world.SIZE_PX,
        hidden_sizes=(256, 384, 384),
        num_attention_heads=(8, 8, 8),
        depths=(0,),  # convolutions, then one attention layer that shrinks 4 x 4 to 2 x 2
        key_dim=(16, 16, 16),
        hidden_size=384,  # of the pooled features: the dual encoder asks for it under this name
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
    model = VisionTextDualEncoderModel(config)
    torch.nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=0.3)
    return model


@torch.no_grad()
def spread_features(model: VisionTextDualEncoderModel, pixels: torch.Tensor) -> None:
    """Set the vision projection so that pictures start out in different directions.

    Averages after a ReLU are positive, so an untrained projection sends every picture the same way,
    and nouns stayed at chance for 200 steps. Here it whitens the leading components and is blind
    to the mean.
    """
    pooled = model.vision_model(pixel_values=pixels).pooler_output
    centred = pooled - pooled.mean(0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    kept = directions[:FEATURES] / sizes[:FEATURES, None].clamp(min=1e-3 * float(sizes[0]))
    along = pooled.mean(0) / pooled.mean(0).norm()
    model.visual_projection.weight.copy_(kept - (kept @ along)[:, None] * along)


class Renders:
    """Shards of scenes with both appearances alike, moved about as they are taken."""

    def __init__(self, shards: Iterable[int]):
        loaded = [data.shard(number) for number in shards]
        self.pictures = np.concatenate([pictures for pictures, _ in loaded])
        self.records = [record for _, records in loaded for record in records]

    def batch(self, rng: np.random.Generator, size: int) -> tuple[torch.Tensor, list[dict]]:
        """Return pictures in [-1, 1], jittered, and what they show."""
        chosen = rng.choice(len(self.records), size)
        return jitter(rng, as_tensor(self.pictures[chosen])), [self.records[i] for i in chosen]


def jitter(rng: np.random.Generator, pixels: torch.Tensor) -> torch.Tensor:
    """Mirror, turn, scale and shift each picture a little; blur or add noise now and then.

    So that a verdict does not depend on where exactly things are, or on how cleanly drawn.
    """
    n = len(pixels)
    angle, scale = rng.uniform(-0.2, 0.2, n), rng.uniform(0.88, 1.12, n)
    mirror = rng.choice([-1.0, 1.0], n)
    shift = rng.uniform(-0.12, 0.12, (n, 2))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    rows = np.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1)
    turn = torch.tensor(rows.reshape(n, 2, 3), dtype=torch.float32)
    grid = F.affine_grid(turn, list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    blurred = F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, 1)
    soft = torch.tensor(rng.uniform(0, 1, n) * (rng.random(n) < 0.4), dtype=torch.float32)
    moved = torch.lerp(moved, blurred, soft[:, None, None, None])
    grain = torch.tensor(rng.uniform(0, 0.08, n) * (rng.random(n) < 0.3), dtype=torch.float32)
    noise = torch.tensor(rng.standard_normal(moved.shape, dtype=np.float32))
    return moved + grain[:, None, None, None] * noise


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
    features: Features,
    guide: torch.nn.Module,
    pixels: torch.Tensor,
    scenes: list[dict],
    rng: np.random.Generator,
) -> tuple:
    """Return the contrastive loss plus, for sharper verdicts, those of naming noun and colours."""
    model = features.model
    with torch.autocast("cpu", torch.bfloat16):
        pooled = model.vision_model(pixel_values=pixels).pooler_output.float()
    seen = F.normalize(model.visual_projection(pooled), dim=-1)
    scale = model.logit_scale.exp().clamp(max=SCALE_LIMIT)
    nouns = torch.tensor([world.NOUNS.index(s["noun"]) for s in scenes])
    # A plain classifier teaches the vision tower shapes; without it each tower waits for the other
    # to tell nouns apart, and only colours are learned.
    texts = features.of_texts([world.with_article(n) for n in world.NOUNS])
    led = F.cross_entropy(guide(pooled), nouns)
    wanted = F.cross_entropy(scale * seen @ texts.T, nouns)
    # The right caption among the batch's; others of the same noun may fit too: left out.
    likeness = scale * seen @ features.of_texts([s["caption"] for s in scenes]).T
    same = (nouns[:, None] == nouns[None]) & ~torch.eye(len(nouns), dtype=torch.bool)
    likeness = likeness.masked_fill(same, -1e4)
    target = torch.arange(len(scenes))
    pairs = (F.cross_entropy(likeness, target) + F.cross_entropy(likeness.T, target)) / 2
    # The right colour (of the background or of the object) among ten, for a part of the batch.
    some = rng.choice(len(scenes), 10, replace=False)
    asked, right = [], []
    for i in some:
        scene = scenes[i]
        painted = scene["painted"] and rng.random() < 0.7
        right.append(world.COLOUR_NAMES.index(scene["painted"] if painted else scene["colour"]))
        for colour in world.COLOURS:
            text = world.with_article(f"{colour} {scene['noun']}")
            asked.append(text if painted else world.on_background(scene["noun"], colour))
    choices = features.of_texts(asked).reshape(len(some), len(world.COLOURS), -1)
    colours = scale * torch.einsum("if,icf->ic", seen[torch.tensor(some)], choices)
    colour_loss = F.cross_entropy(colours, torch.tensor(right))
    return led + wanted + pairs + colour_loss, (led, wanted, pairs, colour_loss)


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
    features, renders = Features(model, tokenizer), Renders(SHARDS)
    width = model.config.vision_config.hidden_size
    guide = torch.nn.Sequential(
        torch.nn.BatchNorm1d(width), torch.nn.Linear(width, len(world.NOUNS))
    )
    trained = [*model.parameters(), *guide.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=PEAK_LR, betas=(0.9, 0.98), fused=True)
    state_file, begin = work_folder() / "scorer_state.pt", 0
    if state := load_state(state_file):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        guide.load_state_dict(state["guide"])
        begin = state["step"]
    else:
        spread_features(model, renders.batch(np.random.default_rng(1), 256)[0])
    began, parts = time.time(), []
    for step in range(begin, steps):
        rng = np.random.default_rng([step, 3])
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * cosine(step, steps)
        loss, each = loss_of(features, guide, *renders.batch(rng, BATCH), rng)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        parts.append([float(x.detach()) for x in each])
        done = step + 1
        if done % 25 == 0:
            means = " ".join(f"{x:.3f}" for x in np.mean(parts[-25:], 0))
            rate = (done - begin) * BATCH / (time.time() - began)
            print(f"step {done}/{steps} led, noun, pair, colour {means} {rate:.0f}/s", flush=True)
        if done % 100 == 0 or done == steps:
            print("  ", {k: round(v, 3) for k, v in report(features).items()}, flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
            state["guide"] = guide.state_dict()
            save_state(state, state_file)
    save(features)


if __name__ == "__main__":
    train(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
