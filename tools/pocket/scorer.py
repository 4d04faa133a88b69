"""Train the pocket scorer: a CLIP-style dual encoder of nouns, places, things worn and colours.

It also learns to tell individuals of one noun apart (`individuals.py`): that is what likeness asks.

The vision tower is the stem of a LeViT (four strided convolutions, one attention layer), the text
tower a small CLIPTextModel; together they are transformers' own `VisionTextDualEncoderModel`.
"""

from __future__ import annotations

import time
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTokenizer,
    LevitConfig,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
)

from tools.pocket import data, individuals, words, world
from tools.pocket.judge import ANSWERS, Renders, _scene, resized, truths
from tools.pocket.tokenizer import MAX_LENGTH
from tools.pocket.training import (
    as_tensor,
    cosine,
    load_state,
    save_state,
    steps_asked,
    work_folder,
)

LED_STEPS, STEPS, BATCH, PEAK_LR = 6000, 5000, 96, 1.5e-3
TEXT_WIDTH, FEATURES = 192, 128
SEEN_PX = 96  # side of the pictures that it sees; at 64 it missed one in six of the things worn
WORN = 0.3  # of a batch, beside what chance brings
INDIVIDUALS_EVERY = 2  # steps: they take longer to draw than all else of a step
SCALE_LIMIT = 40.0  # of the logits: a cosine of 0.1 decides by 4 nats
LED = ("noun", "place", "accessory", "colour")  # what a classifier teaches the vision tower
QUESTIONS = 8  # scenes of a batch that a question of each kind is asked about, with all its answers
SHARPNESS = 10.0  # of the choice among individuals: a cosine of 0.1 decides by one nat


def make_model(tokenizer: CLIPTokenizer) -> VisionTextDualEncoderModel:
    """Return the dual encoder with random weights."""
    torch.manual_seed(0)
    vision = LevitConfig(
        image_size=SEEN_PX,
        hidden_sizes=(256, 384, 384),
        num_attention_heads=(8, 8, 8),
        depths=(0,),  # convolutions, then one attention layer that shrinks 6 x 6 to 3 x 3
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


def guided(
    guides: torch.nn.ModuleDict, pooled: torch.Tensor, right: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Return the loss of a plain classifier, by which the vision tower learns shapes.

    Without it each tower waits for the other to tell nouns apart, and only colours are learned; and
    with text from the beginning it takes three times as long (step 2,000: one noun in five).
    """
    return sum((F.cross_entropy(guides[k](pooled), right[k]) for k in LED), torch.zeros(()))


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
    nouns = torch.tensor([words.NOUNS.index(record["noun"]) for record in records])
    led = guided(guides, pooled, right)
    texts = features.of_texts([words.with_article(n) for n in words.NOUNS])
    wanted = F.cross_entropy(scale * seen @ texts.T, right["noun"])
    # The right caption among the batch's; others of the same noun may fit too: left out.
    likeness = scale * seen @ features.of_texts([r["caption"] for r in records]).T
    same = (nouns[:, None] == nouns[None]) & ~torch.eye(len(nouns), dtype=torch.bool)
    likeness = likeness.masked_fill(same, -1e4)
    target = torch.arange(len(records))
    pairs = (F.cross_entropy(likeness, target) + F.cross_entropy(likeness.T, target)) / 2
    asked = []
    for kind in KINDS:  # of each as many: in one scene of six something is worn
        found = ((i, question(_scene(records[i]), kind)) for i in rng.permutation(len(records)))
        asked += islice(((i, *one) for i, one in found if one), QUESTIONS)
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
    return torch.stack(
        [resized(as_tensor(some), SEEN_PX) for some in individuals.pairs(rng, nouns)]
    )


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
            features.of_pictures(resized(as_tensor(np.array(pictures[i : i + 100])), SEEN_PX))
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
        size={"shortest_edge": SEEN_PX},
        crop_size={"height": SEEN_PX, "width": SEEN_PX},
        resample=Image.Resampling.BOX,  # as `resized` does
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    VisionTextDualEncoderProcessor(processor, features.tokenizer).save_pretrained(folder)


@torch.no_grad()
def named_by(guides: torch.nn.ModuleDict, features: Features) -> float:
    """Return how often the classifier names a fresh render of one thing."""
    pictures, records = data.shard(data.HELD_BACK)
    plain = [i for i, record in enumerate(records) if record["plain"]]
    features.model.eval(), guides.eval()
    right = []
    for some in np.array_split(plain, 5):
        pixels = resized(as_tensor(np.array(pictures[some])), SEEN_PX)
        pooled = features.model.vision_model(pixel_values=pixels).pooler_output
        nouns = torch.tensor([words.NOUNS.index(records[i]["noun"]) for i in some])
        right.append(guides["noun"](pooled).argmax(1) == nouns)
    features.model.train(), guides.train()
    return float(torch.cat(right).float().mean())


def train(steps: int) -> None:
    """Train the vision tower alone, then both, from where it was stopped; `steps` of both."""
    tokenizer = CLIPTokenizer.from_pretrained(work_folder() / "tokenizer")
    model = make_model(tokenizer).train()
    features, renders = Features(model, tokenizer), Renders(data.LEARNED, SEEN_PX)
    width = model.config.vision_config.hidden_size
    guides = torch.nn.ModuleDict(
        {
            k: torch.nn.Sequential(
                torch.nn.BatchNorm1d(width), torch.nn.Linear(width, len(ANSWERS[k]))
            )
            for k in LED
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
    began, parts = time.time(), []
    for step in range(begin, LED_STEPS + steps):
        rng = np.random.default_rng([step, 3])
        at, total = (step, LED_STEPS) if step < LED_STEPS else (step - LED_STEPS, steps)
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * cosine(at, total)
        pixels, records, _ = renders.batch(rng, BATCH, WORN)
        if step < LED_STEPS:
            with torch.autocast("cpu", torch.bfloat16):
                pooled = model.vision_model(pixel_values=pixels).pooler_output.float()
            loss = guided(guides, pooled, truths(records))
            each = [loss]
        else:
            if step == LED_STEPS:
                spread_features(model, renders.batch(np.random.default_rng(1), 256)[0])
            loss, each = loss_of(features, guides, pixels, records, rng)
            who = torch.zeros(())
            if step % INDIVIDUALS_EVERY == 0:
                who = INDIVIDUALS_EVERY * who_loss(features, draw_individuals(rng))
            loss, each = loss + who, [*each, who]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        parts.append([float(x.detach()) for x in each])
        done = step + 1
        if done == LED_STEPS:
            parts.clear()
        elif done % 50 == 0:
            means = " ".join(f"{x:.3f}" for x in np.mean(parts[-50:], 0))
            rate = (done - begin) * BATCH / (time.time() - began)
            print(f"step {done} led, noun, pair, asked, who {means} {rate:.0f}/s", flush=True)
        if done % 250 == 0:
            is_led = done <= LED_STEPS
            said = {"noun": named_by(guides, features)} if is_led else report(features)
            print("  ", {k: round(v, 3) for k, v in said.items()}, flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
            state["guides"] = guides.state_dict()
            save_state(state, state_file)
    save(features)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(steps_asked(__doc__, STEPS))
