"""The shipped pocket model: its vocabulary, its size, and that it loads like any other."""

import itertools
import json

import numpy as np
import pytest
import torch

from s2i_lib.models.registry import PACKAGE, REGISTRY
from s2i_lib.photos.subject import RARE_TOKENS

FOLDER = PACKAGE / "pocket"
WORDS = json.loads((FOLDER / "words.json").read_text())


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")


@pytest.fixture(scope="module")
def embeddings():
    from transformers import CLIPTextModel

    encoder = CLIPTextModel.from_pretrained(FOLDER / "text_encoder")
    return encoder.get_input_embeddings().weight.detach()


def phrases_in(value):
    """Every text in words.json, keys included."""
    if isinstance(value, str):
        return [value]
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    return [text for one in inside if not isinstance(one, int) for text in phrases_in(one)]


def test_every_known_word_is_one_token(tokenizer):
    said = {w for kind in WORDS.values() for phrase in phrases_in(kind) for w in phrase.split()}
    assert {"cat", "beach", "wearing", "headphones", "ohwx"} <= said
    assert not {w for w in said if len(tokenizer(w).input_ids) != 3}


def test_it_knows_what_people_say_first():
    assert len(WORDS["nouns"]) >= 200
    assert len(WORDS["places"]) >= 20 and all(WORDS["places"].values())
    assert len(WORDS["accessories"]) >= 10 and all(WORDS["accessories"].values())
    assert set(WORDS["plurals"]) == set(WORDS["nouns"])


def test_unknown_words_are_spelled_not_lost(tokenizer):
    for word in ("glockenspiel", "xylophonist", "señorita", "quokka", "42"):
        ids = tokenizer(word).input_ids[1:-1]
        assert tokenizer.decode(ids).replace(" ", "") == word
        assert tokenizer.unk_token_id not in ids


def test_capitals_do_not_matter(tokenizer):
    assert tokenizer("A RED Car").input_ids == tokenizer("a red car").input_ids


def test_the_prompt_limit_holds_a_long_sentence(tokenizer):
    long = (
        "a photograph of three little spotted purple teddy bears wearing green birthday hats "
        "in the living room at night please"
    )
    assert len(tokenizer(long).input_ids) <= tokenizer.model_max_length == 32


def test_identifiers_are_whole_tokens_with_vectors_of_their_own(tokenizer, embeddings):
    """New rows that were filled with one mean would make every subject the same to it."""

    def vector(word):
        _, token, _ = tokenizer(word).input_ids
        return embeddings[token]

    identifiers = WORDS["identifiers"]
    assert {*RARE_TOKENS, "sks"} <= set(identifiers)
    own = {word: torch.nn.functional.normalize(vector(word), dim=0) for word in identifiers}
    for one, other in itertools.combinations(identifiers, 2):
        assert own[one] @ own[other] < 0.8, (one, other)
    nouns = torch.stack([vector(n) for n in WORDS["nouns"] if " " not in n])
    usual = nouns.norm(dim=1).median()
    assert all(vector(word).norm() > 0.1 * usual for word in identifiers)
    nouns = torch.nn.functional.normalize(nouns, dim=1)
    assert max(float((nouns @ unit).max()) for unit in own.values()) < 0.8


def test_it_draws_128_px_from_latents_of_8_by_8():
    """So that a step costs what it cost at 64 px."""
    unet, vae = (json.loads((FOLDER / p / "config.json").read_text()) for p in ("unet", "vae"))
    assert unet["in_channels"] == unet["out_channels"] == vae["latent_channels"] == 48
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    assert (unet["sample_size"], factor) == (8, 16)
    assert unet["sample_size"] * factor == REGISTRY["pocket"].size_px == 128


@pytest.mark.slow
def test_the_unet_has_17_to_30_million_parameters():
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(FOLDER / "unet")
    assert 17e6 <= sum(p.numel() for p in unet.parameters()) <= 30e6


def test_it_is_small_and_holds_no_pickle():
    files = [f for f in FOLDER.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 100e6
    assert {f.suffix for f in files} <= {".json", ".safetensors", ".txt", ".md"}


@pytest.mark.slow
def test_a_plain_load_draws(request):
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        FOLDER, safety_checker=None, requires_safety_checker=False
    )
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    picture = pipeline(
        "a red car on a blue background", num_inference_steps=8, generator=generator
    ).images[0]
    border = np.concatenate(
        [np.asarray(picture)[:3].reshape(-1, 3), np.asarray(picture)[-3:].reshape(-1, 3)]
    )
    nearest = min(
        WORDS["colours"],
        key=lambda c: float(np.square(np.median(border, 0) - WORDS["colours"][c]).sum()),
    )
    assert picture.size == (128, 128)
    assert nearest == "blue"
