"""Train the pocket scorer: a CLIP-style dual encoder of nouns, places, things worn and colours.

It also learns to tell individuals of one noun apart (`individuals.py`): that is what likeness asks.

The vision tower is the stem of a LeViT (four strided convolutions, one attention layer), the text
tower a small CLIPTextModel; together they are transformers' own `VisionTextDualEncoderModel`.
"""

from __future__ import annotations

import argparse
import time

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

from tools.pocket_world import data, individuals, words, world
from tools.pocket_world.judge import SHARDS, Renders, _scene, truths
from tools.pocket_world.tokenizer import MAX_LENGTH
from tools.pocket_world.training import as_tensor, cosine, load_state, save_state, work_folder

STEPS, BATCH, PEAK_LR = 2000, 96, 1.5e-3
TEXT_WIDTH, FEATURES = 192, 128
SCALE_LIMIT = 40.0  # of the logits: a cosine of 0.1 decides by 4 nats
LED = ("noun", "place", "accessory")  # what a plain classifier teaches the vision tower
QUESTIONS = 16  # scenes of a batch that a question with all its answers is asked about
SHARPNESS = 10.0  # of the choice among individuals: a cosine of 0.1 decides by one nat


def make_model(tokenizer: CLIPTokenizer) -> VisionTextDualEncoderModel:
    """Return the dual encoder with random weights."""
    torch.manual_seed(0)
    vision = LevitConfig(
        image_size=world.SIZE_PX,
        hidden_sizes=(256, 384, 384),
        num_attention_heads=(8, 8, 8),
        depths=(0,),  # convolutions, then one attention layer that shrinks 8 x 8 to 4 x 4
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
    made = torch.zeros_like(model.visual_projection.weight)
    made[: len(kept)] = kept - (kept @ along)[:, None] * along
    model.visual_projection.weight.copy_(made)


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


def question(scene: world.Scene, kind: str) -> tuple[list[str], int] | None:
    """Return all answers to a question about a scene and the right one's number, or None."""
    noun = scene.noun
    if kind == "place" and scene.place:
        texts = [words.at_place(noun, p) for p in words.PLACE_NAMES]
        return texts, words.PLACE_NAMES.index(scene.place)
    if kind == "ground" and not scene.place:
        texts = [words.on_background(noun, c) for c in words.COLOURS]
        return texts, words.COLOUR_NAMES.index(scene.colour)
    if kind == "accessory" and scene.accessory:
        texts = [words.wearing(noun, a) for a in words.ACCESSORY_NAMES]
        return texts, words.ACCESSORY_NAMES.index(scene.accessory)
    if kind == "colour" and scene.painted:
        texts = [words.with_article(f"{c} {noun}") for c in words.COLOURS]
        return texts, words.COLOUR_NAMES.index(scene.painted)
    return None


KINDS = ("place", "ground", "accessory", "colour")


def loss_of(
    features: Features,
    guides: torch.nn.ModuleDict,
    pixels: torch.Tensor,
    records: list[dict],
    rng: np.random.Generator,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the contrastive loss plus, for sharper verdicts, those of naming what is there."""
    model = features.model
    with torch.autocast("cpu", torch.bfloat16):
        pooled = model.vision_model(pixel_values=pixels).pooler_output.float()
    seen = F.normalize(model.visual_projection(pooled), dim=-1)
    scale = model.logit_scale.exp().clamp(max=SCALE_LIMIT)
    right = truths(records)
    nouns = right["noun"]
    # A plain classifier teaches the vision tower shapes; without it each tower waits for the other
    # to tell nouns apart, and only colours are learned.
    led = sum((F.cross_entropy(guides[k](pooled), right[k]) for k in LED), torch.zeros(()))
    texts = features.of_texts([words.with_article(n) for n in words.NOUNS])
    wanted = F.cross_entropy(scale * seen @ texts.T, nouns)
    # The right caption among the batch's; others of the same noun may fit too: left out.
    likeness = scale * seen @ features.of_texts([r["caption"] for r in records]).T
    same = (nouns[:, None] == nouns[None]) & ~torch.eye(len(nouns), dtype=torch.bool)
    likeness = likeness.masked_fill(same, -1e4)
    target = torch.arange(len(records))
    pairs = (F.cross_entropy(likeness, target) + F.cross_entropy(likeness.T, target)) / 2
    asked = []
    for i in rng.permutation(len(records)):
        found = question(_scene(records[i]), str(rng.choice(KINDS)))
        if found:
            asked.append((i, *found))
        if len(asked) == QUESTIONS:
            break
    vectors = features.of_texts([t for _, options, _ in asked for t in options])
    parts, at = [], 0
    for i, options, answer in asked:
        logits = scale * vectors[at : at + len(options)] @ seen[i]
        parts.append(F.cross_entropy(logits[None], torch.tensor([answer])))
        at += len(options)
    answers = torch.stack(parts).mean()
    return led + wanted + pairs + answers, [led, wanted, pairs, answers]


def who_loss(features: Features, views: torch.Tensor) -> torch.Tensor:
    """Return the loss of finding each individual's other view among those of all the others.

    ``views``, shape = (2, n, 3, side, side), are two of each (NT-Xent, Chen et al. 2020).
    """
    with torch.autocast("cpu", torch.bfloat16):
        pooled = features.model.vision_model(pixel_values=views.flatten(0, 1)).pooler_output.float()
    seen = F.normalize(features.model.visual_projection(pooled), dim=-1)
    count = len(seen)
    logits = SHARPNESS * seen @ seen.T - 1e4 * torch.eye(count)
    return F.cross_entropy(logits, (torch.arange(count) + count // 2) % count)


def draw_individuals(rng: np.random.Generator, nouns: int = individuals.NOUNS) -> torch.Tensor:
    """Return two views each of some individuals, in [-1, 1]: shape = (2, n, 3, side, side)."""
    return torch.stack([as_tensor(some) for some in individuals.pairs(rng, nouns)])


@torch.no_grad()
def tell_apart(features: Features, nouns: int = 40) -> float:
    """Return how often an individual's other view is the nearest, among three of each noun."""
    views = draw_individuals(np.random.default_rng(9), nouns)
    one, other = (torch.cat([features.of_pictures(v) for v in some.split(30)]) for some in views)
    return float(((one @ other.T).argmax(1) == torch.arange(len(one))).float().mean())


@torch.no_grad()
def report(features: Features) -> dict[str, float]:
    """Return accuracies on renders that nothing was trained on."""
    pictures, records = data.shard(data.HELD_BACK)
    features.model.eval()
    seen = torch.cat(
        [
            features.of_pictures(as_tensor(np.array(pictures[i : i + 100])))
            for i in range(0, len(records), 100)
        ]
    )
    named = seen @ features.of_texts([words.with_article(n) for n in words.NOUNS]).T
    nouns = torch.tensor([words.NOUNS.index(r["noun"]) for r in records])
    plain = torch.tensor([r["plain"] for r in records])
    table = {
        "noun top-1": float((named.argmax(1) == nouns)[plain].float().mean()),
        "noun top-5": float((named.topk(5).indices == nouns[:, None]).any(1)[plain].float().mean()),
    }
    for kind in KINDS:
        right = []
        for i in range(len(records)):
            found = question(_scene(records[i]), kind)
            if found and len(right) < 150:
                right.append(int((features.of_texts(found[0]) @ seen[i]).argmax()) == found[1])
        table[kind] = float(np.mean(right))
    table["individual"] = tell_apart(features)
    features.model.train()
    return table


def save(features: Features) -> None:
    """Write the scorer and its processor as an ordinary model folder."""
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
    """Train the scorer from where it was stopped, `steps` in all."""
    tokenizer = CLIPTokenizer.from_pretrained(work_folder() / "tokenizer")
    model = make_model(tokenizer).train()
    features, renders = Features(model, tokenizer), Renders(SHARDS)
    width = model.config.vision_config.hidden_size
    sizes = {
        "noun": len(words.NOUNS),
        "place": len(words.PLACES) + 1,
        "accessory": len(words.ACCESSORIES) + 1,
    }
    guides = torch.nn.ModuleDict(
        {
            k: torch.nn.Sequential(torch.nn.BatchNorm1d(width), torch.nn.Linear(width, n))
            for k, n in sizes.items()
        }
    )
    trained = [*model.parameters(), *guides.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=PEAK_LR, betas=(0.9, 0.98), fused=True)
    state_file, begin = work_folder() / "scorer_state.pt", 0
    if state := load_state(state_file):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        guides.load_state_dict(state["guides"])
        begin = state["step"]
    else:
        spread_features(model, renders.batch(np.random.default_rng(1), 256)[0])
    began, parts = time.time(), []
    for step in range(begin, steps):
        rng = np.random.default_rng([step, 3])
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * cosine(step, steps)
        loss, each = loss_of(features, guides, *renders.batch(rng, BATCH), rng)
        who = who_loss(features, draw_individuals(rng))
        loss, each = loss + who, [*each, who]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        parts.append([float(x.detach()) for x in each])
        done = step + 1
        if done % 25 == 0:
            means = " ".join(f"{x:.3f}" for x in np.mean(parts[-25:], 0))
            rate = (done - begin) * BATCH / (time.time() - began)
            print(
                f"step {done}/{steps} led, noun, pair, asked, who {means} {rate:.0f}/s", flush=True
            )
        if done % 100 == 0 or done == steps:
            print("  ", {k: round(v, 3) for k, v in report(features).items()}, flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
            state["guides"] = guides.state_dict()
            save_state(state, state_file)
    save(features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", type=int, nargs="?", default=STEPS)
    o = parser.parse_args()
    torch.set_num_threads(1)
    train(o.steps)


if __name__ == "__main__":
    main()
