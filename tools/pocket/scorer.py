"""Train the pocket scorer: a CLIP-style dual encoder of nouns, places, things worn and colours.

It also learns to tell individuals of one noun apart (`individuals.py`): that is what likeness asks.

The vision tower is the stem of a LeViT (four strided convolutions, one attention layer), the text
tower a small CLIPTextModel; together they are transformers' own `VisionTextDualEncoderModel`.
"""

from __future__ import annotations

import argparse
import functools
import time
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
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
    work_folder,
)

LED_STEPS, STEPS, BATCH, PEAK_LR = 6000, 5000, 160, 1.5e-3
TEXT_WIDTH, FEATURES = 192, 128
SEEN_PX = 96  # side of the pictures that it sees; at 64 it missed one in six of the things worn
WORN = 0.4  # of a batch, beside what chance brings
INDIVIDUALS_EVERY = 4  # steps: they take as long to draw as pictures are learned from
SCALE_LIMIT = 40.0  # of the logits: a cosine of 0.1 decides by 4 nats
LED = ("noun", "place", "accessory", "colour")  # what a classifier teaches the vision tower
QUESTIONS = (
    12  # scenes of a batch that a question of each kind is asked about, with all its answers
)
REPORT_EVERY = 250  # steps
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
        self.ids = functools.cache(lambda text: tokenizer(text, truncation=True).input_ids)

    @property
    def device(self) -> torch.device:
        return self.model.visual_projection.weight.device

    def of_texts(self, texts: list[str]) -> torch.Tensor:
        ids = self.tokenizer.pad({"input_ids": [self.ids(t) for t in texts]}, return_tensors="pt")
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.model.training):
            pooled = self.model.text_model(input_ids=ids.input_ids.to(self.device)).pooler_output
        return F.normalize(self.model.text_projection(pooled.float()), dim=-1)

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
    asked = (F.cross_entropy(guides[k](pooled), right[k].to(pooled.device)) for k in LED)
    return sum(asked, torch.zeros((), device=pooled.device))


