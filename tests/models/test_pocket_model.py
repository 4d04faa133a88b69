"""The shipped pocket model: its vocabulary, its size, and that it loads like any other."""

import itertools
import json

import numpy as np
import pytest
import torch

from s2i_lib.models.registry import PACKAGE

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


def test_every_known_word_is_one_token(tokenizer):
    said = [w for kind in WORDS.values() for w in kind] + list(WORDS["plurals"].values())
    broken = {w for phrase in said for w in phrase.split() if len(tokenizer(w).input_ids) != 3}
    assert not broken


def test_unknown_words_are_spelled_not_lost(tokenizer):
    for word in ("glockenspiel", "xylophonist", "señorita", "quokka", "42"):
        ids = tokenizer(word).input_ids[1:-1]
        assert tokenizer.decode(ids).replace(" ", "") == word
        assert tokenizer.unk_token_id not in ids


def test_capitals_do_not_matter(tokenizer):
    assert tokenizer("A RED Car").input_ids == tokenizer("a red car").input_ids


def test_the_prompt_limit_holds_a_long_sentence(tokenizer):
    long = "a photograph of three little purple teddy bears with a yellow background please"
    assert len(tokenizer(long).input_ids) <= tokenizer.model_max_length == 32


def test_identifiers_differ_from_each_other_and_from_every_noun(tokenizer, embeddings):
    def vector(word):
        return torch.nn.functional.normalize(embeddings[tokenizer(word).input_ids[1]], dim=0)

    for one, other in itertools.combinations(WORDS["identifiers"], 2):
        assert vector(one) @ vector(other) < 0.8
    nouns = torch.stack([vector(n) for n in WORDS["nouns"] if " " not in n])
    assert max(float((nouns @ vector(i)).max()) for i in WORDS["identifiers"]) < 0.8


def test_it_is_small_and_holds_no_pickle():
    files = [f for f in FOLDER.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 60e6
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
        "a red car on a blue background", num_inference_steps=20, generator=generator
    ).images[0]
    border = np.concatenate(
        [np.asarray(picture)[:3].reshape(-1, 3), np.asarray(picture)[-3:].reshape(-1, 3)]
    )
    nearest = min(
        WORDS["colours"],
        key=lambda c: float(np.square(np.median(border, 0) - WORDS["colours"][c]).sum()),
    )
    assert picture.size == (64, 64)
    assert nearest == "blue"
