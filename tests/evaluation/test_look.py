"""The scorer says whether pictures show what was asked, and the alternative text says so."""

from __future__ import annotations

import pytest

from s2i_lib.drawing.told import Seen, alt_text
from s2i_lib.evaluation.look import Asked, look
from s2i_lib.models.encoders import load_clip
from s2i_lib.models.registry import REGISTRY
from s2i_lib.speech.templates import article_for
from s2i_lib.storage.layout import Drive
from tests.renders import NOUNS, SHOWN, renders


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("a red car on a yellow background", Asked("car", "red", "yellow")),
        ("an ice cream", Asked("ice cream")),
        ("a big blue teddy bear on an orange background", Asked("teddy bear", "blue", "orange")),
        ("a ohwx dog on a green background", Asked("dog", "", "green")),
        ("an orange", Asked("orange")),
        ("an orange ohwx dog", Asked("dog", "orange")),
        ("happiness", None),
        ("a cat at the beach at night", Asked("cat", place="beach")),
        ("a robot in the night sky", Asked("robot", place="night sky")),
        ("on the moon a small astronaut", Asked("astronaut", place="moon")),
        ("a moon in the sky", Asked("moon", place="clouds")),
        ("a dog wearing a hat", Asked("dog", worn="hat")),
        (
            "a white dog with a red party hat in town",
            Asked("dog", "white", "", "city", "party hat"),
        ),
        ("a ohwx dog in sunglasses on a red background", Asked("dog", "", "red", "", "sunglasses")),
        ("an owl wearing an orange top hat", Asked("owl", worn="hat")),
        ("a princess holding a balloon", Asked("princess", worn="balloon")),
        ("a cat with a dog in the jungle", Asked("cat")),
        ("a crown on a beach", None),
    ],
)
def test_what_can_be_looked_for_is_read_from_the_prompt(prompt, asked):
    assert Asked.read(prompt) == asked


def test_what_was_read_is_said_in_the_first_of_its_ways():
    for said, again in (
        ("an orange cat", "an orange cat"),
        ("scissors on a gray background", "scissors on a gray background"),
        ("big cat with a cap in the ocean at night", "a cat wearing a cap in the sea"),
        ("a blue dog in a cape under the stars", "a blue dog wearing a cape in the night sky"),
    ):
        assert str(Asked.read(said)) == again
        assert Asked.read(again) == Asked.read(said)


@pytest.mark.slow
def test_the_scorer_agrees_with_what_is_there_and_not_with_what_is_not(tmp_path):
    """Renders: asked for as they are, and as the thing twenty places further on."""
    scorer = load_clip(str(REGISTRY["pocket"].scorer), Drive(tmp_path))
    right = wrong = 0
    picked = range(0, len(NOUNS), 10)
    tiles = renders()
    for i in picked:
        for noun, is_there in ((NOUNS[i], True), (NOUNS[(i + 20) % len(NOUNS)], False)):
            seen = look(scorer, tiles[i], {"prompt": f"{article_for(noun)} {noun}"})
            assert seen is not None
            right += is_there and seen.agrees
            wrong += not is_there and seen.agrees
    assert right >= 0.85 * len(picked) and wrong <= 0.1 * len(picked)
    read = []
    scorer.network.get_text_features = lambda **_: read.append(_)
    assert look(scorer, tiles[0], {"prompt": f"{article_for(NOUNS[0])} {NOUNS[0]}"}) is not None
    assert read == [], "texts are read once, whatever the number of pictures"
    assert look(scorer, tiles[0], {"prompt": "happiness"}) is None


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "field"), [("place", "place"), ("accessory", "worn")])
def test_the_scorer_tells_places_and_things_worn_from_others(kind, field, tmp_path):
    """Renders: asked for as they are, and with another place, or another thing worn."""
    scorer = load_clip(str(REGISTRY["pocket"].scorer), Drive(tmp_path))
    shown = [(tile, one) for tile, one in zip(renders(), SHOWN, strict=True) if one[kind]][:40]
    names = sorted({one[kind] for _, one in shown})
    right = wrong = 0
    for tile, one in shown:
        other = names[(names.index(one[kind]) + 1) % len(names)]
        for name in (one[kind], other):
            asked = Asked(one["noun"], **{field: name})
            seen = look(scorer, tile, {"prompt": str(asked)})
            assert seen is not None
            right += name == one[kind] and seen.agrees
            wrong += name != one[kind] and seen.agrees
    assert right >= 0.8 * len(shown) and wrong <= 0.1 * len(shown)


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