def loss_of(
    features: Features,
    guides: torch.nn.ModuleDict,
    pixels: torch.Tensor,
    records: list[dict],
    rng: np.random.Generator,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the contrastive loss plus, for sharper verdicts, those of naming what is there."""
    model, device = features.model, features.device
    with torch.autocast(device.type, torch.bfloat16):
        pooled = model.vision_model(pixel_values=pixels).pooler_output.float()
    seen = F.normalize(model.visual_projection(pooled), dim=-1)
    scale = model.logit_scale.exp().clamp(max=SCALE_LIMIT)
    right = truths(records)
    nouns = torch.tensor([words.NOUNS.index(r["noun"]) for r in records], device=device)
    led = guided(guides, pooled, right)
    texts = features.of_texts([words.with_article(n) for n in words.NOUNS])
    wanted = F.cross_entropy(scale * seen @ texts.T, right["noun"].to(device))
    # The right caption among the batch's; others of the same noun may fit too: left out.
    likeness = scale * seen @ features.of_texts([r["caption"] for r in records]).T
    same = (nouns[:, None] == nouns[None]).fill_diagonal_(False)
    likeness = likeness.masked_fill(same, -1e4)
    target = torch.arange(len(records), device=device)
    pairs = (F.cross_entropy(likeness, target) + F.cross_entropy(likeness.T, target)) / 2
    asked = []
    for kind in KINDS:  # of each as many: in one scene of six something is worn
        found = ((i, question(_scene(records[i]), kind)) for i in rng.permutation(len(records)))
        asked += islice(((i, *one) for i, one in found if one), QUESTIONS)
    vectors = features.of_texts([t for _, options, _ in asked for t in options])
    parts, at = [], 0
    for i, options, answer in asked:
        logits = scale * vectors[at : at + len(options)] @ seen[i]
        parts.append(F.cross_entropy(logits[None], torch.tensor([answer], device=device)))
        at += len(options)
    answers = torch.stack(parts).mean()
    return led + wanted + pairs + answers, [led, wanted, pairs, answers]


def who_loss(features: Features, views: torch.Tensor) -> torch.Tensor:
    """Return the loss of finding each individual's other view among those of all the others.

    ``views``, shape = (2, n, 3, side, side), are two of each (NT-Xent, Chen et al. 2020).
    """
    with torch.autocast(views.device.type, torch.bfloat16):
        pooled = features.model.vision_model(pixel_values=views.flatten(0, 1)).pooler_output.float()
    seen = F.normalize(features.model.visual_projection(pooled), dim=-1)
    count = len(seen)
    logits = SHARPNESS * seen @ seen.T - 1e4 * torch.eye(count, device=views.device)
    return F.cross_entropy(logits, (torch.arange(count, device=views.device) + count // 2) % count)


class Individuals(Dataset):
    """Two views each of some individuals for every step that has some: uint8 pictures."""

    def __init__(self, begin: int, end: int):
        self.steps = range(begin, end + 1, INDIVIDUALS_EVERY)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, i: int) -> np.ndarray:
        return individuals.pairs(np.random.default_rng([self.steps[i], 4]))


def views_of(pairs: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return individuals as the scorer sees them, in [-1, 1]: shape = (2, n, 3, side, side)."""
    return torch.stack([resized(as_tensor(some, device), SEEN_PX) for some in pairs])


@functools.cache
def strangers(nouns: int = 40) -> np.ndarray:
    """Return two views each of individuals that nothing is trained on, three of each noun."""
    return individuals.pairs(np.random.default_rng(9), nouns)


@torch.no_grad()
def tell_apart(features: Features) -> float:
    """Return how often an individual's other view is the nearest, among three of each noun."""
    views = views_of(strangers(), features.device)
    one, other = (torch.cat([features.of_pictures(v) for v in some.split(30)]) for some in views)
    return float(((one @ other.T).argmax(1).cpu() == torch.arange(len(one))).float().mean())


@torch.no_grad()
def report(features: Features) -> dict[str, float]:
    """Return accuracies on renders that nothing was trained on."""
    pictures, records = data.shard(data.HELD_BACK)
    features.model.eval()
    seen = torch.cat(
        [
            features.of_pictures(
                resized(as_tensor(np.array(pictures[i : i + 100]), features.device), SEEN_PX)
            )
            for i in range(0, len(records), 100)
        ]
    )
    named = (seen @ features.of_texts([words.with_article(n) for n in words.NOUNS]).T).cpu()
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
        pixels = resized(as_tensor(np.array(pictures[some]), features.device), SEEN_PX)
        pooled = features.model.vision_model(pixel_values=pixels).pooler_output
        nouns = torch.tensor([words.NOUNS.index(records[i]["noun"]) for i in some])
        right.append(guides["noun"](pooled).argmax(1).cpu() == nouns)
    features.model.train(), guides.train()
    return float(torch.cat(right).float().mean())


def train(o: argparse.Namespace) -> None:
    """Train the vision tower alone, then both, from where it was stopped; on a GPU if there is."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = CLIPTokenizer.from_pretrained(work_folder() / "tokenizer")
    model = make_model(tokenizer).train().to(device)
    features, renders = Features(model, tokenizer), Renders(data.LEARNED, SEEN_PX)
    width = model.config.vision_config.hidden_size
    guides = torch.nn.ModuleDict(
        {
            k: torch.nn.Sequential(
                torch.nn.BatchNorm1d(width), torch.nn.Linear(width, len(ANSWERS[k]))
            )
            for k in LED
        }
    ).to(device)
    trained = [*model.parameters(), *guides.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=PEAK_LR, betas=(0.9, 0.98), fused=True)
    state_file, begin = work_folder() / "scorer_state.pt", 0
    if state := load_state(state_file):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        guides.load_state_dict(state["guides"])
        begin = state["step"]
    end = o.led + o.steps
    who = iter(
        DataLoader(
            Individuals(max(begin, o.led), end),
            batch_size=None, collate_fn=np.asarray, num_workers=o.painters,
        )
    )  # fmt: skip
    began, parts, made, step, has_texts = time.time(), [], 0, begin, begin > o.led
    while step < end:
        rng = np.random.default_rng([step, 3])
        at, total = (step, o.led) if step < o.led else (step - o.led, o.steps)
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * cosine(at, total)
        pixels, records, _ = renders.batch(rng, o.batch, WORN, device)
        if step < o.led:
            with torch.autocast(device.type, torch.bfloat16):
                pooled = model.vision_model(pixel_values=pixels).pooler_output.float()
            loss = guided(guides, pooled, truths(records))
            each = [loss]
        else:
            if not has_texts:
                some = renders.batch(np.random.default_rng(1), 256, device=device)[0]
                spread_features(model, some)
                parts.clear()
                has_texts = True
            loss, each = loss_of(features, guides, pixels, records, rng)
            told = torch.zeros((), device=device)
            if made % INDIVIDUALS_EVERY == 0:
                views = views_of(np.asarray(next(who)), device)
                told = INDIVIDUALS_EVERY * who_loss(features, views)
            loss, each = loss + told, [*each, told]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        parts.append([float(x.detach()) for x in each])
        made += 1
        seconds = time.time() - began
        step = max(step + 1, int(end * seconds / (60 * o.minutes)))  # some are skipped, if late
        if made % 50 == 0:
            means = " ".join(f"{x:.3f}" for x in np.mean(parts[-50:], 0))
            rate = made * o.batch / seconds
            print(f"step {step} led, noun, pair, asked, who {means} {rate:.0f}/s", flush=True)
        if made % REPORT_EVERY == 0 or step >= end:
            said = report(features) if has_texts else {"noun": named_by(guides, features)}
            print("  ", {k: round(v, 3) for k, v in said.items()}, flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            state["guides"] = guides.state_dict()
            save_state(state, state_file)
    save(features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", type=int, nargs="?", default=STEPS, help="with texts")
    parser.add_argument("--led", type=int, default=LED_STEPS, help="steps before, without texts")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--minutes", type=float, default=1e6, help="in which it is to be finished")
    parser.add_argument("--painters", type=int, default=0, help="processes, for the individuals")
    train(parser.parse_args())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
