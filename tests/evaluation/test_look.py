"""The scorer says whether pictures show what was asked, and the alternative text says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from s2i_lib.drawing.told import Seen, alt_text
from s2i_lib.evaluation.look import Asked, look
from s2i_lib.models.encoders import load_clip
from s2i_lib.models.registry import REGISTRY
from s2i_lib.speech.templates import article_for
from s2i_lib.storage.layout import Drive

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("a red car on a yellow background", Asked("car", "red", "yellow")),
        ("an ice cream", Asked("ice cream")),
        ("a big blue teddy bear on an orange background", Asked("teddy bear", "blue", "orange")),
        ("a ohwx dog on a green background", Asked("dog", "", "green")),
        ("happiness", None),
    ],
)
def test_what_can_be_looked_for_is_read_from_the_prompt(prompt, asked):
    assert Asked.read(prompt) == asked


@pytest.mark.slow
def test_the_scorer_agrees_with_what_is_there_and_not_with_what_is_not(tmp_path):
    """One render of every noun: asked for as it is, and as the thing twenty places further on."""
    nouns = json.loads((DATA / "pocket_renders.json").read_text())
    scorer = load_clip(str(REGISTRY["pocket"].scorer), Drive(tmp_path))
    with Image.open(DATA / "pocket_renders.png") as sheet:
        sheet = sheet.convert("RGB")
    right = wrong = 0
    picked = range(0, 100, 5)
    for i in picked:
        x, y = 64 * (i % 10), 64 * (i // 10)
        tile = sheet.crop((x, y, x + 64, y + 64))
        for noun, is_there in ((nouns[i], True), (nouns[(i + 20) % 100], False)):
            seen = look(scorer, tile, {"prompt": f"{article_for(noun)} {noun}"})
            assert seen is not None
            right += is_there and seen.agrees
            wrong += not is_there and seen.agrees
    assert right >= 0.85 * len(picked) and wrong <= 0.1 * len(picked)
    assert look(scorer, tile, {"prompt": "happiness"}) is None


def test_alt_texts_begin_with_what_is_seen_and_say_that_a_machine_drew_it():
    record = {"prompt": "a ohwx dog on a beach", "subjects": [
        {"name": "Rex", "class_noun": "dog", "identifier": "ohwx", "kind": "animal"}
    ]}  # fmt: skip
    assert alt_text(record) == (
        "Rex, a dog, on a beach. Drawn by a machine that was asked for this; "
        "nobody has checked the picture."
    )
    seen = Seen(False, "a truck")
    assert alt_text({"prompt": "a red car"}, seen) == (
        "Perhaps a truck. Drawn by a machine that was asked for a red car; "
        "the scorer does not agree."
    )
    agreed = {"prompt": "a red car", "seen": {"agrees": True, "words": "a red car"}}
    assert alt_text(agreed).endswith("the scorer agrees.")


def test_alt_texts_are_in_the_language_that_was_spoken_in_the_speakers_words():
    said = {"text": " Ein rotes Auto.", "language": "de", "english": "A red car."}
    record = {"prompt": "a red car", "transcript": said}
    assert alt_text(record).startswith("Ein rotes Auto. Von einer Maschine gezeichnet")
    assert alt_text(record, language="fr").startswith("A red car. Dessiné par une machine")
    assert alt_text(record | {"transcript": said | {"language": "ja"}}).startswith("A red car. Dra")
